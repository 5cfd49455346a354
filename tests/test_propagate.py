"""The verb: what is cut where, when it is handed out, and what is refused."""

from __future__ import annotations

import weakref
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import pairwise

import pytest
import torch
from torch import Tensor

from rerender.contracts import FlowEstimator, KeyFrames, Propagation
from rerender.data.demo import Demo
from rerender.errors import InputError
from rerender.keyframes.manual import Manual
from rerender.keyframes.motion import Motion
from rerender.keyframes.scene_cut import SceneCut
from rerender.propagate import propagate
from rerender.propagation.hold import Hold
from rerender.scene import Translation, Watch
from rerender.video import KeyFrame, MemoryVideo, Segment
from tests.propagation.scenes import Names, NoFlow, keys, moving, still, translated

BLANK = torch.zeros(3, 1, 1)


def blank(frames: int) -> MemoryVideo:
    return MemoryVideo([BLANK] * frames)


def sources(video: MemoryVideo, stream: Iterator[Translation]) -> list[tuple[int, int] | None]:
    """For each frame the key frames it was made from; None for a key frame itself."""
    made = []
    for index, image in enumerate(propagate(video, stream, Names(), NoFlow())):
        left, own, right = (int(channel[0, 0]) for channel in image)
        is_key = (left, own, right) == (0, 0, 0)
        assert is_key or own == index
        made.append(None if is_key else (left, right))
    return made


def blacks(indices: Sequence[int], shots: Sequence[int] | None = None) -> Iterator[Translation]:
    shots = shots or [0] * len(indices)
    return (translated(index, BLANK, shot) for index, shot in zip(indices, shots, strict=True))


@pytest.mark.parametrize("interval", [1, 2, 3, 7, 10, 16, 50, 199, 250])
def test_as_many_frames_come_out_as_went_in(interval: int) -> None:
    for count in range(1, 201):
        indices = sorted({*range(0, count, interval), count - 1})
        images = list(propagate(blank(count), blacks(indices), Hold(), NoFlow()))
        assert len(images) == count


def test_frame_count_for_every_length_and_interval() -> None:
    """The cutting alone, so that all 40 000 cases take a second."""
    from rerender.propagate import cut

    key = torch.zeros(3, 1, 1)
    video = blank(200)
    for interval in range(1, 201):
        for count in range(1, 201, 13 if interval > 20 else 1):
            clip = MemoryVideo([key] * count) if count < 200 else video
            keys = [None, *(KeyFrame(i, key) for i in range(0, count, interval)), None]
            pieces = [piece for pair in pairwise(keys) for piece in cut(clip, *pair)]
            assert sum(len(p) if isinstance(p, Segment) else 1 for p in pieces) == count


def test_each_frame_sees_the_key_frames_on_its_two_sides() -> None:
    made = sources(blank(8), blacks([0, 3, 7]))
    assert made == [None, (0, 3), (0, 3), None, (3, 7), (3, 7), (3, 7), None]


def test_ends_without_a_key_frame_are_filled_from_one_side() -> None:
    assert sources(blank(5), blacks([2])) == [(-1, 2), (-1, 2), None, (2, -1), (2, -1)]


def test_nothing_crosses_the_border_of_a_shot() -> None:
    made = sources(blank(9), blacks([0, 3, 4, 8], [0, 0, 1, 1]))
    assert made[1] == (0, 3)
    assert made[5] == (4, 8)
    apart = sources(blank(6), blacks([0, 5], [0, 1]))
    assert apart == [None, (0, -1), (0, -1), (-1, 5), (-1, 5), None]


def owners(keys: list[int], cuts: list[int], count: int, shots: list[int] | None = None) -> str:
    """For each frame the key frames it was made from, L, R, both (B), or K for a key frame."""
    images = propagate(blank(count), blacks(keys, shots), Names(), NoFlow(), cuts=cuts)
    said = ""
    for index, image in enumerate(images):
        left, _, right = (int(channel[0, 0]) for channel in image)
        said += "K" if index in keys else "B" if min(left, right) >= 0 else "LR"[left < 0]
    return said


@pytest.mark.parametrize(
    ("keys", "cuts", "made"),
    [
        ([0, 8], [], "KBBBBBBBK"),
        ([0, 8], [3], "KLLRRRRRK"),
        ([0, 8], [1], "KRRRRRRRK"),
        ([0, 8], [8], "KLLLLLLLK"),
        ([0, 4, 8], [6], "KBBBKLRRK"),
        ([0, 4, 8], [4], "KLLLKBBBK"),
    ],
)
def test_a_segment_ends_at_its_cut(
    keys: list[int], cuts: list[int], made: str, caplog: pytest.LogCaptureFixture
) -> None:
    assert owners(keys, cuts, 9) == made
    shots = [sum(cut <= key for cut in cuts) for key in keys]
    assert owners(keys, cuts, 9, shots) == made
    assert not caplog.messages


@pytest.mark.parametrize(
    ("keys", "cuts", "made", "told"),
    [
        ([0, 9], [2, 5], "KLLLLRRRRK", "frames 2 to 4: no key frame lies in this shot; it is "
         "filled from the nearest, frame 0, which is of another"),
        ([0, 9], [5, 8], "KLLLLRRRRK", "frames 5 to 7"),
        ([4], [2], "RRRRKLLLLL", "frames 0 to 1"),
        ([4], [9], "RRRRKLLLLL", "frame 9:"),
        ([4], [4], "RRRRKLLLLL", "frames 0 to 3"),
    ],
)  # fmt: skip
def test_a_shot_without_a_key_frame_is_filled_from_the_nearer_and_said(
    keys: list[int], cuts: list[int], made: str, told: str, caplog: pytest.LogCaptureFixture
) -> None:
    assert owners(keys, cuts, 10) == made
    assert len(caplog.messages) == 1 and caplog.messages[0].startswith(told)


