"""Segments made in torch with their flow, both directions and several at once."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from itertools import pairwise

import pytest
import torch
from torch import Tensor

from rerender.contracts import Propagation
from rerender.data.demo import Demo
from rerender.demo.world import HELD_OUT
from rerender.flow.dis_torch import DisTorch
from rerender.propagate import propagate
from rerender.propagation.blending.blend import Soft, TwoBand
from rerender.propagation.lanes import Lanes
from rerender.propagation.motion.batched import looked
from rerender.propagation.motion.graphed import CapturedWork, graphed, recorded
from rerender.propagation.patches.guides import Guides
from rerender.propagation.patches.search import Search
from rerender.propagation.patchmatch import PatchMatch
from rerender.video import Frame, Segment
from tests.propagation.scenes import translated

CPU, CUDA = torch.device("cpu"), torch.device("cuda")


def segments(last: int, keys: Sequence[int], motion: str = "fast") -> tuple[list[Segment], Tensor]:
    """A clip of the demo world between key frames, and the true frames."""
    clip = Demo((HELD_OUT,), motion, last + 1, size=64).clips()[0]
    assert clip.truth is not None
    found = [clip.truth.translation(index) for index in range(last + 1)]
    images = [image for image in found if image is not None]
    pairs = pairwise(keys)
    made = [
        Segment(clip.video, a + 1, b, Frame(a, images[a]), Frame(b, images[b])) for a, b in pairs
    ]
    return made, torch.stack(images)


def lanes(device: torch.device = CPU, temporal: float = 0.5) -> Lanes:
    guides = Guides(style=0.0, temporal=temporal)
    return Lanes(guides, Search(), 3.0, TwoBand(tolerance=4.0), device)


def psnr(found: Sequence[Tensor], expected: Tensor) -> float:
    return float(-10 * (torch.stack(list(found)) - expected).square().mean().log10())


@pytest.mark.parametrize("temporal", [0.5, 0.0])
@pytest.mark.parametrize(
    "device", [CPU, pytest.param(CUDA, marks=pytest.mark.gpu)], ids=["cpu", "cuda"]
)
def test_frames_are_as_good_as_those_of_the_processor(
    device: torch.device, temporal: float
) -> None:
    """The chain is in torch too, where the estimator is."""
    (segment,), truth = segments(6, (0, 6))
    guides = Guides(style=0.0, temporal=temporal)
    expected = list(PatchMatch(guides=guides, backend="auto").fill(segment, DisTorch()))
    made = list(lanes(device, temporal).fill([segment], DisTorch()))
    assert len(made) == 5 and all(image.device == CPU for image in made)
    assert psnr(made, torch.stack(expected)) > 40
    assert psnr(made, truth[1:6]) > psnr(expected, truth[1:6]) - 0.1


def again(work: Callable[..., tuple[Tensor, ...]], *inputs: Tensor) -> CapturedWork:
    """A recording on the processor: the work is done again, in the same memory."""
    given = [part.clone() for part in inputs]
    made = tuple(torch.full_like(part, torch.nan) for part in work(*given))

    def replay() -> None:
        for mine, new in zip(made, work(*given), strict=True):
            mine.copy_(new)

    return CapturedWork(given, made, replay)


@pytest.mark.parametrize(
    ("device", "record"),
    [(CPU, again), pytest.param(CUDA, recorded, marks=pytest.mark.gpu)],
    ids=["cpu", "cuda"],
)
def test_a_recording_gives_what_its_work_gives(
    device: torch.device, record: Callable[..., CapturedWork]
) -> None:
    random, kept = torch.Generator().manual_seed(0), []
    # One recording is played twice, one is of another shape, and one pushes the first out.
    for height in (40, 40, 48, 56, 40):
        size = (2, 3, height, 60)
        target, source = (255 * torch.rand(size, generator=random).to(device) for _ in range(2))
        offset = torch.randn(2, 2, *size[2:], generator=random).to(device)
        expected = looked(DisTorch(), target, source, offset)
        work = partial(looked, DisTorch())
        found = graphed(DisTorch(), work, target, source, offset, record=record)
        kept.append((found, expected))
    # Later ones leave the answers of earlier ones alone.
    for pair in kept:
        assert all(torch.equal(*parts) for parts in zip(*pair, strict=True))


def test_segments_of_any_length_are_made_together_as_alone() -> None:
    every, _ = segments(8, (0, 3, 8))
    left = every[0]
    every.insert(0, Segment(left.video, 0, 2, None, Frame(2, left.right.image)))  # type: ignore[union-attr]
    alone = [image for one in every for image in lanes().fill([one], DisTorch())]
    together = list(lanes().fill(every, DisTorch()))
    assert len(together) == len(alone) == 2 + 2 + 4
    for one, other in zip(together, alone, strict=True):
        assert (one - other).abs().mean() < 1e-3


def test_a_segment_without_an_end_is_followed_by_any_blend() -> None:
    every, truth = segments(4, (0, 4))
    (segment,) = every
    assert segment.left is not None
    endless = Segment(segment.video, 1, 4, segment.left, None)
    made = list(lanes().fill([endless], DisTorch()))
    held = [segment.left.image] * 3
    assert psnr(made, truth[1:4]) > psnr(held, truth[1:4]) + 3

    soft: Propagation = PatchMatch(blend=Soft(12.0), backend="torch")
    both = list(soft.fill(segment, DisTorch()))
    assert psnr(both, truth[1:4]) > psnr(made, truth[1:4]) - 1


def test_working_ahead_fills_several_segments_at_once() -> None:
    (segment,), truth = segments(8, (0, 8))
    video, part = segment.video, PatchMatch(backend="torch")
    runs = []
    for ahead in (1, 2):
        stream = (translated(index, truth[index]) for index in (0, 3, 5, 8))
        runs.append(list(propagate(video, stream, part, DisTorch(), ahead=ahead)))
    assert len(runs[0]) == len(runs[1]) == 9
    assert all((a - b).abs().mean() < 1e-3 for a, b in zip(*runs, strict=True))
