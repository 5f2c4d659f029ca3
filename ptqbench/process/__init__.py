"""State of the process that is nobody's own and that numbers may depend on: reading it, and putting it back."""
