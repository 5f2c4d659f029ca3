"""Studies of the statistics themselves, on a simulated comparison whose truth is known."""
