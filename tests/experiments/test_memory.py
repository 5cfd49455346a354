"""Memory of whole commands does not grow with the video (`experiments.bench.memory`)."""

from __future__ import annotations

from pathlib import Path

import pytest

from experiments.bench.memory import CASES, LIMIT, measure, written
from rerender.codec import open_video

CHEAP = ("run, hold, no metrics, 96x128", "eval.score, two metrics and floors, 96x128")


def test_a_video_file_holds_a_bounded_number_of_small_frames(tmp_path: Path) -> None:
    video = open_video(written(tmp_path / "long.mp4", 200, (16, 16)))
    for index in range(len(video)):
        video[index]
    assert len(video._kept) <= 128


@pytest.mark.slow
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("case", CHEAP)
def test_memory_does_not_grow_with_the_video(case: str) -> None:
    assert case in CASES
    row = measure(case, (160, 800))
    assert row.slope <= LIMIT, row
