"""Benches of optical flow."""
