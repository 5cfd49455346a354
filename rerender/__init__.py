"""Rerender: text-guided, temporally coherent video translation with image diffusion models.

The method of "Rerender A Video: Zero-Shot Text-Guided Video-to-Video Translation"
(arXiv 2306.07954) as a declarative experiment pipeline.
"""

__version__ = "0.1.0"
