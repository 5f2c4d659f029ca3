"""The stages of a comparison: trajectories, calibration set, quantization of a cell, images, measurement."""
