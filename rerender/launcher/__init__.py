"""Engines that do the jobs of a sweep side by side."""
