"""Which frames belong together: by position, by time, by number, or as the offset says."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path

import pytest
import torch

from eval.contracts import UnavailableError
from eval.pairing import pair
from eval.results import offset_in
from rerender import files
from rerender.data.pictures import Pictures
from rerender.errors import InputError
from rerender.video import MemoryVideo, Video

BLACK = torch.zeros(3, 8, 8)


def film(frames: int, rate: int | Fraction = 25) -> MemoryVideo:
    return MemoryVideo([BLACK] * frames, rate=Fraction(rate))


def stills(folder: Path, names: list[str]) -> Video:
    for name in names:
        files.put(folder / name, files.png(BLACK))
    found: Video = Pictures.of(folder, 25.0)
    return found


def test_as_many_frames_are_paired_one_by_one_whatever_their_times() -> None:
    for rate in (25, 50, 8):
        found = pair(film(6), film(6, rate))
        assert found.pairs == tuple((i, i) for i in range(6)) and found.remark == ""


@pytest.mark.parametrize(
    ("frames", "rate", "sources"),
    [
        (11, Fraction(25, 2), list(range(0, 21, 2))),  # half the rate
        (41, 50, list(range(21))),  # twice the rate: every second one
        (20, 25, list(range(20))),  # the last one is lost
        (5, Fraction(25, 4), [0, 4, 8, 12, 16]),  # a quarter of the rate
    ],
)
def test_a_video_is_paired_by_time(frames: int, rate: Fraction, sources: list[int]) -> None:
    found = pair(film(21), film(frames, rate))
    assert [i for i, _ in found.pairs] == sources
    made = [j for _, j in found.pairs]
    assert made == sorted(set(made)) and found.remark.endswith("paired by time")
    gaps = [abs(i / 25 - j / float(rate)) for i, j in found.pairs]
    assert max(gaps) <= 0.02


def test_key_frames_alone_at_the_rate_of_the_source_are_not_guessed() -> None:
    with pytest.raises(UnavailableError, match=r"which ones they are is not known .*offset\.txt"):
        pair(film(21), film(5))


@pytest.mark.parametrize(
    ("numbers", "sources"),
    [
        ([0, 5, 10, 15, 20], [0, 5, 10, 15, 20]),
        ([1, 6, 11, 16, 21], [0, 5, 10, 15, 20]),
        (list(range(20)), list(range(20))),
        (list(range(2, 22)), list(range(1, 21))),
    ],
)
def test_pictures_are_paired_by_number(
    tmp_path: Path, numbers: list[int], sources: list[int]
) -> None:
    found = pair(film(21), stills(tmp_path, [f"frame_{n:04d}.png" for n in numbers]))
    assert found.pairs == tuple((i, j) for j, i in enumerate(sources))
    assert found.remark == f"{len(sources)} of 21 frames, paired by number"


@pytest.mark.parametrize("names", [["1.png", "2.png"], ["5.png", "6.png"], ["a.png", "b.png"]])
def test_numbers_that_may_be_counted_from_0_or_1_are_not_guessed(
    tmp_path: Path, names: list[str]
) -> None:
    with pytest.raises(UnavailableError, match=r"offset\.txt"):
        pair(film(21), stills(tmp_path, names))


def test_an_offset_says_it_all() -> None:
    found = pair(film(21), film(20), offset=1)
    assert found.pairs == tuple((j + 1, j) for j in range(20))
    assert found.remark.startswith("20 of 21 frames, from frame 1 on")
    assert pair(film(6), film(6), offset=0) == pair(film(6), film(6))
    with pytest.raises(UnavailableError):
        pair(film(5), film(5), offset=5)


def test_an_offset_is_read_from_the_folder_of_a_method(tmp_path: Path) -> None:
    assert offset_in(tmp_path) is None
    (tmp_path / "offset.txt").write_text(" 1\n")
    assert offset_in(tmp_path) == 1
    for wrong in ("-1", "x", "", "1.5"):
        (tmp_path / "offset.txt").write_text(wrong)
        with pytest.raises(InputError, match=r"offset\.txt"):
            offset_in(tmp_path)
