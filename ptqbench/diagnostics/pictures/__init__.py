"""The findings as pictures, one file a topic."""
