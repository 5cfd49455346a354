"""The loops of exposure are the sums that NumPy takes, bit for bit."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from rerender.propagation.motion import exposure_kernels as kernels
from rerender.propagation.motion.exposure import BRIGHTEST, DARKEST, NOISE, STIFF, usable

Plane = NDArray[np.float32]
SIZE = (31, 37, 3)


@pytest.fixture
def images() -> tuple[Plane, Plane]:
    """A frame and the key frame moved to it, in other light, some of it clipped."""
    draw = np.random.default_rng(0)
    seen = draw.uniform(0, 255, SIZE).astype(np.float32)
    moved = (seen * np.float32(0.8) + draw.normal(12, 5, SIZE).astype(np.float32)).clip(0, 255)
    return seen, moved


def test_usable_pixels_are_inside_and_not_clipped(images: tuple[Plane, Plane]) -> None:
    seen, moved = images
    offset = np.random.default_rng(1).normal(0, 9, (*SIZE[:2], 2)).astype(np.float32)
    y, x = np.mgrid[: SIZE[0], : SIZE[1]]
    x, y = x + offset[..., 0], y + offset[..., 1]
    inside = (x >= 0) & (y >= 0) & (x <= SIZE[1] - 1) & (y <= SIZE[0] - 1)
    for image in images:
        inside &= (image.min(2) > DARKEST) & (image.max(2) < BRIGHTEST)
    assert 0 < inside.mean() < 1
    assert np.array_equal(usable(seen, moved, offset), inside)


def test_weighted_moments_are_numpys(images: tuple[Plane, Plane]) -> None:
    here, there = (image.reshape(-1, 3) for image in images)
    gain, rest, spread = (np.array(each) for each in ([0.8, 1, 1.1], [1.0, 2, 3], [4.0, 5, 1]))
    left = there - here * gain - rest
    weight = 1 / (1 + np.square(left / spread))
    total = weight.sum(0)
    means = [(weight * values).sum(0) / total for values in (here, there)]
    variances = [
        (weight * np.square(values - mean)).sum(0) / total + 1
        for values, mean in zip((here, there), means, strict=True)
    ]
    found, misfit = np.empty((4, 3)), np.empty((3, len(here)))
    kernels.moments(here, there, gain, rest, spread, found)
    assert np.array_equal(found, np.array([*means, *variances]))
    kernels.misfit_doubles(here, there, gain, rest, misfit)
    assert np.array_equal(misfit, np.abs(left).T)
    slope, lift = gain.astype(np.float32), rest.astype(np.float32)
    single = np.empty(misfit.shape, np.float32)
    kernels.misfit(here, there, slope, lift, single)
    flat = np.abs(there - here * slope - lift)
    assert np.array_equal(single, flat.T)


def test_lines_about_places_are_numpys(images: tuple[Plane, Plane]) -> None:
    seen, moved = images
    draw = np.random.default_rng(2)
    known = (draw.uniform(size=SIZE[:2]) > 0.2).astype(np.float32)
    weight = known * draw.uniform(size=SIZE[:2]).astype(np.float32)
    summed = np.empty((*SIZE[:2], 12), np.float32)
    kernels.products(seen, moved, weight, summed)
    w = weight[..., None]
    parts = [w * seen, w * moved, w * seen * seen, w * seen * moved]
    assert np.array_equal(summed, np.concatenate(parts, 2))
    total = weight + np.float32(1e-4)  # windows of a single pixel
    found, following = np.empty((*SIZE[:2], 18), np.float32), np.empty_like(known)
    numbers = np.array([STIFF, NOISE], np.float32)
    kernels.lines(seen, moved, known, total, summed, numbers, found, following)
    a, b, squares, products = (part / total[..., None] for part in parts)
    spread, common = np.maximum(squares - a * a, 0), products - a * b
    gain = (common + STIFF) / (spread + STIFF)
    lift = b - gain * a
    left = moved - seen * gain - lift
    assert np.array_equal(found, np.concatenate([gain, lift, spread, common, b, left], 2))
    assert np.array_equal(following, known / (1 + np.square(left / NOISE).mean(2)))


def test_what_is_believed_is_by_its_definition(images: tuple[Plane, Plane]) -> None:
    seen, moved = images
    draw = np.random.default_rng(3)
    known = (draw.uniform(size=SIZE[:2]) > 0.2).astype(np.float32)
    weight = known * draw.uniform(size=SIZE[:2]).astype(np.float32)
    apart, there = np.empty_like(known), np.empty_like(known)
    kernels.differences(seen, moved, known, apart, there)
    assert np.array_equal(apart, np.abs(moved - seen).mean(2))
    assert np.array_equal(there, apart * known)

    lines = draw.normal(1, 0.5, (*SIZE[:2], 18)).astype(np.float32)
    lines[..., 15:] *= 20  # what is left: some of it much, some little
    left = np.empty((*SIZE[:2], 5), np.float32)
    kernels.leftovers(lines, moved, known, weight, apart, left)
    rest = np.abs(lines[..., 15:]).mean(2)
    assert np.array_equal(left[..., 0], rest * known)
    assert np.array_equal(left[..., 1], (rest > apart + 2) * known)
    assert 0 < left[..., 1].mean() < known.mean()
    w = weight[..., None]
    assert np.array_equal(left[..., 2:], w * moved * moved)

    total, allowed = weight + np.float32(1e-4), draw.uniform(size=SIZE[:2]) > 0.1
    bounds = np.array([0.9, 0.2, 5.0], np.float32)
    chosen = np.empty((*SIZE[:2], 7), np.float32)
    left[..., 2:] = total[..., None] * draw.uniform(0, 4, SIZE).astype(np.float32)
    kernels.believed(lines, left, total, allowed, bounds, chosen)
    gain, lift, spread, common, b = np.split(lines[..., :15], 5, axis=2)
    other = np.maximum(left[..., 2:] / total[..., None] - b * b, 0).sum(2)
    good = allowed & ((gain > bounds[1]) & (gain < bounds[2])).all(2)
    good &= common.sum(2) > bounds[0] * np.sqrt(np.maximum(spread.sum(2) * other, 1e-6))
    assert 0 < good.mean() < 1
    parts = [good[..., None], (gain - 1) * good[..., None], lift * good[..., None]]
    assert np.array_equal(chosen, np.concatenate(parts, 2))
