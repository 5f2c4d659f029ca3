"""The one place where the core calls plugins: whose code runs, what it may do meanwhile, and what it may return."""
