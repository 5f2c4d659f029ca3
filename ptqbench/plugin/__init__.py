"""The plugin contract: records, hooks, finding, isolating and checking plugins."""
