"""Flow fields against exact motion."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from rerender.flow.field import Flow, colored, identity, norm, occlusion, resize, warp


def constant(x: float, y: float, height: int = 16, width: int = 20) -> torch.Tensor:
    return torch.tensor([float(x), float(y)]).view(1, 2, 1, 1).expand(1, 2, height, width).clone()


def picture(channels: int = 3) -> torch.Tensor:
    return torch.rand(1, channels, 16, 20, generator=torch.Generator().manual_seed(0))


def test_no_motion_returns_the_image() -> None:
    assert torch.allclose(identity(16, 20).warp(picture()), picture(), atol=1e-5)


@given(st.integers(-5, 5), st.integers(-5, 5), st.sampled_from(["bilinear", "nearest", "bicubic"]))
@settings(max_examples=30, deadline=None)
def test_whole_pixel_motion_shifts_exactly(dx: int, dy: int, mode: str) -> None:
    """target(p) = source(p + offset): zero outside, order (x, y)."""
    moved = warp(picture(), constant(dx, dy), mode)  # type: ignore[arg-type]
    padded = torch.nn.functional.pad(picture(), (8, 8, 8, 8))
    expected = padded[..., 8 + dy : 24 + dy, 8 + dx : 28 + dx]
    # Bicubic taps reach outside at the border, and so do roundings of half a pixel.
    inner = (..., slice(7, -7), slice(7, -7))
    assert torch.allclose(moved[inner], expected[inner], atol=1e-4)


def test_outside_is_zero_or_the_nearest_pixel() -> None:
    away = constant(100, 0)
    assert warp(picture(), away).abs().max() == 0
    last = picture()[..., -1:].expand(-1, -1, -1, 20)
    assert torch.allclose(warp(picture(), away, outside="border"), last, atol=1e-4)


def test_half_a_pixel_is_the_mean_of_two() -> None:
    moved = warp(picture(), constant(0.5, 0.0))
    expected = (picture()[..., :-1] + picture()[..., 1:]) / 2
    assert torch.allclose(moved[..., :-1], expected, atol=1e-5)


def test_consistent_motion_is_visible_and_leaving_is_occluded() -> None:
    hidden = occlusion(constant(3, 0), constant(-3, 0))[0, 0]
    assert hidden[:, :16].max() == 0
    assert hidden[:, 17:].min() == 1


def test_the_bound_grows_with_the_motion() -> None:
    """0.01 (|f| + |b|) + 0.5 on plain norms: a mismatch of 0.55 passes only for fast motion."""
    slow = occlusion(constant(1, 0), constant(-1 + 0.55, 0))
    fast = occlusion(constant(4, 0), constant(-4 + 0.55, 0))
    assert slow[0, 0, 8, 5] == 1
    assert fast[0, 0, 8, 5] == 0


def test_motion_against_motion_is_occluded() -> None:
    assert occlusion(constant(3, 0), constant(3, 0)).min() == 1


@pytest.mark.parametrize("factor", [2, 4])
def test_resizing_rescales_offsets_and_keeps_every_occluded_pixel(factor: int) -> None:
    occluded = torch.zeros(1, 1, 16, 20)
    occluded[..., 5, 7] = 1
    small = resize(Flow(constant(8, -4), occluded), 16 // factor, 20 // factor)
    assert torch.allclose(
        small.offset, constant(8 / factor, -4 / factor, 16 // factor, 20 // factor)
    )
    assert small.occluded.sum() == 1
    assert small.occluded[0, 0, 5 // factor, 7 // factor] == 1


def test_norm_is_euclidean() -> None:
    assert torch.allclose(norm(constant(3, 4)), torch.full((1, 1, 16, 20), 5.0))


def test_one_image_without_batch_dimension_may_be_warped() -> None:
    flow = Flow(constant(1, 0), torch.zeros(1, 1, 16, 20))
    assert torch.equal(flow.warp(picture()[0]), flow.warp(picture())[0])


def test_colours_of_flow() -> None:
    """Still is white, opposite directions have opposite colours, occluded is dark."""
    assert torch.equal(colored(identity(16, 20)), torch.ones(3, 16, 20))
    hidden = torch.zeros(1, 1, 16, 20)
    hidden[..., 0, 0] = 1
    right, left = (colored(Flow(constant(x, 0), hidden)) for x in (2, -2))
    assert right[0, 5, 5] == pytest.approx(1.0)
    assert left[0, 5, 5] == pytest.approx(0.0, abs=1e-6)
    assert torch.allclose(right[:, 0, 0], 0.3 * right[:, 5, 5])
