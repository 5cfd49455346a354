"""Guides, warping, merging and blending in torch against the compiled loops."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from rerender.propagation.blending import tensors as blending
from rerender.propagation.blending import texture
from rerender.propagation.blending.blend import Bidirectional, Guess, Soft, TwoBand, blur
from rerender.propagation.motion.chain import FrameMotion
from rerender.propagation.patches import cubic, guides, merge, tensors, votes

Array = NDArray[np.float32]
DEVICES = [
    torch.device("cpu"),
    pytest.param(torch.device("cuda"), marks=pytest.mark.gpu),
]
SIZES = [(37, 52), (64, 48), (20, 90)]


def images(size: tuple[int, int], count: int, seed: int = 0) -> list[Array]:
    """Noise with some structure, in levels."""
    random = np.random.default_rng(seed)
    return [
        blur(random.uniform(-20, 275, (*size, 3)).astype(np.float32), 3).clip(0, 255)
        for _ in range(count)
    ]


def offsets(size: tuple[int, int], seed: int = 1) -> Array:
    """Flow that points anywhere, far outside the image too."""
    return np.random.default_rng(seed).normal(0, 15, (*size, 2)).astype(np.float32)


def on(device: torch.device, *arrays: Array) -> torch.Tensor:
    return torch.from_numpy(np.stack(arrays)).to(device)


def near(found: torch.Tensor, expected: list[Array], bound: float) -> bool:
    return bool(np.abs(found.cpu().numpy() - np.stack(expected)).max() <= bound)


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("side", [3, 7, 17, 33])
def test_a_box_is_that_of_opencv(size: tuple[int, int], side: int, device: torch.device) -> None:
    image = images(size, 1)[0]
    found = tensors.box(on(device, image).permute(0, 3, 1, 2), side).permute(0, 2, 3, 1)
    assert near(found, [blur(image, side)], 1e-3)


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("size", SIZES)
def test_guides_are_the_same_bytes_but_for_roundings(
    size: tuple[int, int], device: torch.device
) -> None:
    style, colour, offset = *images(size, 2), offsets(size)
    plain = guides.Guides()
    edge = guides.edges(colour)
    expected = plain.pack(style, colour, edge, offset)
    lines = tensors.edges(on(device, colour))
    assert np.array_equal(lines[0].cpu().numpy(), edge)
    found = tensors.pack(plain, on(device, style), on(device, colour), lines, on(device, offset))
    for mine, theirs in zip(found, expected, strict=True):
        step = np.abs(mine[0].cpu().numpy().astype(int) - theirs.astype(int))
        assert step.max() <= 1 and (step > 0).mean() < 1e-3


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("size", SIZES)
def test_key_frames_are_warped_alike(size: tuple[int, int], device: torch.device) -> None:
    pairs = [images(size, 3, seed) for seed in (0, 5)]
    fields = [offsets(size, seed) for seed in (1, 2)]
    expected = [
        cubic.warped(cubic.paired(style, source), field, target)
        for (style, source, target), field in zip(pairs, fields, strict=True)
    ]
    style, source, target = (on(device, *both) for both in zip(*pairs, strict=True))
    found = tensors.warped(tensors.paired(style, source), on(device, *fields), target)
    assert near(found.image, [guess.image for guess in expected], 0.02)
    assert near(found.error, [guess.error for guess in expected], 2.0)


@pytest.mark.parametrize("device", DEVICES)
def test_sums_of_patches_are_judged_alike(device: torch.device) -> None:
    size = SIZES[0]
    sums = np.dstack([*images(size, 2), offsets(size)]) * np.float32(25)
    target = images(size, 1, 7)[0]
    expected = votes.settled(sums, target)
    found = tensors.settled(on(device, sums), on(device, target))
    assert near(found.image, [expected.image], 1e-3) and near(found.error, [expected.error], 0.5)


def guesses(size: tuple[int, int]) -> list[Guess]:
    """Two versions of a frame that disagree, with errors from none to large."""
    random = np.random.default_rng(4)
    errors = [blur(random.gamma(0.4, 60, size).astype(np.float32), 5) for _ in range(2)]
    return [Guess(i, e) for i, e in zip(images(size, 2, 3), errors, strict=True)]


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("size", SIZES)
def test_versions_are_merged_and_blended_alike(size: tuple[int, int], device: torch.device) -> None:
    a, b = guesses(size)
    one, two = (
        tensors.Guesses(*(on(device, part) for part in guess if part is not None))
        for guess in (a, b)
    )
    expected = merge.merge(a, b, 3.0)
    merged = tensors.merge(one, two, 3.0)
    assert near(merged.image, [expected.image], 1e-2)
    assert near(merged.error, [expected.error], 1e-2)

    pair = Bidirectional(a, b, 0.3, FrameMotion(offsets(size)))
    time = torch.tensor([0.3], device=device)
    assert near(blending.soft(one, two, time, 12.0), [*Soft().run([pair])], 1e-2)
    for blend in (TwoBand(tolerance=4.0), TwoBand(sigma=1.0, window=9, gain=1.2)):
        assert near(blending.two_band(blend, one, two, time), [*blend.run([pair])], 2e-2)


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("size", SIZES)
def test_texture_of_key_frames_is_kept_alike(size: tuple[int, int], device: torch.device) -> None:
    random, blend = np.random.default_rng(6), TwoBand(tolerance=4.0, disagreement=(0.0, 2.0))
    fields = [random.integers(0, (size[1], size[0]), (*size, 2)).astype(np.int16) for _ in range(2)]
    styles, pair = images(size, 2, 5), []
    field: Any
    for style, field, guess in zip(styles, fields, guesses(size), strict=True):
        strength: Any = blend.detail(style)
        found = blending.detail(blend, on(device, style))
        assert near(found / 100, [strength / 100], 0.5)
        moved = blending.taken(on(device, strength), on(device, field))
        assert near(moved, [texture.taken(strength, field)], 0)
        pair.append(guess._replace(detail=texture.taken(strength, field)))
    (expected,) = blend.run([Bidirectional(pair[0], pair[1], 0.3, FrameMotion(offsets(size)))])
    both: Any = pair
    left, right = (tensors.Guesses(*(on(device, part) for part in guess)) for guess in both)
    made = blending.two_band(blend, left, right, torch.tensor([0.3], device=device))
    assert near(made, [expected], 5e-2)
    bare = [guess._replace(detail=None) for guess in (left, right)]
    other = blending.two_band(blend, bare[0], bare[1], torch.tensor([0.3], device=device))
    assert not near(other, [expected], 1.0)
