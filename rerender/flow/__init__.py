"""Optical flow: the field itself and the estimators that can be chosen."""
