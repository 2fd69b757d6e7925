"""Whether samples are copies of training slices: nearest slices, what held-out patients score, a verdict."""
