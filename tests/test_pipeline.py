"""What is done to finished frames: blended with the source, then filtered; and nearest by time."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from fractions import Fraction
from typing import TYPE_CHECKING

import pytest
import torch

from rerender.pipeline import render
from rerender.propagation.hold import Hold
from rerender.propagation.nearest import Nearest
from rerender.smooth.gaussian import Gaussian
from rerender.translation.references import ResumePoint
from rerender.video import Frame, MemoryVideo, Segment
from tests.scenes import SCENE, Shift, parts

if TYPE_CHECKING:
    from rerender.model.diffusion import StableDiffusion


def test_every_frame_is_blended_with_its_source_key_frames_too(tiny: StableDiffusion) -> None:
    plain = list(render(SCENE, tiny, parts()))
    blended = list(render(SCENE, tiny, replace(parts(), blend_source=0.3)))
    assert len(blended) == len(plain) == len(SCENE.video)
    for index, (frame, before) in enumerate(zip(blended, plain, strict=True)):
        expected = 0.7 * before + 0.3 * SCENE.video[index]
        assert torch.allclose(frame, expected, atol=1e-6)
    source = list(render(SCENE, tiny, replace(parts(), blend_source=1.0)))
    assert all(torch.allclose(f, SCENE.video[i], atol=1e-6) for i, f in enumerate(source))


def test_a_run_taken_up_blends_the_right_frames(tiny: StableDiffusion) -> None:
    class Later(ResumePoint):
        first = 2

    chosen = replace(parts(), blend_source=0.5)
    whole = list(render(SCENE, tiny, chosen))
    rest = list(render(SCENE, tiny, chosen, resume=Later()))
    assert len(rest) == len(whole) - 2
    assert all(torch.equal(one, two) for one, two in zip(rest, whole[2:], strict=True))


def test_the_filter_comes_after_the_blend(tiny: StableDiffusion) -> None:
    chosen = replace(parts(), blend_source=0.5)
    filtered = list(render(SCENE, tiny, replace(chosen, smooth=Gaussian(sigma=0.5))))
    blended = iter(render(SCENE, tiny, chosen))
    expected = list(Gaussian(sigma=0.5).run(blended, SCENE.video, Shift()))
    assert all(torch.allclose(a, b) for a, b in zip(filtered, expected, strict=True))


class Uneven(MemoryVideo):
    """A video of variable frame rate."""

    def __init__(self, times: Sequence[Fraction]) -> None:
        super().__init__([torch.full((3, 32, 32), 0.5)] * len(times))
        self.times = tuple(times)

    @property
    def timestamps(self) -> Sequence[Fraction]:
        return self.times


@pytest.mark.parametrize("kind", [Hold, Nearest])
def test_the_nearest_key_frame_is_nearest_in_time(kind: type[Hold | Nearest]) -> None:
    black, white = torch.zeros(3, 32, 32), torch.ones(3, 32, 32)

    def shown(times: Sequence[Fraction]) -> list[int]:
        video = Uneven(times)
        last = len(times) - 1
        segment = Segment(video, 1, last, Frame(0, black), Frame(last, white))
        frames = kind().fill(segment, Shift(0))
        return [round(float(frame.mean())) for frame in frames]

    even = [Fraction(i, 25) for i in range(6)]
    assert shown(even) == [0, 0, 1, 1]
    assert shown([Fraction(i, 25) for i in range(5)]) == [0, 0, 1], "the earlier one at a tie"
    slow = [Fraction(0), *(Fraction(2) + Fraction(i, 25) for i in range(5))]
    assert shown(slow) == [1, 1, 1, 1], "all lie two seconds after the first"
    rounded = [Fraction(round(i * 1000 / 30), 1000) for i in range(5)]  # as in Matroska
    assert shown(rounded) == [0, 0, 1]
