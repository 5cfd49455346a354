"""Texture that each key frame has of its own comes back; where they agree, nothing changes."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import cv2
import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor

from rerender.data.demo import Demo
from rerender.demo.world import HELD_OUT
from rerender.errors import ConfigError
from rerender.flow.dis import Dis
from rerender.propagation.blending import texture
from rerender.propagation.blending.blend import Bidirectional, Guess, TwoBand
from rerender.propagation.motion.chain import FrameMotion
from rerender.propagation.patchmatch import PatchMatch
from rerender.video import Frame, Segment

SIZE = (48, 64)
BLEND = TwoBand(tolerance=4.0)
AGREE = replace(BLEND, disagreement=(2.0, 3.0))
Image = NDArray[np.float32]


def grain(seed: int, sigma: float = 12) -> Image:
    return np.random.default_rng(seed).normal(0, sigma, (*SIZE, 3)).astype(np.float32)


def plain() -> Image:
    return cv2.GaussianBlur(128 + 8 * grain(9), (0, 0), 6)


def version(key: Image, faded: float) -> Guess:
    """A key frame that has kept so much of its detail, and how strong that was."""
    high = key - BLEND.low(key)
    detail = BLEND.detail(key)[:: texture.STRIDE, :: texture.STRIDE]
    return Guess(key - (1 - faded) * high, np.zeros(SIZE, np.float32), detail)


def blended(blend: TwoBand, left: Guess, right: Guess) -> Image:
    (image,) = blend.run([Bidirectional(left, right, 0.5, FrameMotion(np.zeros((*SIZE, 2), "f4")))])
    return image


def share(image: Image, key: Image) -> float:
    return float((image - BLEND.low(image)).std() / (key - BLEND.low(key)).std())


def test_texture_that_was_lost_on_the_way_comes_back() -> None:
    keys = [plain() + grain(seed) for seed in (0, 1)]
    left, right = (version(key, 0.7) for key in keys)
    before, after = (blended(blend, left, right) for blend in (AGREE, BLEND))
    assert share(before, keys[0]) < 0.75 and share(after, keys[0]) > 0.93
    assert np.abs(before.mean((0, 1)) - after.mean((0, 1))).max() < 0.02


def test_where_key_frames_agree_nothing_changes() -> None:
    key = plain() + grain(0)
    left, right = version(key, 0.7), version(key + grain(1, 3), 0.7)
    assert np.array_equal(blended(BLEND, left, right), blended(AGREE, left, right))
    bare = [guess._replace(detail=None) for guess in (left, right)]
    assert np.array_equal(blended(BLEND, left, right), blended(BLEND, *bare))


def test_disagreement_is_that_of_what_both_explain() -> None:
    same, other = plain() + grain(0), plain() + grain(1)
    far = other.copy()
    far[:, 32:] = same[:, 32:]
    none, half = np.zeros(SIZE, np.float32), np.zeros(SIZE, np.float32)
    half[:, 32:] = 1e4

    def found(left: Image, right: Image, error: Image) -> float:
        lows = BLEND.low(left), BLEND.low(right)
        scale: Any = np.float32(0.01)
        return texture.disagreement(left, lows[0], error, right, lows[1], none, scale)

    assert found(same, same, none) == 0
    assert abs(found(same, other, none) - 1) < 0.05
    assert abs(found(same, far, none) - 0.5) < 0.08
    assert abs(found(same, far, half) - 1) < 0.08


def test_strength_is_carried_with_the_patches() -> None:
    detail = np.arange(48 * 64, dtype=np.float32).reshape(SIZE)
    y, x = np.mgrid[:48, :64]
    matches = np.stack([63 - x, y], -1).astype(np.int16)
    assert np.array_equal(texture.taken(detail, matches), detail[:, ::-1][::4, ::4])
    assert texture.whole(np.full((12, 16), 7, np.float32), detail).shape == SIZE


@pytest.mark.parametrize("shares", [(0.4, 0.4), (-0.1, 0.4)])
def test_shares_that_do_not_rise_are_refused(shares: tuple[float, float]) -> None:
    with pytest.raises(ConfigError, match=r"disagreement: .* give the smaller share first"):
        TwoBand(disagreement=shares)


def test_fast_motion_keeps_the_texture_of_key_frames_that_disagree() -> None:
    (clip,) = Demo((HELD_OUT,), "fast", 7, size=64).clips()
    assert clip.truth is not None
    truth = [image for image in map(clip.truth.translation, range(7)) if image is not None]
    random = torch.Generator().manual_seed(0)
    grainy = [(truth[i] + 0.06 * torch.randn(3, 64, 64, generator=random)) for i in (0, 6)]

    def made(keys: list[Tensor], blend: TwoBand) -> Tensor:
        ends = Frame(0, keys[0].clamp(0, 1)), Frame(6, keys[1].clamp(0, 1))
        segment = Segment(clip.video, 1, 6, *ends)
        return torch.stack([*PatchMatch(blend=blend).fill(segment, Dis())])

    def strength(images: Tensor) -> float:
        planes = 255 * images.permute(0, 2, 3, 1).numpy()
        return float(np.mean([texture.strength(p - BLEND.low(p), 17).mean() for p in planes]))

    before, after = (strength(made(grainy, blend)) for blend in (AGREE, BLEND))
    wanted = strength(torch.stack(grainy))
    assert before < 0.9 * wanted and before + 0.4 * (wanted - before) < after < 1.05 * wanted
    true = [truth[0], truth[6]]
    assert torch.equal(made(true, BLEND), made(true, AGREE))
