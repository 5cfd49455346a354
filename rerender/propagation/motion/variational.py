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

from rerender.compiled import reassociated
from rerender.flow._sample import sample
from rerender.propagation.motion.pixels import Pixels

Field = NDArray[np.float32]

NOISE = np.float32(5.0)  # levels above which a difference counts less and less
STIFFNESS = np.float32(30.0)  # weight of smoothness against squared levels
EDGE = np.float32(0.01)  # squared pixels of flow difference below which smoothness is quadratic
SIGMA = 1.0  # of the window, in pixels
SWEEPS = 6  # over the whole field


LARGE = 1 << 20
"""Pixels of an image from which memory is not kept between flows: it is more than a video frame's
four times over, and what comes between two flows takes longer than to get it again."""


class Refiner:
    """Refines flows of one size, in memory that it keeps where images are not large: fresh memory
    costs more than the sums.

    Args:
        height, width: of the images, in pixels.
    """

    def __init__(self, height: int, width: int) -> None:
        self._size = height, width
        self._kept = None if height * width > LARGE else self._memory()

    def _memory(self) -> tuple[Field, Field, Field, Field]:
        height, width = self._size
        terms = np.empty((height, width, 5), np.float32)
        ties = np.empty((2, height + 1, width + 1), np.float32)
        solver = np.empty((5, height, width), np.float32)
        return terms, ties, solver, np.zeros((2, height + 2, width + 2), np.float32)

    def refine(self, source: Pixels, target: Pixels, offset: Field) -> Field:
        """The offsets ``[H,W,2]`` from target to source after one step at full resolution."""
        terms, ties, solver, solved = self._kept or self._memory()
        constancy(sample(source, offset, cv2.INTER_LINEAR), target, terms)
        cv2.GaussianBlur(terms, (5, 5), SIGMA, dst=terms)
        smoothness(offset, ties)
        prepare(terms, offset, ties, solver)
        refined = np.empty_like(offset)
        relax(solver, ties, offset, solved, refined)
        return refined


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
    """How strongly neighbours are tied: weakly where flow jumps, not at all over the border.

    ``ties [2,H+1,W+1]``: of (y, x) to its left at [0, y, x], to the one above at [1, y, x].
    """
    height, width, _ = offset.shape
    ties[:] = 0
    for y in range(height):
        below = min(y + 1, height - 1)
        for x in range(width):
            after = min(x + 1, width - 1)
            jump = EDGE
            for c in range(2):
                right = offset[y, after, c] - offset[y, x, c]
                down = offset[below, x, c] - offset[y, x, c]
                jump += right * right + down * down
            ties[0, y, x + 1] = ties[1, y + 1, x] = STIFFNESS / np.sqrt(jump)
        ties[0, y, width] = 0
    ties[1, height, :] = 0


@reassociated
def prepare(terms: Field, offset: Field, ties: Field, solver: Field) -> None:
    """For each pixel the inverse of its 2x2 system (0 to 2) and what data alone asks for (3, 4)."""
    height, width, _ = terms.shape
    for y in range(height):
        for x in range(width):
            tied = ties[0, y, x] + ties[0, y, x + 1] + ties[1, y, x] + ties[1, y + 1, x]
            xx, xy, yy = terms[y, x, 0], terms[y, x, 1], terms[y, x, 2]
            a, c = xx + tied, yy + tied
            scale = np.float32(1) / (a * c - xy * xy)
            u, v = offset[y, x, 0], offset[y, x, 1]
            solver[0, y, x], solver[1, y, x], solver[2, y, x] = scale * c, -scale * xy, scale * a
            solver[3, y, x] = xx * u + xy * v - terms[y, x, 3]
            solver[4, y, x] = xy * u + yy * v - terms[y, x, 4]


@reassociated
def relax(solver: Field, ties: Field, offset: Field, solved: Field, refined: Field) -> None:
    """Sweeps of ``J (s - o) + b = sum of ties (neighbours' s - s)`` over ``solved [2,H+2,W+2]``,
    from ``offset [H,W,2]`` to ``refined [H,W,2]``.

    Rows follow each other as in Gauss-Seidel; inside a row all pixels move at once as in Jacobi,
    which a processor does many at a time.
    """
    height, width = solver.shape[1:]
    row_u, row_v = np.empty(width, np.float32), np.empty(width, np.float32)
    for y in range(height):
        for x in range(width):
            solved[0, y + 1, x + 1] = offset[y, x, 0]
            solved[1, y + 1, x + 1] = offset[y, x, 1]
    for _ in range(SWEEPS):
        for y in range(height):
            for x in range(width):
                left, right = ties[0, y, x], ties[0, y, x + 1]
                up, down = ties[1, y, x], ties[1, y + 1, x]
                sum_u = left * solved[0, y + 1, x] + right * solved[0, y + 1, x + 2]
                sum_u += up * solved[0, y, x + 1] + down * solved[0, y + 2, x + 1]
                sum_u += solver[3, y, x]
                sum_v = left * solved[1, y + 1, x] + right * solved[1, y + 1, x + 2]
                sum_v += up * solved[1, y, x + 1] + down * solved[1, y + 2, x + 1]
                sum_v += solver[4, y, x]
                row_u[x] = solver[0, y, x] * sum_u + solver[1, y, x] * sum_v
                row_v[x] = solver[1, y, x] * sum_u + solver[2, y, x] * sum_v
            for x in range(width):
                solved[0, y + 1, x + 1] = row_u[x]
                solved[1, y + 1, x + 1] = row_v[x]
    for y in range(height):
        for x in range(width):
            refined[y, x, 0] = solved[0, y + 1, x + 1]
            refined[y, x, 1] = solved[1, y + 1, x + 1]
