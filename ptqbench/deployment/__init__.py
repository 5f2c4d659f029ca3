"""Quantized denoisers that leave: what exporters and engines are handed, and what is measured of those that run."""
