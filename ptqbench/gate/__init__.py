"""The regression gate: a run against a baseline that is kept in the repository."""
