"""Measuring a cell: what metrics get to see, distances between sets of features, intervals."""
