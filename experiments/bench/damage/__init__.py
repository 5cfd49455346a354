"""Damaged files, given to the commands that read them."""
