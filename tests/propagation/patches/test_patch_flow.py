"""Where flow has failed, patches find what it lost; elsewhere nothing changes."""

from __future__ import annotations

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from rerender.flow.dis import Dis
from rerender.propagation.patches.cubic import paired, warped
from rerender.propagation.patches.patch_flow import PatchFlow
from rerender.propagation.warp import Warp
from rerender.video import Frame, MemoryVideo, Segment
from tests.propagation.scenes import texture

SIZE = (64, 96)
Image = NDArray[np.float32]


def scene(place: int) -> tuple[Image, Image]:
    """A bright square ``place`` pixels to the right on a quiet ground, and the same in a look of
    other colours, both in levels."""
    ground = cv2.GaussianBlur(texture(*SIZE).permute(1, 2, 0).numpy(), (0, 0), 3)
    source = 60 + 60 * ground.astype(np.float32)
    spots = texture(20, 20, seed=1).permute(1, 2, 0).numpy()
    source[22:42, place : place + 20] = 150 + 100 * spots
    return source, np.ascontiguousarray(255 - source[..., ::-1])


def inside(error: Image, place: int) -> float:
    return float(error[25:39, place + 3 : place + 17].mean())


def test_what_flow_lost_is_found() -> None:
    """The square has moved by 30 pixels, flow says that nothing moves."""
    source, style = scene(8)
    target, wanted = scene(38)
    still = np.zeros((*SIZE, 2), np.float32)
    lost = warped(paired(style, source), still, target)
    found = PatchFlow(style, source, 10).warped(still, target, 3)
    assert inside(np.abs(lost.image - wanted).mean(-1), 38) > 50
    assert inside(np.abs(found.image - wanted).mean(-1), 38) < 6
    assert inside(found.error, 38) < 0.05 * inside(lost.error, 38)
    # What is behind the square is in no other place, but flow is right about the rest.
    assert np.array_equal(found.image[:15], lost.image[:15])


def test_the_same_seed_gives_the_same_bytes_in_any_order() -> None:
    (source, style), (target, _) = scene(8), scene(38)
    still = np.zeros((*SIZE, 2), np.float32)
    once, again = PatchFlow(style, source, 10), PatchFlow(style, source, 10)
    first = once.warped(still, target, 3)
    again.warped(still, scene(30)[0], 4)
    assert np.array_equal(first.image, again.warped(still, target, 3).image)


@pytest.mark.parametrize("failed", [10, 255])
def test_flow_that_holds_stays_as_it_is(failed: float) -> None:
    source, style = scene(8)
    still = np.zeros((*SIZE, 2), np.float32)
    target = source + 3
    if failed == 255:
        target = scene(38)[0]
    plain = warped(paired(style, source), still, target)
    found = PatchFlow(style, source, failed).warped(still, target, 0)
    assert all(np.array_equal(*pair) for pair in zip(plain[:2], found[:2], strict=True))


def test_warp_follows_a_leap_between_neighbours() -> None:
    """Nothing moves until the square leaps further than flow can follow."""
    from rerender.propagation.motion import pixels

    places = (8, 8, 8, 52)
    scenes = [scene(place) for place in places]
    video = MemoryVideo([pixels.image(source) for source, _ in scenes])
    segment = Segment(video, 3, 4, Frame(2, pixels.image(scenes[2][1])), None)

    def error(part: Warp) -> float:
        (image,) = part.fill(segment, Dis())
        return inside(np.abs(pixels.levels(image) - scenes[3][1]).mean(-1), 52)

    assert error(Warp()) < 0.3 * error(Warp(failed=255))
