"""Days without a centre, and then the catching up."""
