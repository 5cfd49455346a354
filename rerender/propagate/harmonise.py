"""Key frames that disagree in colour, brought together by a gain and an offset for each channel.

Brown and Lowe ("Automatic Panoramic Image Stitching using Invariant Features", 2007) find the gains
of overlapping photographs by least squares; here two key frames overlap where the source's motion
carries one onto the other.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from rerender.contracts import FlowEstimator
from rerender.video import Video

NOISE = 10 / 255  # error of a pixel, by which the least squares are weighed
GAIN, OFFSET = 0.1, 10 / 255  # how far gains may leave 1 and offsets 0: their standard deviations
SHARE = 0.02  # of the frame that two key frames must share

Moments = NDArray[np.float64]
"""``[3,5]``: for each channel the means of a, b, a a, a b and b b over the pixels that two pictures
share."""


@dataclass(frozen=True)
class Harmony:
    """What is done to each key frame.

    Attributes:
        gain: ``[N,3]``, by which channels are multiplied.
        offset: ``[N,3]``, which is added, of values 0..1.
    """

    gain: NDArray[np.float64]
    offset: NDArray[np.float64]

    def __call__(self, position: int, image: Tensor) -> Tensor:
        """Key frame number ``position``, ``[3,H,W]`` in 0..1, harmonised."""
        gain = torch.from_numpy(self.gain[position]).float().view(3, 1, 1)
        offset = torch.from_numpy(self.offset[position]).float().view(3, 1, 1)
        return (image * gain + offset).clamp(0, 1)


def harmony(
    indices: Sequence[int],
    picture: Callable[[int], Tensor],
    video: Video,
    flow: FlowEstimator,
    cuts: Sequence[int] = (),
) -> Harmony:
    """The gains g and offsets o that make key frames agree where they show the same.

    Least ``sum_ij sum_p ((g_i a_p + o_i - g_j b_p - o_j) / NOISE)^2 / P + ((g_i - 1) / GAIN)^2 +
    (o_i / OFFSET)^2`` over neighbours i, j that share P pixels p, in each channel. Key frames with
    a cut between them, or that share less than ``SHARE`` of the frame, do not count.

    Args:
        indices: their frames, increasing.
        picture: ``picture(position)``: a key frame ``[3,H,W]`` in 0..1; two are held at a time.
        video: the source at the size of the pictures.
        flow: estimates motion.
        cuts: frames that begin a new shot.
    """
    count = len(indices)
    system = np.zeros((3, 2 * count, 2 * count))
    wanted = np.zeros((3, 2 * count))
    for position in range(count):
        system[:, 2 * position, 2 * position] += GAIN**-2
        wanted[:, 2 * position] += GAIN**-2
        system[:, 2 * position + 1, 2 * position + 1] += OFFSET**-2
    for position, (one, other) in enumerate(pairwise(indices)):
        if any(one < cut <= other for cut in cuts):
            continue
        found = shared(picture(position), picture(position + 1), one, other, video, flow)
        if found is None:
            continue
        for channel, (a, b, aa, ab, bb) in enumerate(found):
            # Of the unknowns g_i, o_i, g_j, o_j: the mean of (a, 1, -b, -1) times itself.
            block = [[aa, a, -ab, -a], [a, 1, -b, -1], [-ab, -b, bb, b], [-a, -1, b, 1]]
            place = slice(2 * position, 2 * position + 4)
            system[channel, place, place] += np.array(block) / NOISE**2
    solved = np.linalg.solve(system, wanted[..., None])[..., 0].T.reshape(count, 2, 3)
    return Harmony(solved[:, 0].astype(np.float64), solved[:, 1].astype(np.float64))


def shared(
    first: Tensor, second: Tensor, one: int, other: int, video: Video, flow: FlowEstimator
) -> Moments | None:
    """What two key frames say of the pixels that they share; None where those are few."""
    motion = flow.between(video.frame(one), video.frame(other))
    seen = motion.occluded[0, 0] == 0
    if float(seen.float().mean()) < SHARE:
        return None
    moved = motion.warp(second, outside="border")
    a, b = first[:, seen].double(), moved[:, seen].double()
    means = [each.mean(1) for each in (a, b, a * a, a * b, b * b)]
    return np.asarray(torch.stack(means, 1).numpy())
