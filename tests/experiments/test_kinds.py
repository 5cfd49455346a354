"""Tables group by kind of edit, and say whose clips they are."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from eval import score_files
from eval.score import score_folder
from eval.score_files import Score
from experiments import tables
from experiments.credits import credits
from rerender.datasets.fetch import fetch
from rerender.datasets.manifest import manifest
from rerender.run import main as run
from tests.datasets import genuine


def row(clip: str, kind: str, value: float, method: str = "ours") -> Score:
    source = clip.partition("-")[0]
    return Score(clip, method, 0, "psnr", "1", value, 3, kind=kind, source_clip=source)


def test_a_table_for_each_kind_with_its_own_means() -> None:
    rows = [row("a-style", "style", 1), row("b-style", "style", 3), row("a-object", "object", 9)]
    found = tables.by_kind(rows)
    assert [table.title for table in found] == ["Scores: object", "Scores: style"]
    means = [cells[0].mean for table in found for cells in table.lines.values()]
    assert means == [9, 2]
    assert tables.by_kind([row("a-style", "style", 1), row("b-style", "style", 3)]) == []
    assert tables.by_kind([row("a", "", 1)]) == []


def test_rows_say_kind_and_source_clip_only_where_there_is_one(tmp_path: Path) -> None:
    rows = [row("a-style", "style", 1), Score("b", "ours", 0, "psnr", "1", 2.0, 3)]
    score_files.write(tmp_path / "scores.jsonl", rows)
    first, second = map(json.loads, (tmp_path / "scores.jsonl").read_text().splitlines())
    assert (first["kind"], first["source_clip"]) == ("style", "a")
    assert not {"kind", "source_clip"} & set(second), "rows of other data are what they were"
    back = score_files.read(tmp_path / "scores.jsonl")
    assert back == rows
    assert [r.source for r in back] == ["a", "b"]


@pytest.mark.slow
def test_two_clips_of_four_prompts_are_eight_rows_and_a_table_for_each_kind(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A sweep over a public set in its genuine layout, from the archive to the tables."""
    source = genuine.tgve(tmp_path / "a", {"DAVIS": ["stunt"], "Videvo": ["swans"]}, frames=2)
    monkeypatch.chdir(tmp_path)
    smaller = replace(manifest("tgve"), count=None, pairs=None, clips=())
    fetch(smaller, source, None, Path("datasets/tgve"))
    said = ["data=tgve", "data.size=16", "model=tiny", "tracker=none", "constraint=[]"]
    assert run([*said, "metrics=[color_drift]", "store=store"]) == 0
    rows = score_files.read(tmp_path / "results/tgve/scores.jsonl")
    mine = [r for r in rows if r.method == "tgve"]
    assert len({r.clip for r in mine}) == 8
    assert {r.source for r in mine} == {"stunt", "swans"}
    assert {r.kind for r in mine} == {"style", "object", "background", "multiple"}
    table = (tmp_path / "results/tgve/table.md").read_text().replace("\\", "")
    assert table.count("Scores: ") == 4
    (line,) = credits(tmp_path / "results/tgve")
    assert "LOVEU-TGVE-2023" in line and "Creative Commons" in line
    assert line in table
    assert line in (tmp_path / "results/tgve/report/index.html").read_text().replace("&#39;", "'")
    assert score_folder(tmp_path / "results/tgve", None).computed == 0
