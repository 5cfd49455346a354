"""Motion from patches where flow has failed: so that warping alone does not tear in blocks.

Things that come into the picture between two key frames, or move further than flow can follow, are
where the pieces of a torn flow are seen. There, and only there, patches of every second pixel are
looked for in the key frame by the colours and edges of the source, as `search` does for hard ones.
What they find is smoothed by a median, refined, and believed where it explains the source clearly
better.
"""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

from rerender.propagation.blending.blend import Guess
from rerender.propagation.motion.pixels import Pixels
from rerender.propagation.motion.variational import Refiner
from rerender.propagation.patches import kernels
from rerender.propagation.patches.cubic import paired, warped
from rerender.propagation.patches.guides import Guides, Packed, edges
from rerender.propagation.patches.search import STRIDE, Search, blank, passes

Offsets = NDArray[np.float32]

FEW = 0.001
"""Share of a frame in which flow may fail without anything being looked for."""

BETTER = 0.5
"""Largest share of the error of flow that motion from patches may leave where it is believed."""

MEDIAN = 5
"""Patches along the side of the window of the median."""


class PatchFlow:
    """Warps one key frame, by patches where flow fails.

    Args:
        style, source: the translated and the source key frame, ``[H,W,3]`` in levels.
        failed: error of the source in levels from which on flow has failed.
    """

    def __init__(self, style: Pixels, source: Pixels, failed: float) -> None:
        self._both, self._source = paired(style, source), source
        self._guides, self._search = Guides(), Search(hard=failed**2)
        self._bare: Packed | None = None
        self._refiner = Refiner(*source.shape[:2])

    def warped(self, offset: Offsets, target: Pixels, frame: int) -> Guess:
        """The key frame as it would look in a frame.

        Args:
            offset: ``[H,W,2]`` from the frame to the key frame.
            target: the source frame.
            frame: its number, the seed of the search.
        """
        plain = warped(self._both, offset, target)
        failed = plain.error > self._search.hard
        if failed.mean() <= FEW:
            return plain
        found = self._refiner.refine(self._source, target, self._found(offset, target, frame))
        other = warped(self._both, found, target)
        better = failed & (other.error < BETTER * plain.error)
        if not better.any():
            return plain
        return warped(self._both, np.where(better[..., None], found, offset), target)

    def _found(self, offset: Offsets, target: Pixels, frame: int) -> Offsets:
        """Motion of patches where they explain more than those that flow points to, else flow."""
        height, width, _ = offset.shape
        if self._bare is None:
            self._bare = self._packed(self._source)
        flat = self._bare.reshape(-1), self._packed(target).reshape(-1)
        matches, costs = blank(-(-height // STRIDE), -(-width // STRIDE))
        _, hard, _ = self._search.rounds(self._guides, width, frame, parallel=False)
        kernels.start(offset, STRIDE, matches)
        kernels.weigh(*flat, hard.plan, matches, costs)
        before = costs.copy()
        passes(flat, hard, matches, costs, parallel=False)
        cheaper = costs < before
        y, x = np.mgrid[:height:STRIDE, :width:STRIDE]
        moved = (matches - np.stack([x, y], -1)).astype(np.float32)
        coarse = np.where(cheaper[..., None], moved, offset[::STRIDE, ::STRIDE])
        planes = [cv2.medianBlur(np.ascontiguousarray(coarse[..., c]), MEDIAN) for c in (0, 1)]
        field = cv2.resize(np.dstack(planes), (width, height))
        near = cv2.resize(cheaper.astype(np.float32), (width, height)) > 0
        return np.where(near[..., None], field, offset)

    def _packed(self, image: Pixels) -> Packed:
        still = np.zeros((*image.shape[:2], 2), np.float32)
        return self._guides.pack(image, image, edges(image), still).bare
