"""Findings: claims of a paper beside what kept results say about them, as one generated page."""
