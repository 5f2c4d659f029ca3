"""What every stage is handed: cache, context, schedule, counts, and what fixes arithmetic."""
