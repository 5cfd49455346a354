"""DIS: known motion is found, and the same bytes come out however it is run."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import cv2
import pytest
import torch

from rerender.contracts import FlowEstimator
from rerender.flow.dis import Dis, Preset
from tests.propagation.scenes import moving, still, texture


@pytest.mark.parametrize("preset", ["ultrafast", "fast", "medium"])
def test_a_known_shift_is_found(preset: Preset) -> None:
    video = moving(3, 64, 96, speed=2)
    offset = Dis(preset).offset(video.frame(2), video.frame(0))
    inner = offset[0, :, 12:-12, 16:-16]
    assert offset.shape == (1, 2, 64, 96)
    assert torch.allclose(inner.mean((1, 2)), torch.tensor([4.0, 0.0]), atol=0.25)


def test_a_still_pair_has_no_motion_at_all() -> None:
    video = still(2)
    assert not Dis().offset(video.frame(0), video.frame(1)).any()


def test_a_first_guess_finds_what_is_too_far_away() -> None:
    video = moving(12, 64, 96, speed=4)
    target, source = video.frame(11), video.frame(0)
    truth = torch.tensor([44.0, 0.0]).view(1, 2, 1, 1).expand(1, 2, 64, 96)

    def error(offset: torch.Tensor) -> float:
        return float((offset - truth)[..., 8:-8, 4:48].norm(dim=1).mean())

    alone, led = Dis().offset(target, source), Dis().offset(target, source, truth)
    assert error(led) < 1 < error(alone)


def test_the_first_guess_is_not_overwritten() -> None:
    video = moving(2)
    start = torch.ones(1, 2, 48, 64)
    Dis().offset(video.frame(0), video.frame(1), start)
    assert (start == 1).all()


@pytest.mark.parametrize(("height", "width"), [(1, 1), (5, 40), (7, 9), (15, 15), (33, 17)])
def test_any_size_is_taken(height: int, width: int) -> None:
    frame = still(1, height, width).frame(0)
    start = torch.zeros(1, 2, height, width)
    assert Dis().offset(frame, frame, start).shape == (1, 2, height, width)


def test_occlusion_of_a_pair_is_that_of_any_estimator() -> None:
    video = moving(4, 64, 96, speed=3)
    first, second = video.frame(0), video.frame(3)
    for mine, general in zip(
        Dis().pair(first, second), FlowEstimator.pair(Dis(), first, second), strict=True
    ):
        assert torch.equal(mine.offset, general.offset)
        # Positions are rounded to 1/32 pixel, so a pixel at the very bound may differ.
        assert (mine.occluded != general.occluded).float().mean() < 0.002
        assert 0.01 < mine.occluded.mean() < 0.5


def test_threads_change_nothing() -> None:
    video = moving(6, 96, 128)
    alone = [Dis().offset(video.frame(t + 1), video.frame(t)) for t in range(5)]
    cv2.setNumThreads(4)
    with ThreadPoolExecutor(4) as pool:
        found = pool.map(lambda t: Dis().offset(video.frame(t + 1), video.frame(t)), range(5))
        assert all(map(torch.equal, alone, found))


def test_links_of_a_chain_are_cheaper() -> None:
    assert Dis("medium", chain="fast").rough() == Dis("fast", "fast", "fast")


def test_values_outside_the_range_do_not_wrap_around() -> None:
    frame = still(1).frame(0)
    wild = type(frame)(0, frame.image * 3 - 1)
    assert Dis().offset(wild, wild).abs().max() == 0
    assert texture(4, 4).shape == (3, 4, 4)
