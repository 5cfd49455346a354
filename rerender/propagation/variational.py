"""Flow at full resolution: one linearised step of a variational estimator, from a good start.

Estimators stop at half or quarter resolution, where most of their cost would be. What is left
is less than a pixel, so one step is enough: brightness constancy of all three colours, smoothed
over a small window, with a smoothness term that yields at motion boundaries (Bruhn, Weickert and
Schnörr, "Lucas/Kanade meets Horn/Schunck", IJCV 2005).
"""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

from rerender.propagation.compiled import reassociated
from rerender.propagation.pixels import Pixels
from rerender.propagation.sample import sample

Field = NDArray[np.float32]

NOISE = np.float32(5.0)  # levels above which a difference counts less and less
STIFFNESS = np.float32(30.0)  # weight of smoothness against squared levels
EDGE = np.float32(0.01)  # squared pixels of flow difference below which smoothness is quadratic
SIGMA = 1.0  # of the window, in pixels
SWEEPS = 5  # of successive over-relaxation
RELAXATION = np.float32(1.5)


def refine(source: Pixels, target: Pixels, offset: Field) -> Field:
    """The offsets ``[H,W,2]`` from target to source after one step at full resolution."""
    moved = sample(source, offset, cv2.INTER_LINEAR)
    terms = np.empty((*offset.shape[:2], 5), np.float32)
    constancy(moved, target, terms)
    cv2.GaussianBlur(terms, (5, 5), SIGMA, dst=terms)
    ties = np.empty(offset.shape[:2], np.float32)
    smoothness(offset, ties)
    solved: Field = offset.copy()
    relax(terms, offset, ties, solved)
    return solved


@reassociated
def constancy(moved: Pixels, target: Pixels, terms: Field) -> None:
    """Products of gradients and differences (xx, xy, yy, xt, yt), summed over colours.

    Gradients are the mean of both images', which halves the error of the linearisation.
    """
    height, width, _ = moved.shape
    quarter = np.float32(0.25)
    for y in range(height):
        above, below = max(y - 1, 0), min(y + 1, height - 1)
        for x in range(width):
            before, after = max(x - 1, 0), min(x + 1, width - 1)
            xx = xy = yy = xt = yt = tt = np.float32(0)
            for c in range(3):
                gx = moved[y, after, c] - moved[y, before, c]
                gx = quarter * (gx + target[y, after, c] - target[y, before, c])
                gy = moved[below, x, c] - moved[above, x, c]
                gy = quarter * (gy + target[below, x, c] - target[above, x, c])
                t = moved[y, x, c] - target[y, x, c]
                xx += gx * gx
                xy += gx * gy
                yy += gy * gy
                xt += gx * t
                yt += gy * t
                tt += t * t
            trust = NOISE / np.sqrt(NOISE * NOISE + tt)
            terms[y, x, 0] = xx * trust
            terms[y, x, 1] = xy * trust
            terms[y, x, 2] = yy * trust
            terms[y, x, 3] = xt * trust
            terms[y, x, 4] = yt * trust


@reassociated
def smoothness(offset: Field, ties: Field) -> None:
    """How strongly each pixel is tied to the next one right and below: weakly where flow jumps."""
    height, width, _ = offset.shape
    for y in range(height):
        below = min(y + 1, height - 1)
        for x in range(width):
            after = min(x + 1, width - 1)
            jump = EDGE
            for c in range(2):
                right = offset[y, after, c] - offset[y, x, c]
                down = offset[below, x, c] - offset[y, x, c]
                jump += right * right + down * down
            ties[y, x] = STIFFNESS / np.sqrt(jump)


@reassociated
def relax(terms: Field, offset: Field, ties: Field, solved: Field) -> None:
    """Successive over-relaxation of ``J (s - o) + b = sum of ties (neighbours' s - s)``."""
    height, width, _ = offset.shape
    for _ in range(SWEEPS):
        for y in range(height):
            for x in range(width):
                tied = sum_u = sum_v = np.float32(0)
                if x > 0:
                    tie = ties[y, x - 1]
                    tied += tie
                    sum_u += tie * solved[y, x - 1, 0]
                    sum_v += tie * solved[y, x - 1, 1]
                if y > 0:
                    tie = ties[y - 1, x]
                    tied += tie
                    sum_u += tie * solved[y - 1, x, 0]
                    sum_v += tie * solved[y - 1, x, 1]
                tie = ties[y, x]
                if x < width - 1:
                    tied += tie
                    sum_u += tie * solved[y, x + 1, 0]
                    sum_v += tie * solved[y, x + 1, 1]
                if y < height - 1:
                    tied += tie
                    sum_u += tie * solved[y + 1, x, 0]
                    sum_v += tie * solved[y + 1, x, 1]
                xx, xy, yy = terms[y, x, 0], terms[y, x, 1], terms[y, x, 2]
                u, v = offset[y, x, 0], offset[y, x, 1]
                sum_u += xx * u + xy * v - terms[y, x, 3]
                sum_v += xy * u + yy * v - terms[y, x, 4]
                a, c = xx + tied, yy + tied
                scale = RELAXATION / (a * c - xy * xy)
                u, v = solved[y, x, 0], solved[y, x, 1]
                keep = np.float32(1) - RELAXATION
                solved[y, x, 0] = keep * u + scale * (c * sum_u - xy * sum_v)
                solved[y, x, 1] = keep * v + scale * (a * sum_v - xy * sum_u)
