"""A unit's life: capture, problem, loss, fit; and the quantized cell, phase by phase."""
