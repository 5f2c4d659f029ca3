"""Noise by id, trajectories and calibration sets of full precision, images."""
