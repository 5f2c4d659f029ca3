"""Simulated quantization on ordinary torch modules: grids, layers, plans, the quantized copy of a denoiser."""
