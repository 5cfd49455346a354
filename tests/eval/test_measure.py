"""One pass over both videos serves all metrics, in constant memory."""

from __future__ import annotations

import weakref
from collections import Counter
from dataclasses import dataclass, field, replace
from fractions import Fraction
from typing import ClassVar

import pytest
import torch
from torch import Tensor

from eval.contracts import Metric
from eval.measure import score
from eval.metrics.duration import Duration
from eval.metrics.flicker import Flicker
from eval.metrics.frame_count import FrameCount
from eval.metrics.psnr import Psnr
from eval.metrics.warp_error import WarpError
from rerender.errors import ConfigError, InputError
from rerender.flow.field import Flow
from rerender.scene import Watch
from rerender.video import Clip, Frame, MemoryVideo
from tests.eval.toys import Shift, clip_of, picture, shifting


class Counting(MemoryVideo):
    """Counts how often each frame is decoded."""

    def __init__(self, frames: list[Tensor]) -> None:
        super().__init__(frames)
        self.reads: Counter[int] = Counter()

    def __getitem__(self, index: int) -> Tensor:
        self.reads[index] += 1
        return super().__getitem__(index)


@dataclass(frozen=True)
class CountingShift(Shift):
    asked: list[tuple[int, int]] = field(default_factory=list)

    def between(self, target: Frame, source: Frame) -> Flow:
        self.asked.append((target.index, source.index))
        return super().between(target, source)


METRICS: list[Metric] = [
    WarpError(),
    WarpError(span=2.0),
    FrameCount(),
    Duration(),
    Psnr(),
]
NAMES = ["warp_error", "warp_error_signed", "frame_count", "duration", "psnr"]


def test_each_frame_and_each_flow_once() -> None:
    source, result = Counting(shifting(19)), Counting(shifting(19))
    flow = CountingShift(1)
    clip = replace(clip_of(shifting(2)), video=source)
    rows = score(clip, result, METRICS, flow, "ours")
    assert set(source.reads.values()) == set(result.reads.values()) == {1}
    assert sorted(flow.asked) == [(i, i - 1) for i in range(1, 19)]
    assert [row.metric for row in rows] == NAMES
    assert rows[1].value == pytest.approx(4 * (rows[0].value or 0))


def test_batching_does_not_change_a_curve(monkeypatch: pytest.MonkeyPatch) -> None:
    source = shifting(11, smooth=2)
    result = [frame + 0.1 * picture(24, 32, i) for i, frame in enumerate(source)]
    metrics = [WarpError(), WarpError(reference="first")]
    curves = []
    for size in (1, 3, 64):
        monkeypatch.setattr("eval.measure.BATCH", size)
        rows = score(clip_of(source), MemoryVideo(result), metrics, Shift(1), "ours")
        curves.append([row.curve for row in rows])
    assert curves[0] == curves[1] == curves[2]


def test_lost_frames_are_counted_and_what_cannot_be_paired_is_null() -> None:
    rows = score(clip_of(shifting(10)), MemoryVideo(shifting(10)[:7]), METRICS, Shift(1), "rival")
    found = {row.metric: row for row in rows}
    assert (found["frame_count"].value, found["frame_count"].n) == (3, 7)
    assert found["duration"].value == pytest.approx(3 / 25)
    assert found["warp_error"].value is None
    assert found["warp_error"].note.startswith("n/a: 7 frames in 0.28 s, the source has 10 in 0.4")
    rows = score(
        clip_of(shifting(10)), MemoryVideo(shifting(10)[3:]), METRICS, Shift(1), "rival", offset=3
    )
    found = {row.metric: row for row in rows}
    assert found["warp_error"].value == pytest.approx(0, abs=1e-9)
    assert found["warp_error"].n == 6
    assert found["warp_error"].remark == "7 of 10 frames, from frame 3 on, as its offset.txt says"


def test_values_over_the_border_of_shots_are_left_out() -> None:
    """A cut half-way: the truth is as steady as each of its shots, though they differ."""
    dark, bright = shifting(8, seed=1), shifting(8, seed=2)
    frames = [*(0.2 * frame for frame in dark), *(0.7 + 0.2 * frame for frame in bright)]
    metrics = [WarpError(), WarpError(reference="first"), Flicker()]
    rows = score(clip_of(frames), MemoryVideo(frames), metrics, Shift(1), "source")
    short, long, flicker = ([i for i, v in enumerate(r.curve) if v is None] for r in rows)
    assert (short, long, flicker) == ([0, 8], [0], [0, 1, 8, 9])
    assert rows[0].value == pytest.approx(0, abs=1e-12)


def test_half_the_rate_is_paired_by_time() -> None:
    """A perfect result at half the rate is perfect; frames by position would not fit."""
    frames = shifting(21, smooth=2)
    half = MemoryVideo(frames[::2], rate=Fraction(25, 2))
    (row,) = score(clip_of(frames), half, [WarpError()], Shift(1), "half")
    assert row.value == pytest.approx(0, abs=1e-12) and row.n == 10
    assert row.remark == "11 of 21 frames, paired by time"


def test_another_size_is_brought_to_the_source_and_said() -> None:
    large = [torch.full((3, 48, 64), 0.5)] * 4
    (row,) = score(clip_of([picture()] * 4), MemoryVideo(large), [WarpError()], Shift(), "rival", 7)
    assert (row.value, row.seed, row.remark) == (0, 7, "resized from 64x48 to 32x24")


def test_progress_is_told() -> None:
    class Told(Watch):
        said: ClassVar[list[tuple[str, int, int, str]]] = []

        def advance(self, stage: str, done: int, total: int, note: str = "") -> None:
            self.said.append((stage, done, total, note))

    score(clip_of(shifting(10)), MemoryVideo(shifting(10)), METRICS, Shift(1), "m", watch=Told())
    assert Told.said == [("score", 8, 10, "toy"), ("score", 10, 10, "toy")]


def test_not_finite_is_null() -> None:
    broken = [torch.full((3, 24, 32), float("nan"))] * 3
    (row,) = score(clip_of([picture()] * 3), MemoryVideo(broken), [WarpError()], Shift(), "broken")
    assert row.value is None and row.curve == (None, None, None)


def test_an_empty_video_is_refused() -> None:
    empty = Clip("none", MemoryVideo([]), "x")
    with pytest.raises(InputError, match="no frames"):
        score(empty, MemoryVideo([picture()]), METRICS, Shift(), "m")


def test_two_of_one_name_are_refused() -> None:
    with pytest.raises(ConfigError, match="psnr, psnr"):
        score(clip_of(shifting(2)), MemoryVideo(shifting(2)), [Psnr(), Psnr()], Shift(), "m")


def test_frames_are_let_go_of() -> None:
    alive: weakref.WeakSet[Tensor] = weakref.WeakSet()
    most = 0

    class Fleeting(MemoryVideo):
        def __getitem__(self, index: int) -> Tensor:
            nonlocal most
            image = super().__getitem__(index).clone()
            alive.add(image)
            most = max(most, len(alive))
            return image

    frames = shifting(80)
    clip = replace(clip_of(frames), video=Fleeting(frames))
    metrics = [WarpError(), WarpError(reference="first"), Psnr()]
    score(clip, Fleeting(frames), metrics, Shift(1), "m")
    assert most <= 4 * (2 * 8 + 2)  # two batches and the frames they are compared with, both videos
