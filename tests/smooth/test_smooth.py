"""Every temporal filter: counts, range, fixed points, and what each one is for."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from rerender.contracts import Smooth
from rerender.flow.dis import Dis
from rerender.smooth._window import windows
from rerender.smooth.flow_aligned import FlowAligned
from rerender.smooth.gaussian import Gaussian
from rerender.smooth.median import Median
from rerender.smooth.none import Nothing
from rerender.video import MemoryVideo
from tests.propagation.scenes import Drift, NoFlow, moving, still, texture

FILTERS = [Nothing(), Gaussian(1.5), Median(2), FlowAligned(2)]


def run(smooth: Smooth, images: list[Tensor]) -> list[Tensor]:
    return list(smooth.run(iter(images), MemoryVideo(images), NoFlow()))


@given(count=st.integers(0, 30), radius=st.integers(1, 9))
@settings(deadline=None)
def test_a_window_is_what_lies_within_the_radius(count: int, radius: int) -> None:
    for index, first, held in windows(range(count), radius):
        assert first == max(0, index - radius)
        assert held == list(range(first, min(count, index + radius + 1)))
    assert len(list(windows(range(count), radius))) == count


@pytest.mark.parametrize("smooth", FILTERS)
@pytest.mark.parametrize("count", [1, 2, 3, 9])
def test_a_still_clip_stays_as_it_is(smooth: Smooth, count: int) -> None:
    images = [texture(20, 24)] * count
    filtered = run(smooth, images)
    assert len(filtered) == count
    # Bilinear sampling finds the centre of a pixel to about 1e-5.
    assert all(torch.allclose(image, images[0], atol=1e-5) for image in filtered)


def test_an_even_picture_stays_even_where_it_leaves_by_less_than_half_a_pixel() -> None:
    """Nothing is hidden there, and what lies beyond the border is not black."""
    images = [torch.full((3, 8, 12), 0.8)] * 5
    made = FlowAligned(2).run(iter(images), MemoryVideo(images), Drift())
    assert all(torch.allclose(image, images[0], atol=1e-6) for image in made)


@pytest.mark.parametrize("smooth", FILTERS)
def test_values_stay_in_range(smooth: Smooth) -> None:
    images = [(texture(16, 16, seed) > 0.5).float() for seed in range(7)]
    for image in run(smooth, images):
        assert image.min() >= -1e-6 and image.max() <= 1 + 1e-6


@pytest.mark.parametrize("smooth", FILTERS)
def test_no_more_of_the_stream_is_read_than_the_window_needs(smooth: Smooth) -> None:
    read: list[int] = []

    def stream() -> Iterator[Tensor]:
        for index in range(100):
            read.append(index)
            yield texture(16, 16)

    next(smooth.run(stream(), still(100, 16, 16), NoFlow()))
    assert len(read) <= 6


def test_gaussian_is_the_weighted_mean() -> None:
    images = [torch.full((3, 2, 2), float(t == 5)) for t in range(11)]
    weights = torch.exp(-torch.arange(-5, 6).square() / 2 / 1.2**2)
    got = torch.stack(run(Gaussian(1.2), images))[:, 0, 0, 0]
    inner = (weights / torch.exp(-torch.arange(-4, 5).square() / 2 / 1.2**2).sum())[3:8]
    assert torch.allclose(got[3:8], inner, atol=2e-4)


def test_median_removes_a_flash_and_keeps_a_cut() -> None:
    flash = [torch.full((3, 2, 2), float(t == 3)) for t in range(7)]
    assert all(image.max() == 0 for image in run(Median(1), flash))
    cut = [torch.full((3, 2, 2), float(t >= 3)) for t in range(7)]
    assert all(map(torch.equal, run(Median(2), cut), cut))


def test_flow_aligned_removes_noise_where_gaussian_smears() -> None:
    video = moving(5, speed=3)
    generator = torch.Generator().manual_seed(0)
    noisy = [video[t] + 0.05 * torch.randn(video[t].shape, generator=generator) for t in range(5)]

    def error(smooth: Smooth) -> float:
        middle = list(smooth.run(noisy, video, Dis()))[2]
        return float((middle - video[2])[:, 8:-8, 16:-16].square().mean())

    assert error(FlowAligned(2, 2.0)) < 0.5 * error(Nothing())
    assert error(Gaussian(1.0)) > error(Nothing())


def test_flow_aligned_does_not_smear_a_cut() -> None:
    before, after = texture(48, 64, 1), texture(48, 64, 2)
    images = [before, before, after, after]
    filtered = list(FlowAligned(1).run(images, MemoryVideo(images), Dis()))
    assert (filtered[1] - before).abs().mean() < 0.35 * (0.5 * (after - before)).abs().mean()
