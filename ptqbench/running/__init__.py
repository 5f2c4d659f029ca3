"""A comparison from start to record: tasks, processes, cells, forecasts."""
