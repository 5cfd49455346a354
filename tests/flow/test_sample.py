"""Looking up arrays along offsets agrees with the warp of tensors."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from rerender.flow._sample import grid, sample
from rerender.flow.field import warp


def field(seed: int) -> np.ndarray:
    return np.random.default_rng(seed).uniform(-3, 3, (20, 27, 2)).astype(np.float32)


@pytest.mark.parametrize("seed", range(3))
def test_bilinear_sampling_is_the_warp(seed: int) -> None:
    values = np.random.default_rng(seed + 9).uniform(0, 1, (20, 27, 3)).astype(np.float32)
    offset = field(seed)
    ours = sample(values, offset, border=0.0)
    theirs = warp(
        torch.from_numpy(values).permute(2, 0, 1)[None],
        torch.from_numpy(offset).permute(2, 0, 1)[None],
    )
    # OpenCV rounds positions to 1/32 pixel.
    assert np.abs(ours - theirs[0].permute(1, 2, 0).numpy()).max() < 1 / 16


def test_outside_the_nearest_pixel_is_taken() -> None:
    values = np.arange(12, dtype=np.float32).reshape(3, 4)
    offset = np.full((3, 4, 2), 50, np.float32)
    assert (sample(values, offset) == 11).all()
    assert (sample(values, offset, border=7.0) == 7).all()


def test_no_motion_changes_nothing() -> None:
    values = np.random.default_rng(0).uniform(0, 1, (9, 8, 3)).astype(np.float32)
    still = np.zeros((9, 8, 2), np.float32)
    for interpolation in (0, 1, 2):  # nearest, linear, cubic
        assert np.array_equal(sample(values, still, interpolation), values)


def test_the_grid_is_shared_and_cannot_be_spoilt() -> None:
    assert grid(3, 4)[2, 1].tolist() == [1, 2]
    with pytest.raises(ValueError, match="read-only"):
        grid(3, 4)[0, 0] = 1