@pytest.mark.parametrize("keyframes", [SceneCut(5), Motion(), Manual((7,), cuts=(12,))])
def test_pickers_hand_on_the_borders_of_shots(keyframes: KeyFrames) -> None:
    """Runs need no cuts here: both frames at a border are key, so nothing lies between shots."""
    (clip,) = Demo(motion="cut", frames=24, size=64).clips()
    shots = keyframes.pick(clip.video)
    keys = [index for shot in shots for index in shot]
    numbers = [number for number, shot in enumerate(shots) for _ in shot]
    assert {11, 12} <= set(keys)
    made = owners(keys, [], 24, numbers)
    assert set(made) <= set("KB") and made == owners(keys, [12], 24, numbers)


def test_key_frames_are_handed_on_untouched() -> None:
    video = still(7)
    images = list(propagate(video, keys(video, [0, 4, 6]), Hold(), NoFlow()))
    for index in (0, 4, 6):
        assert torch.equal(images[index], 1 - video[index])


def test_values_outside_the_range_are_clipped() -> None:
    video = still(3)
    wild = translated(1, video[0] * 3 - 1)
    for image in propagate(video, [wild], Hold(), NoFlow()):
        assert image.min() >= 0 and image.max() <= 1


def test_frames_come_before_the_next_key_frame_is_asked_for() -> None:
    asked: list[int] = []

    def slow() -> Iterator[Translation]:
        for index in (0, 4, 8):
            asked.append(index)
            yield translated(index, BLANK)

    images = propagate(blank(9), slow(), Hold(), NoFlow())
    for _ in range(5):
        next(images)
    assert asked == [0, 4]


@dataclass(frozen=True)
class ManyAtOnce(Hold):
    """Notes how many segments it is given at once."""

    given: list[int] = field(default_factory=list)

    def batches(self) -> bool:
        return True

    def fill_all(self, segments: Sequence[Segment], flow: FlowEstimator) -> Iterator[Tensor]:
        self.given.append(len(segments))
        yield from super().fill_all(segments, flow)


def test_segments_are_made_at_once_where_that_is_better() -> None:
    video, many = moving(23), ManyAtOnce()
    plain = list(propagate(video, keys(video, range(1, 23, 4)), Hold(), NoFlow()))
    busy = list(propagate(video, keys(video, range(1, 23, 4)), many, NoFlow(), ahead=3))
    assert all(torch.equal(*pair) for pair in zip(plain, busy, strict=True))
    assert many.given == [3, 3]


@pytest.mark.parametrize("ahead", [2, 5])
def test_working_ahead_changes_nothing(ahead: int) -> None:
    video = still(23)
    plain = list(propagate(video, keys(video, range(0, 23, 4)), Hold(), NoFlow()))
    busy = list(propagate(video, keys(video, range(0, 23, 4)), Hold(), NoFlow(), ahead=ahead))
    assert all(map(torch.equal, plain, busy))
    assert len(plain) == len(busy) == 23


def test_every_frame_is_reported() -> None:
    told: list[tuple[str, int, int]] = []

    class Ear(Watch):
        def advance(self, stage: str, done: int, total: int, note: str = "") -> None:
            told.append((stage, done, total))

    list(propagate(blank(4), blacks([0, 3]), Hold(), NoFlow(), Ear()))
    assert told == [("propagate", done, 4) for done in (1, 2, 3, 4)]


@pytest.mark.parametrize("indices", [[3, 3], [4, 2], [9], [-1]])
def test_key_frames_of_another_video_are_refused(indices: list[int]) -> None:
    with pytest.raises(InputError, match="key frame"):
        list(propagate(blank(8), blacks(indices), Hold(), NoFlow()))


def test_a_key_frame_of_another_size_is_refused() -> None:
    with pytest.raises(InputError, match=r"received \[2, 2\]"):
        list(propagate(blank(2), [translated(0, torch.zeros(3, 2, 2))], Hold(), NoFlow()))


def test_no_key_frame_at_all_is_refused() -> None:
    with pytest.raises(InputError, match="no translated key frame"):
        list(propagate(blank(2), [], Hold(), NoFlow()))


def test_a_propagation_that_miscounts_is_a_bug() -> None:
    @dataclass(frozen=True)
    class Short(Propagation):
        def fill(self, segment: Segment, flow: FlowEstimator) -> Iterator[Tensor]:
            yield BLANK

    with pytest.raises(RuntimeError, match="made 1 of 2 frames"):
        list(propagate(blank(4), blacks([0, 3]), Short(), NoFlow()))


def test_a_trace_is_let_go_when_its_frame_is_handed_out() -> None:
    alive: list[weakref.ref[Translation]] = []

    def watched(index: int) -> Translation:
        key = translated(index, BLANK)
        alive.append(weakref.ref(key))
        return key

    images = propagate(blank(3), map(watched, (0, 1, 2)), Hold(), NoFlow())
    next(images)
    assert alive[0]() is None


@pytest.mark.parametrize("first", [0, 1, 4, 5, 9])
@pytest.mark.parametrize("ahead", [1, 2])
def test_what_is_made_already_is_left_out(first: int, ahead: int) -> None:
    """From a key frame on, or from the frame after one, the rest is what it always is."""
    video = MemoryVideo([torch.full((3, 2, 2), index / 20) for index in range(12)])
    stream = [translated(index, torch.rand(3, 2, 2)) for index in (0, 4, 8)]
    whole = list(propagate(video, stream, Hold(), NoFlow()))
    rest = list(propagate(video, stream, Hold(), NoFlow(), ahead=ahead, first=first))
    assert all(torch.equal(a, b) for a, b in zip(whole[first:], rest, strict=True))
