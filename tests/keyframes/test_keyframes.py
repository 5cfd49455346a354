"""First and last frames are always key, nothing is dropped, cuts get their own anchor."""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import islice, pairwise

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from rerender.contracts import KeyFrames
from rerender.data.demo import Demo
from rerender.errors import ConfigError
from rerender.flow.dis import Dis
from rerender.keyframes._disagreement import Explanation, suggestions
from rerender.keyframes._settling import settled, spaced, suggested
from rerender.keyframes._spacing import by_change
from rerender.keyframes.error import Error
from rerender.keyframes.manual import Manual
from rerender.keyframes.motion import Motion
from rerender.keyframes.scene_cut import SceneCut
from rerender.keyframes.uniform import Uniform
from rerender.video import MemoryVideo


def blank(count: int) -> MemoryVideo:
    return MemoryVideo([torch.zeros(3, 4, 4)] * count)


def covers(shots: Sequence[Sequence[int]], length: int) -> bool:
    """Shots follow each other without a gap, and their ends are key frames."""
    ends = [(shot[0], shot[-1]) for shot in shots]
    rising = all(a < b for shot in shots for a, b in pairwise(shot))
    joined = all(after[0] == before[1] + 1 for before, after in pairwise(ends))
    return rising and joined and ends[0][0] == 0 and ends[-1][1] == length - 1


def test_uniform_for_all_lengths_and_intervals() -> None:
    videos = [blank(length) for length in range(1, 201)]
    for interval in range(1, 201):
        uniform = Uniform(interval)
        for video in videos:
            (keys,) = uniform.pick(video)
            assert covers([keys], len(video))
            gaps = [b - a for a, b in pairwise(keys)]
            assert all(gap == interval for gap in gaps[:-1])
            assert all(1 <= gap <= interval for gap in gaps[-1:])


@pytest.mark.parametrize(
    ("length", "interval", "keys"),
    [(1, 10, [0]), (2, 10, [0, 1]), (10, 10, [0, 9]), (11, 10, [0, 10]), (12, 10, [0, 10, 11])],
)
def test_uniform_by_hand(length: int, interval: int, keys: list[int]) -> None:
    assert Uniform(interval).pick(blank(length)) == [keys]


def moving(count: int, seed: int, speed: float = 0.5) -> list[Tensor]:
    """A random texture that drifts: another one for each seed."""
    texture = torch.rand(3, 12, 40, generator=torch.Generator().manual_seed(seed))
    big = torch.nn.functional.interpolate(texture[None], (96, 320), mode="bicubic")[0].clamp(0, 1)
    return [big[:, :, int(i * speed) : int(i * speed) + 128] for i in range(count)]


def test_cuts_are_found() -> None:
    video = MemoryVideo([*moving(23, 1), *moving(7, 2), *moving(31, 3, 3.0)])
    shots = SceneCut(10).pick(video)
    assert [shot[0] for shot in shots] == [0, 23, 30]
    assert covers(shots, 61)
    assert shots[0] == [0, 10, 20, 22]


def test_motion_noise_and_flashes_are_no_cuts() -> None:
    noise = torch.Generator().manual_seed(5)
    frames = [frame + 0.05 * torch.randn(3, 96, 128, generator=noise) for frame in moving(50, 4, 3)]
    frames[20] = torch.ones(3, 96, 128)
    frames[30:32] = [frame * 0.9 for frame in frames[30:32]]
    assert len(SceneCut().pick(MemoryVideo(frames))) == 1


def test_a_fade_is_no_cut() -> None:
    first, second = moving(60, 1), moving(60, 2)
    weights = torch.linspace(0, 1, 60)
    frames = [a * (1 - w) + b * w for a, b, w in zip(first, second, weights, strict=True)]
    assert len(SceneCut().pick(MemoryVideo(frames))) == 1


@pytest.mark.parametrize("seed", [3, 1_000_000, 1_000_001])
def test_the_demo_world_cut(seed: int) -> None:
    (cut,) = Demo((seed,), "cut", frames=24, size=64).clips()
    for chooser in (SceneCut(5), Motion()):
        shots = chooser.pick(cut.video)
        assert [shot[0] for shot in shots] == [0, 12]
        assert covers(shots, 24)


