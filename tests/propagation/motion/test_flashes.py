"""Motion over frames that a flash has clipped."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from rerender.flow.dis import Dis
from rerender.flow.dis_torch import DisTorch
from rerender.propagation.motion import batched
from rerender.propagation.motion.batched import DeviceFrames
from rerender.propagation.motion.chain import Links, link
from rerender.propagation.motion.flashes import clipped, flashes
from rerender.video import Frame, MemoryVideo, Segment, Video
from tests.propagation.scenes import moving

LAST, SPEED = 5, 2


@pytest.mark.parametrize(
    ("shares", "runs"),
    [
        ([0, 0, 0, 0], []),
        ([0, 0.3, 0, 0.2, 0], [range(1, 2), range(3, 4)]),
        ([0.1, 0.5, 0.4, 0.9, 0.1], [range(1, 4)]),
        ([0, 0.5, 0.5, 0.5, 0.5, 0], []),
        ([0.4, 0.5, 0.6, 0.7], []),
        ([0.5, 0, 0, 0.5], []),
        ([0.2, 0.24, 0.2], []),
        ([0.5, 0.9], []),
    ],
)
def test_a_flash_is_short_and_much_more_clipped_than_both_frames_beside_it(
    shares: list[float], runs: list[range]
) -> None:
    assert flashes(shares) == runs


def test_what_is_white_or_black_in_a_colour_is_clipped() -> None:
    image = torch.full((3, 40, 40), 0.5)
    assert clipped(image) == 0
    image[1, :20] = 1.0
    image[2, :, :20] = 0.0
    assert clipped(image) == pytest.approx(0.75)


def flashing(brightness: float) -> Segment:
    """A picture that moves by two pixels a frame to the left; frames 2 and 3 are clipped."""
    views = moving(LAST + 1, 64, 96, speed=SPEED)
    images = [views[index] for index in range(LAST + 1)]
    for index in (2, 3):
        images[index] = (images[index] + brightness).clamp(0, 1)
    video: Video = MemoryVideo(images)
    return Segment(video, 1, LAST, Frame(0, images[0]), Frame(LAST, images[-1]))


def linked(kind: str, segment: Segment) -> Links:
    if kind == "device":
        return batched.link(segment, DisTorch(), DeviceFrames(segment.video, torch.device("cpu")))
    return link(segment, Dis(), seen=kind == "seen")


@pytest.mark.parametrize("brightness", [1.0, -1.0])
@pytest.mark.parametrize("kind", ["plain", "seen", "device"])
def test_flow_over_a_flash_is_even_in_time(kind: str, brightness: float) -> None:
    links = linked(kind, flashing(brightness))
    for index in range(LAST):
        ahead, back = links.after(index), links.before(index + 1)
        for motion, speed in ((ahead, -SPEED), (back, SPEED)):
            middle = motion.offset[16:-16, 16:-16]
            assert np.abs(np.median(middle, axis=(0, 1)) - [speed, 0]).max() < 0.3
            assert np.abs(middle - [speed, 0]).max() < 1
            assert (motion.occluded is not None) == (kind == "seen")


@pytest.mark.parametrize("kind", ["plain", "device"])
def test_without_a_flash_flow_is_that_of_the_neighbours_alone(kind: str) -> None:
    segment = flashing(0.0)
    links = linked(kind, segment)
    flow = Dis().rough() if kind == "plain" else DisTorch().rough()
    for index in range(LAST):
        here, there = segment.video.frame(index), segment.video.frame(index + 1)
        alone = flow.offsets(here, there)
        found = links.after(index).offset, links.before(index + 1).offset
        for one, other in zip(alone, found, strict=True):
            expected = one[0].permute(1, 2, 0).half().float().numpy()
            bound = 0 if kind == "plain" else 2e-3
            assert np.abs(expected - other).max() <= bound
