"""Benches of the stage store."""
