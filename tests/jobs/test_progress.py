"""Seconds go to the stage that reports; bars on a terminal, few lines elsewhere."""

from __future__ import annotations

import io
from unittest.mock import patch

from rerender import peak_memory
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
