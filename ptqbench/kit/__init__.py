"""Plugins as files: a template for each role, which are plugins themselves, and what makes yours of them."""
