"""Temporal filters over finished frames."""
