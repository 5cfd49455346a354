"""Benches of propagation."""