@pytest.mark.parametrize("motion", ["slow", "fast", "crossing", "zoom"])
def test_demo_motion_is_no_cut(motion: str) -> None:
    (clip,) = Demo((1_000_000,), motion, frames=24, size=64).clips()
    assert len(SceneCut().pick(clip.video)) == 1


def test_motion_puts_key_frames_where_things_move() -> None:
    still, busy = moving(1, 1) * 30, moving(30, 1, 4.0)
    (keys,) = Motion(amount=0.05, min_gap=2, max_gap=15).pick(MemoryVideo([*still, *busy]))
    gaps = [b - a for a, b in pairwise(keys)]
    assert keys[:3] == [0, 15, 30]
    assert max(gaps[2:]) < 15
    assert min(gaps[:-1]) >= 2


@settings(max_examples=200, deadline=None)
@given(
    st.lists(st.floats(0, 0.1), min_size=1, max_size=80),
    st.integers(1, 10),
    st.integers(0, 20),
    st.floats(0.001, 0.5),
)
def test_gaps_stay_in_bounds(change: list[float], least: int, more: int, amount: float) -> None:
    keys = by_change(change, amount, (least, least + more), range(len(change)))
    assert covers([keys], len(change))
    gaps = [b - a for a, b in pairwise(keys)]
    assert all(least <= gap <= least + more for gap in gaps[:-1])
    assert all(gap <= least + more for gap in gaps)


def test_manual_adds_the_ends_of_every_shot() -> None:
    assert Manual((3, 5)).pick(blank(10)) == [[0, 3, 5, 9]]
    assert Manual().pick(blank(1)) == [[0]]
    shots = Manual((2, 4, 7), cuts=(4, 5)).pick(blank(10))
    assert shots == [[0, 2, 3], [4], [5, 7, 9]]


@pytest.mark.parametrize("chooser", [Manual((2, 10)), Manual(cuts=(10,))])
def test_manual_outside_the_video(chooser: Manual) -> None:
    with pytest.raises(ConfigError, match=r"frame 10 is not in the video, which has 10"):
        chooser.pick(blank(10))


@pytest.mark.parametrize(
    "values",
    [{"indices": (5, 3)}, {"indices": (3, 3)}, {"cuts": (4, 4)}, {"cuts": (0, 4)}],
)
def test_manual_lists_increase(values: dict[str, tuple[int, ...]]) -> None:
    with pytest.raises(ConfigError, match=next(iter(values))):
        Manual(**values)


def test_motion_refuses_crossed_gaps() -> None:
    with pytest.raises(ConfigError, match=r"min_gap: 9 is greater than max_gap, 5"):
        Motion(min_gap=9, max_gap=5)


@pytest.mark.parametrize("chooser", [Uniform(), SceneCut(), Motion(), Manual()])
@pytest.mark.parametrize("length", [1, 2, 3])
def test_tiny_videos(chooser: KeyFrames, length: int) -> None:
    video = MemoryVideo([torch.rand(3, 8, 8) for _ in range(length)])
    assert covers(chooser.pick(video), length)


def test_errors_put_key_frames_where_motion_fails() -> None:
    """Still, then a part that moves in jumps, then still: the key frames lie in the jumps."""
    texture = moving(1, 3)[0]
    other = [moving(1, seed)[0] for seed in (5, 6, 7)]
    frames = [texture] * 10 + [0.7 * texture + 0.3 * each for each in other] + [texture] * 10
    picked = Error(tolerance=0, budget=6, ratio=100).pick(MemoryVideo(frames))
    (keys,) = picked
    assert {10, 11, 12} <= set(keys) and len(keys) <= 6


def test_errors_stop_at_the_tolerance_and_at_the_budget() -> None:
    (clip,) = Demo(motion="fast", frames=17, size=64).clips()
    counts = [
        sum(map(len, Error(tolerance=tolerance).pick(clip.video))) for tolerance in (2.0, 6.0, 255)
    ]
    assert counts[0] > counts[1] >= counts[2] == 2
    assert sum(map(len, Error(tolerance=0, budget=4).pick(clip.video))) == 4
    kept = list(suggestions(Explanation(clip.video, [], Dis()), [0, 16]))
    assert sorted(each.frame for each in kept) == list(range(1, 16))
    assert all(each.gain >= -0.5 for each in kept)


