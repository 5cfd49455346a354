"""What patches are compared by: guides packed to 16 bytes a pixel, with their weights inside.

A patch distance is then a plain sum of squared differences of bytes. Channels: 3 style, 3 colour, 3
edge, 2 position, and 5 that are zero, so that a pixel fills one vector register. The temporal
guide has no channels of its own: style and temporal guide compare the *same* source picture, with
the present estimate and with the frame before; two quadratics of one variable are one quadratic
about their weighted mean, up to a constant that no search can see.

Style, temporal and position guide all come from flow, directly or through the frame before. Where
flow has failed they speak for the failure, so there patches are compared by the others alone.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from rerender.compiled import reassociated
from rerender.propagation.motion.pixels import Pixels
from rerender.propagation.patches.simd import BARE, CHANNELS

Packed = NDArray[np.uint8]
"""``[H+4,W+4,16]``: guides with a border of two repeated pixels, so that patches never leave it."""


class GuidedPicture(NamedTuple):
    """The guides of a frame.

    Attributes:
        packed: all of them.
        bare: ``[H+4,W+4,8]`` colour and edge alone, which do not come from flow.
    """

    packed: Packed
    bare: Packed


LAPLACIAN = np.array([[0, 1, 0], [1, -4, 1], [0, 1, 0]], np.float32)


@dataclass(frozen=True)
class Guides:
    """Weights of the guides, as in Jamriška et al. 2019 and the paper's section 4.2.

    A weight is shared by the channels of its guide.

    Attributes:
        style: of the translated frame itself as it is so far.
        colour: of the source frames' colours.
        edge: of the Laplacian of the source frames.
        temporal: of the frame propagated just before.
        position: of where flow says that the pixel came from, in 1/255 of the sides.
    """

    style: Annotated[float, Field(ge=0)] = 1.0
    colour: Annotated[float, Field(gt=0)] = 6.0
    edge: Annotated[float, Field(ge=0)] = 0.5
    temporal: Annotated[float, Field(ge=0)] = 0.5
    position: Annotated[float, Field(ge=0)] = 2.0

    @property
    def unit(self) -> float:
        """What one squared step of a packed byte stands for, in weighted squared levels."""
        return float(self.weights().max())

    def weights(self) -> NDArray[np.float64]:
        """The weight of one channel of style, colour, edge and position."""
        three = [(self.style + self.temporal) / 3, self.colour / 3, self.edge / 3]
        return np.array([*three, self.position / 2])

    def scales(self) -> NDArray[np.float32]:
        """Factors from levels to packed bytes: style, colour, edge, position."""
        return np.sqrt(self.weights() / self.unit).astype(np.float32)

    def pack(self, style: Pixels, colour: Pixels, edge: Pixels, offset: Offsets) -> GuidedPicture:
        """The guides of a frame whose pixels come from where ``offset [H,W,2]`` points."""
        height, width, _ = style.shape
        packed = np.empty((height + 4, width + 4, CHANNELS), np.uint8)
        bare = np.empty((height + 4, width + 4, BARE), np.uint8)
        fill(style, colour, edge, offset, self.scales(), packed, bare)
        for axis in (0, 1):
            for guides in (packed, bare):
                lines = guides.swapaxes(0, axis)
                lines[:2], lines[-2:] = lines[2], lines[-3]
        return GuidedPicture(packed, bare)

    def towards(self, estimate: Pixels, before: Pixels) -> Pixels:
        """The one picture that style and temporal guide together pull to."""
        if not self.style:
            return before
        share = self.temporal / (self.style + self.temporal)
        both: Pixels = cv2.addWeighted(estimate, 1 - share, before, share, 0)
        return both


Offsets = NDArray[np.float32]


def edges(colour: Pixels) -> Pixels:
    """The Laplacian of each 8-bit channel; negative answers are cut off, as the original does."""
    whole = np.rint(colour).astype(np.uint8)
    found: Pixels = cv2.filter2D(whole, -1, LAPLACIAN).astype(np.float32)
    return found


@reassociated
def fill(
    style: Pixels,
    colour: Pixels,
    edge: Pixels,
    offset: Offsets,
    scales: NDArray[np.float32],
    packed: Packed,
    bare: Packed,
) -> None:
    """Write the weighted guides into the inner parts of ``packed`` and ``bare``, rounded."""
    height, width, _ = style.shape
    half = np.float32(0.5)
    top = np.float32(255)
    across = np.float32(255) / max(width - 1, 1)
    down = np.float32(255) / max(height - 1, 1)
    for y in range(height):
        for x in range(width):
            for c in range(CHANNELS):
                packed[y + 2, x + 2, c] = 0
            bare[y + 2, x + 2, 6] = bare[y + 2, x + 2, 7] = 0
            for c in range(3):
                value = min(max(style[y, x, c], np.float32(0)), top)
                packed[y + 2, x + 2, c] = np.uint8(value * scales[0] + half)
                shade = np.uint8(colour[y, x, c] * scales[1] + half)
                packed[y + 2, x + 2, 3 + c] = bare[y + 2, x + 2, c] = shade
                line = np.uint8(edge[y, x, c] * scales[2] + half)
                packed[y + 2, x + 2, 6 + c] = bare[y + 2, x + 2, 3 + c] = line
            u = min(max((x + offset[y, x, 0]) * across, np.float32(0)), top)
            v = min(max((y + offset[y, x, 1]) * down, np.float32(0)), top)
            packed[y + 2, x + 2, 9] = np.uint8(u * scales[3] + half)
            packed[y + 2, x + 2, 10] = np.uint8(v * scales[3] + half)
