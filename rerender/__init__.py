"""Rerender: text-guided, temporally coherent video translation with image diffusion models.

The method of "Rerender A Video: Zero-Shot Text-Guided Video-to-Video Translation"
(arXiv 2306.07954) as a declarative experiment pipeline.
"""

import os

# Threads that wait by spinning without end slow each other down tenfold on a busy machine, and
# those that sleep at once halve the speed of a quiet one: spin for a moment, then sleep. OpenMP
# reads this when torch is imported, so it is set here, where every entry point passes first.
os.environ.setdefault("GOMP_SPINCOUNT", "5000")

__version__ = "0.1.0"
