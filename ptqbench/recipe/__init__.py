"""Recipes: from a TOML file to the cells of an experiment. Nothing here imports torch."""
