"""The bench of damage: mutants of every kind of file, and what it calls a fault."""

from __future__ import annotations

import json
from pathlib import Path
from random import Random

import pytest

from experiments.bench.damage import mutations as ways
from experiments.bench.damage.__main__ import (
    BUG,
    MISCOUNT,
    OK,
    REFUSED,
    WARNED,
    WRONG,
    judged,
    main,
)
from experiments.bench.damage.kinds import COUNT, MutantTrial, video_difference
from experiments.bench.damage.seeds import video
from tests.faults import forked


@pytest.mark.parametrize(
    ("code", "said", "wrong", "verdict"),
    [
        (0, "", "", OK),
        (0, "warning: a.mp4: 2 frames are missing", f"{COUNT}: 4 of 6 frames", WARNED),
        (0, "", f"{COUNT}: 4 of 6 frames", MISCOUNT),
        (0, "warning: something else", "another video", WRONG),
        (3, "error: a.mp4: is damaged; copy it again", "", REFUSED),
        (3, "", "", BUG),
        (70, "error: rerender: KeyError: 'x'; please report it", "", BUG),
        (None, "Traceback (most recent call last):\nKeyError", "", BUG),
    ],
)
def test_verdicts(code: int | None, said: str, wrong: str, verdict: str) -> None:
    trial = MutantTrial("a.mp4", lambda: 0, lambda: wrong)
    assert judged(trial, code, said)[0] == verdict


@pytest.mark.parametrize("way", [ways.damaged, ways.misspelt, ways.revalued])
def test_mutants_differ_from_the_whole_and_come_again(way: ways.Damage) -> None:
    whole = json.dumps({"a": [1, 2, {"b": "text"}], "c": None}).encode()
    made = [way(whole, Random(number)) for number in range(200)]
    assert whole not in made
    assert len(set(made)) > 50
    assert made == [way(whole, Random(number)) for number in range(200)]


def test_another_video_is_described(tmp_path: Path) -> None:
    whole, other = tmp_path / "whole.mp4", tmp_path / "other.avi"
    video(whole, "libx264", None)
    video(other, "mpeg4", None)
    said = video_difference(other, whole)
    assert said.startswith("frames 0, 1, 2, 3,") and "of 12 differ, by " in said
    assert video_difference(whole, whole) == "the same frames, coded otherwise"
    assert "missing.mp4" in video_difference(tmp_path / "missing.mp4", whole)


@pytest.mark.timeout(600)
def test_forty_mutants_are_taken_or_refused(tiny: object, tmp_path: Path) -> None:
    """In a copy of this process, which has imported what the bench and its commands need."""
    assert tiny
    page, log = tmp_path / "damage.md", tmp_path / "log"
    command = ["--count", "40", "--seed", "7", "--workers", "2", "--limit", "120"]
    assert forked(lambda: main([*command, "--out", str(page)]), log) == 0, log.read_text()[-4000:]
    totals = page.read_text(encoding="utf-8").splitlines()[-1]
    assert sum(int(cell) for cell in totals.split("|")[2:-1]) >= 30