def test_a_shot_without_a_key_frame_comes_first() -> None:
    (clip,) = Demo(motion="cut", frames=12, size=64).clips()
    explanation = Explanation(clip.video, [6], Dis())
    found = next(suggestions(explanation, [0, 5]))
    assert found.frame >= 6 and found.gain > 3
    assert explanation.stretches([5, 0]) == [(0, 5, 1, 5), (None, None, 6, 12)]


def test_moving_key_frames_leaves_less_error_and_finds_the_middle() -> None:
    """Steady motion: of one key frame between two the middle is best, wherever it is begun; and
    what is kept of ways that were followed changes no number."""
    texture = moving(1, 3)[0]
    video = MemoryVideo([(texture.roll(i, -1) * (1 - 0.004 * i * i)) for i in range(11)])
    explanation = Explanation(video, [], Dis())
    for begun in (2, 8):
        (found,) = settled([0, 10], [begun], explanation)
        assert explanation.left([0, found, 10]) <= explanation.left([0, begun, 10])
    fresh = Explanation(video, [], Dis())
    assert explanation.left([0, 5, 10]) == fresh.left([10, 0, 5])


@pytest.mark.parametrize(
    ("shots", "count", "keys"),
    [
        ([range(41)], 5, [3, 11, 20, 29, 37]),  # 40 = (4 + 2/3) gaps of 8.6
        ([range(20), range(20, 41)], 6, [3, 11, 19, 20, 29, 37]),  # 19, 20 = (2 + 1/3) gaps
        ([range(10), range(10, 20), range(20, 30)], 7, [1, 5, 9, 10, 19, 20, 27]),
        ([range(1), range(1, 5)], 5, [0, 1, 2, 3, 4]),
    ],
)
def test_evenly_spaced_ones_by_hand(shots: list[range], count: int, keys: list[int]) -> None:
    assert spaced(shots, count) == keys


def test_a_spent_budget_leaves_the_ends_of_the_video_but_no_cut() -> None:
    """Even motion: an outermost key frame is worth more inside; at a cut nothing may be carried."""
    (clip,) = Demo(motion="slow", frames=25, size=64).clips()
    (keys,) = Error(tolerance=0, budget=3).pick(clip.video)
    assert 0 < keys[0] < keys[1] < keys[2] < 24
    explanation = Explanation(clip.video, [], Dis())
    assert explanation.left(keys) < explanation.left([0, 12, 24])
    (cut,) = Demo(motion="cut", frames=24, size=64).clips()
    before, after = Error(tolerance=0, budget=5).pick(cut.video)
    assert (before[-1], after[0]) == (11, 12) and before[0] > 0 and len(before) + len(after) == 5


def test_key_frames_are_not_moved_over_a_cut_or_each_other() -> None:
    (clip,) = Demo(motion="cut", frames=12, size=64).clips()
    explanation = Explanation(clip.video, [6], Dis())
    assert explanation.room([0, 5, 11], 3) == (1, 5)
    assert explanation.room([0, 11], 8) == (6, 11)
    assert explanation.room([], 3) == (0, 6)
    found = settled([0, 5, 6, 11], [2, 3, 8], explanation)
    assert len({*found}) == 3 and found[0] < found[1] < 5 and 6 < found[2] < 11


def test_suggestions_are_chosen_together_and_ordered() -> None:
    (clip,) = Demo(motion="fast", frames=13, size=32).clips()
    found = suggested(clip.video, [0, 12], [], Dis(), 3)
    frames = [each.frame for each in found]
    explanation = Explanation(clip.video, [], Dis())
    greedy = [each.frame for each in islice(suggestions(explanation, [0, 12]), 3)]
    assert explanation.left([0, 12, *frames]) <= explanation.left([0, 12, *greedy])
    assert explanation.left([0, 12, frames[0]]) == min(
        explanation.left([0, 12, frame]) for frame in frames
    )
    gain = 10 * math.log10(explanation.left([0, 12]) / explanation.left([0, 12, frames[0]]))
    assert found[0].gain == pytest.approx(gain)
