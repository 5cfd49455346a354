"""A small world with known truth, and the small model trained on it."""
