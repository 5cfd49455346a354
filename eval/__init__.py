"""Measures finished videos, ours or anybody's; knows nothing of how they were made."""
