"""What parts of a comparison cost on this machine."""
