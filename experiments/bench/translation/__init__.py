"""Benches of key-frame translation."""
