"""Warping both pictures at once against OpenCV's cubic remap and closed forms."""

from __future__ import annotations

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from rerender.flow._sample import sample
from rerender.propagation.patches import cubic
from rerender.propagation.patches.merge import error

HEIGHT, WIDTH = 23, 37


def picture(seed: int) -> NDArray[np.float32]:
    return np.random.default_rng(seed).uniform(0, 255, (HEIGHT, WIDTH, 3)).astype(np.float32)


@pytest.mark.parametrize("reach", [0.0, 0.4, 6.0, 60.0])
def test_both_pictures_are_warped_as_opencv_does(reach: float) -> None:
    style, source, target = picture(1), picture(2), picture(3)
    # OpenCV knows thirty-seconds of a pixel.
    drawn = np.random.default_rng(4).uniform(-reach, reach, (HEIGHT, WIDTH, 2))
    offset: NDArray[np.float32] = (np.rint(32 * drawn) / 32).astype(np.float32)
    y, x = np.mgrid[:HEIGHT, :WIDTH].astype(np.float32)
    # Further out than a pixel the nearest one is taken, without the kernel's overshoot.
    offset[..., 0] = (x + offset[..., 0]).clip(-1, WIDTH) - x
    offset[..., 1] = (y + offset[..., 1]).clip(-1, HEIGHT) - y
    found = cubic.warped(cubic.paired(style, source), offset, target)
    assert np.abs(found.image - sample(style, offset, cv2.INTER_CUBIC)).max() < 1e-2
    expected = error(sample(source, offset, cv2.INTER_CUBIC), target)
    assert np.allclose(found.error, expected, rtol=1e-3)


@given(st.integers(-60, 60), st.integers(-60, 60))
def test_whole_steps_copy_pixels(across: int, down: int) -> None:
    style = picture(1)
    offset = np.full((HEIGHT, WIDTH, 2), (across, down), np.float32)
    found = cubic.warped(cubic.paired(style, style), offset, style)
    y, x = np.mgrid[:HEIGHT, :WIDTH]
    rows, columns = (y + down).clip(0, HEIGHT - 1), (x + across).clip(0, WIDTH - 1)
    assert np.array_equal(found.image, style[rows, columns])
