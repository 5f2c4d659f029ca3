"""A finished run as one HTML page, and its figures as files: all from `results.json`, nothing is computed anew."""
