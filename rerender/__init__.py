"""Rerender: text-guided, temporally coherent video translation with image diffusion models.

The method of "Rerender A Video: Zero-Shot Text-Guided Video-to-Video Translation"
(arXiv 2306.07954) as a declarative experiment pipeline.
"""

import os

# Threads of a busy machine that wait by spinning slow each other down tenfold. OpenMP reads this
# when torch is imported, so it is set here, where every entry point passes first.
os.environ.setdefault("OMP_WAIT_POLICY", "passive")

__version__ = "0.1.0"
