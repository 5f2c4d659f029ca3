"""What the command line does, as functions; and quantizing a denoiser of one's own, which needs no recipe."""
