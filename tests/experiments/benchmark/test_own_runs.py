"""A run of ours on exported clips: submitted, ranked above its degraded copy, and budgeted."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from experiments.benchmark.__main__ import main
from rerender import files
from rerender.codec import open_video
from rerender.run import main as run

QUICK = ["data.size=64", "keyframes.interval=3", "sampling.steps=8", "tracker=none"]


def test_a_run_is_submitted_ranked_and_budgeted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    numbers = ["--public", "3", "--hidden", "1", "--frames", "4", "--size", "64"]
    assert main(["export", "bench", *numbers]) == 0
    data = ["data=folder", "data.path=bench/clips", "data.prompts=bench/prompts.csv"]
    quick = [*QUICK, "propagation=hold", "metrics=[]", "--no-tables"]
    assert run(["+method=vae", *data, *quick]) == 0
    (folder,) = (tmp_path / "outputs").glob("vae_*")
    key = ["--key", "bench.key.json"]
    submit = ["submit", "bench"]
    assert main([*submit, str(folder), "subs/ours", "--method", "ours", *key]) == 0
    assert len(list((tmp_path / "subs" / "ours").glob("*.mp4"))) == 4

    for path in (tmp_path / "subs" / "ours").glob("*.mp4"):  # its negative
        video = open_video(path)
        for index in range(len(video)):
            name = Path("degraded", path.stem, f"{index:06d}.png")
            files.put(name, files.png(1 - video[index]))
    assert main([*submit, "degraded", "subs/degraded", "--method", "degraded", *key]) == 0
    # Ranked on the public clips, which are always the same.
    assert main(["board", "bench", "subs"]) == 0
    found = json.loads((tmp_path / "subs" / "leaderboard.json").read_text())
    assert [one["method"] for one in found["submissions"]] == ["ours", "degraded"]

    assert main(["budget", "outputs", "--benchmark", "bench"]) == 3
    assert "the true translation of its clip is not known" in capsys.readouterr().err
    budget = ["budget", "outputs", "--benchmark", "bench", *key, "--out", "budget.json"]
    assert main(budget) == 0
    parts = json.loads(Path("budget.json").read_text())
    assert {one["clip"] for one in parts} == {path.stem for path in Path("subs/ours").glob("*.mp4")}
    assert all(abs(one["sum"] - one["total"]) <= 0.01 * one["total"] for one in parts)

    shutil.copytree(folder, tmp_path / "other" / "run")
    (tmp_path / "other" / "run" / "hidden-000" / "video.mp4").write_bytes(b"x")
    assert main([*submit, "other/run", "subs/other", "--method", "other", *key]) == 3
    assert "does not fit its sha256 in metrics.json" in capsys.readouterr().err
