"""Seconds go to the stage that reports; bars on a terminal, few lines elsewhere."""

from __future__ import annotations

import io
from unittest.mock import patch

from numba import njit

from rerender import peak_memory
from rerender.compiled import _watched, compile_seconds
from rerender.jobs.progress import EVERY, TRIM, Progress


class Clock:
    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_stages_that_take_turns_share_the_time() -> None:
    clock = Clock()
    progress = Progress(io.StringIO(), clock)
    for seconds, stage in ((3, "load"), (2, "a"), (5, "b"), (1, "a")):
        clock.now += seconds
        if stage == "load":
            progress.count(stage)
        else:
            progress.advance(stage, 1, 9)
    assert progress.seconds == {"load": 3, "a": 3, "b": 5}


def test_without_a_terminal_there_is_a_line_now_and_then() -> None:
    clock, stream = Clock(), io.StringIO()
    progress = Progress(stream, clock)
    for done in range(1, 41):
        clock.now += 1
        progress.advance("frames", done, 40)
    lines = stream.getvalue().splitlines()
    assert lines[0] == "frames: 1 of 40 (1.0 s, about 39 s left)"
    assert lines[-1] == "frames: 40 of 40 (40.0 s)"
    assert len(lines) == 1 + 39 // EVERY + 1


def test_computing_is_counted_without_load_of_others_and_compiling_apart() -> None:
    """The clock runs on while other processes compute; what this one spent does not."""
    clock, cost = Clock(), Clock()
    progress = Progress(io.StringIO(), clock, cost)
    with patch("rerender.jobs.progress.compile_seconds", lambda: compiled.now):
        compiled = Clock()
        progress = Progress(io.StringIO(), clock, cost)
        clock.now, cost.now, compiled.now = clock.now + 9, cost.now + 4, compiled.now + 3
        progress.advance("propagate", 1, 2)
        clock.now, cost.now = clock.now + 9, cost.now + 1
        progress.advance("propagate", 2, 2)
    assert progress.seconds == {"propagate": 18}
    assert progress.spent == {"propagate": 2, "compile": 3}


def test_compiling_a_loop_is_noticed() -> None:
    def loop(count: int) -> int:
        total = 0
        for i in range(count):
            total += i * i
        return total

    before = compile_seconds()
    quick = njit(loop)
    _watched()
    assert quick(10) == 285
    once = compile_seconds()
    assert once > before
    assert quick(11) == 385 and compile_seconds() == once, "it is compiled already"


def test_lines_say_job_and_clip_and_what_is_left_of_all_clips() -> None:
    """Three clips of 10, 20 and 10 frames, 1 s a frame and then 2 s a frame to score it."""
    clock, stream = Clock(), io.StringIO()
    progress = Progress(stream, clock, clock, label="job 2 of 5")
    frames = [10, 20, 10]
    progress.clips([(f"c{i}", n) for i, n in enumerate(frames)])
    lefts: list[tuple[float, float]] = []  # told and true
    whole, begun = sum(3 * n for n in frames), clock.now
    for place, count in enumerate(frames):
        progress.clip()
        for stage, cost in (("translate", 1), ("score", 2)):
            for done in range(1, count + 1):
                clock.now += cost
                progress.advance(stage, done, count)
                told = progress._left.seconds()
                if place and told is not None:
                    lefts.append((told, whole - (clock.now - begun)))
    assert all(abs(told - true) < 1e-6 for told, true in lefts) and len(lefts) == 60
    lines = stream.getvalue().splitlines()
    assert lines[0].startswith(
        "job 2 of 5, clip 1 of 3: translate: 1 of 10 (1.0 s, about 39 s left"
    )
    assert (
        "job 2 of 5, clip 2 of 3: score: 20 of 20 (40.0 s, about 30 s left for all clips)" in lines
    )
    assert lines[-1] == "job 2 of 5, clip 3 of 3: score: 10 of 10 (20.0 s)"


def test_jobs_side_by_side_write_whole_lines_also_on_a_terminal() -> None:
    class Counted(Terminal):
        writes = 0

        def write(self, text: str) -> int:
            assert text.endswith("\n") and text.count("\n") == 1
            self.writes += 1
            return super().write(text)

    stream = Counted()
    progress = Progress(stream, label="job 1 of 2", bars=False)
    progress.advance("translate", 3, 3)
    progress.close()
    assert stream.writes == 1 and stream.getvalue().startswith("job 1 of 2: translate: 3 of 3 (")


def test_a_terminal_shows_a_bar_for_each_stage() -> None:
    stream = Terminal()
    progress = Progress(stream)
    for done in range(1, 4):
        progress.advance("translate", done, 3, "frame 7")
        progress.advance("propagate", done, 5)
    progress.close()
    text = stream.getvalue()
    assert "translate : 100%" in text
    assert "propagate :  60%" in text
    assert "frame 7" in text


def test_a_stage_may_begin_again_for_the_next_clip() -> None:
    stream = Terminal()
    progress = Progress(stream)
    for total in (2, 3):
        for done in range(1, total + 1):
            progress.advance("score", done, total)
    progress.close()
    assert stream.getvalue().count("100%") == 2


def test_freed_memory_is_given_back_now_and_then() -> None:
    progress = Progress(io.StringIO(), Clock())
    with patch.object(peak_memory, "give_back") as given:
        for done in range(2 * TRIM):
            progress.advance("score", done, 1000)
    assert given.call_count == 2
