"""Diversity: 0 for equal seeds, its closed form for known ones, more for more noise."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import combinations
from pathlib import Path
from typing import ClassVar

import pytest
import torch
from torch import Tensor

from eval import score_files
from eval.measure import score, score_several
from eval.metrics.diversity import Diversity
from eval.metrics.lpips import Lpips
from eval.metrics.lpips_demo import LpipsDemo
from eval.metrics.perceptual import Maps, Perceptual
from eval.score import main
from eval.score_files import Score
from rerender.video import MemoryVideo
from tests.codec.making import make, pictures
from tests.eval.toys import Shift, clip_of, picture


@dataclass(frozen=True, kw_only=True)
class Squares(Perceptual):
    """Squared difference of pixels as the only layer."""

    version: ClassVar[str] = "1"

    def find(self) -> None: ...

    def maps(self, device: str) -> Maps:
        return lambda a, b: [(a - b).square().mean(1, keepdim=True)]

    def note(self) -> str:
        return "squares"


def row(results: list[list[Tensor]], distance: Perceptual | None = None) -> Score:
    clip = clip_of(results[0])
    metric = Diversity(distance=distance or Squares())
    return score_several(clip, [MemoryVideo(r) for r in results], metric, Shift(), "ours")


def test_the_mean_over_pairs_of_seeds_in_closed_form() -> None:
    levels = (0.1, 0.2, 0.5)
    found = row([[torch.full((3, 24, 32), level)] * 3 for level in levels])
    wanted = sum((a - b) ** 2 for a, b in combinations(levels, 2)) / 3
    assert found.value == pytest.approx(wanted, rel=1e-5)
    assert (found.n, found.seed, found.note) == (3, None, "3 seeds; squares")


@pytest.mark.parametrize("distance", [Squares(), LpipsDemo()])
def test_equal_seeds_have_none_and_more_noise_has_more(distance: Perceptual) -> None:
    base = picture(32, 32)
    assert row([[base] * 2] * 3, distance).value == 0
    values = []
    for amount in (0.0, 0.02, 0.1, 0.3):
        seeds = [torch.randn(3, 32, 32, generator=torch.Generator().manual_seed(s)) for s in (1, 2)]
        values.append(row([[(base + amount * n).clamp(0, 1)] * 2 for n in seeds], distance).value)
    assert values == sorted(values, key=lambda value: value or 0)
    assert len(set(values)) == 4


def test_one_seed_alone_has_no_value_and_says_what_is_needed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    metric = Diversity(distance=LpipsDemo())
    clip = clip_of([picture()])
    (alone,) = score(clip, clip.video, [metric], Shift(), "ours")  # as a run measures it
    assert alone.note.startswith("n/a: needs several seeds side by side")
    assert row([[picture()]]).value is None
    assert metric.name == "diversity_demo"
    assert Diversity(distance=Lpips()).name == "diversity"
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path))
    assert row([[picture()]] * 2, Lpips()).note.startswith("n/a: weights not found")


def test_a_folder_of_seeds_is_measured_once(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    source = make(tmp_path / "cat.mp4", pictures(3))
    for seed in range(3):
        place = tmp_path / "results" / "ours" / "cat" / f"seed-{seed}"
        place.mkdir(parents=True)
        images = [image // (1 + seed) for image in pictures(3)]
        make(place / "video.mp4", images)
    same = tmp_path / "results" / "same" / "cat" / "seed-0"
    same.mkdir(parents=True)
    make(same / "video.mp4", pictures(3))
    words = [str(tmp_path / "results"), "data=video", f"data.path={source}", "prompt=oil"]
    words += ["metrics=[diversity_demo]", "data.size=48"]
    assert main(words) == 0
    rows = {r.method: r for r in score_files.read(tmp_path / "results" / "scores.jsonl")}
    assert set(rows) == {"ours", "same"}
    assert (rows["ours"].value or 0) > 0.01 and rows["ours"].n == 3
    assert rows["same"].value is None and "several seeds" in rows["same"].note
    capsys.readouterr()
    assert main(words) == 0
    assert "1 rows measured, 1 unchanged" in capsys.readouterr().out
