"""Warp error has closed forms: 0 for still and exactly shifted clips, 2 sigma^2 for noise."""

from __future__ import annotations

import pytest
import torch

from eval.metrics.alignment import visible
from eval.metrics.warp_error import WarpError
from rerender.errors import ConfigError
from rerender.flow.field import Flow
from tests.eval.toys import measure, picture, shifting


def noisy(frames: list[torch.Tensor], sigma: float) -> list[torch.Tensor]:
    made = torch.Generator().manual_seed(1)
    return [frame + sigma * torch.randn(frame.shape, generator=made) for frame in frames]


@pytest.mark.parametrize("reference", ["previous", "first"])
def test_still_and_shifted_clips_have_none(reference: str) -> None:
    metric = WarpError(reference=reference)  # type: ignore[arg-type]
    still = [picture()] * 9
    assert measure(metric, still, still).value == pytest.approx(0, abs=1e-12)
    row = measure(metric, shifting(step=2), shifting(step=2), step=2)
    assert row.value == pytest.approx(0, abs=1e-12)
    assert (row.n, row.curve[0], row.version) == (9, None, "2")


def test_noise_adds_twice_its_variance() -> None:
    grey = [torch.full((3, 64, 64), 0.5)] * 10
    errors = [
        measure(WarpError(), grey, noisy(grey, sigma)).value for sigma in (0, 0.02, 0.05, 0.1)
    ]
    assert errors == pytest.approx([0, 2 * 0.02**2, 2 * 0.05**2, 2 * 0.1**2], rel=0.03)


def test_constant_step_is_its_square_and_four_times_it_on_the_signed_range() -> None:
    source, result = [picture()] * 2, [torch.zeros(3, 24, 32), torch.full((3, 24, 32), 0.25)]
    assert measure(WarpError(), source, result).value == pytest.approx(1 / 16)
    assert measure(WarpError(span=2.0), source, result).value == pytest.approx(1 / 4)


def test_shuffled_is_worse() -> None:
    source = shifting(step=1)
    shuffled = [source[i] for i in (3, 8, 0, 5, 9, 2, 6, 1, 7, 4)]
    truth = measure(WarpError(), source, source, step=1).value
    mixed = measure(WarpError(), source, shuffled, step=1).value
    assert mixed is not None and truth is not None and mixed > truth + 0.05


def test_long_range_sees_a_drift_that_neighbours_hardly_show() -> None:
    source = [torch.full((3, 24, 32), 0.2)] * 21
    drift = [frame + 0.02 * i for i, frame in enumerate(source)]
    assert measure(WarpError(), source, drift).value == pytest.approx(0.02**2, rel=1e-4)
    far = measure(WarpError(reference="first"), source, drift)
    assert far.curve[-1] == pytest.approx(0.4**2, rel=1e-4)


def test_pixels_that_leave_or_are_covered_do_not_count() -> None:
    offset = torch.zeros(1, 2, 4, 6)
    offset[:, 0] = 2
    occluded = torch.zeros(1, 1, 4, 6)
    occluded[..., 0] = 1
    assert visible(Flow(offset, occluded))[0, 0].tolist() == [0, 1, 1, 1, 0, 0]


def test_nothing_visible_is_null() -> None:
    row = measure(WarpError(), [picture()] * 3, [picture()] * 3, step=100)
    assert (row.value, row.n, row.curve) == (None, 0, (None, None, None))
    assert row.note == "n/a: undefined in every frame"


def test_bad_fields_are_refused() -> None:
    with pytest.raises(ConfigError, match="previous or first, received 'last'"):
        WarpError(reference="last")  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match="received -1"):
        WarpError(span=-1)


def test_only_the_last_frames_count_where_asked() -> None:
    frames = [picture()] * 4 + [picture() * 0.5, picture() * 0.25]
    every = measure(WarpError(reference="first"), frames, frames)
    last = measure(WarpError(reference="first", last=2), frames, frames)
    assert last.metric == "warp_error_long_last2" and last.curve == every.curve and last.n == 2
    assert last.value == pytest.approx((every.curve[4] + every.curve[5]) / 2)  # type: ignore[operator]
    assert measure(WarpError(last=9), frames, frames).value == pytest.approx(
        measure(WarpError(), frames, frames).value
    )
    with pytest.raises(ConfigError, match="1 or more frames"):
        WarpError(last=0)
