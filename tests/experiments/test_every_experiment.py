"""Every experiment of conf/exp runs at smoke size, with random weights."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import yaml

from rerender import write_video
from rerender.config.paths import CONF
from rerender.data.demo import Demo
from rerender.run import main

EXPERIMENTS = sorted(file.stem for file in (CONF / "exp").glob("[!_]*.yaml"))
TINY = [
    "model=tiny",
    "tracker=none",
    "data.size=32",
    "data.frames=5",
    "data.seeds=[1000000]",
    "keyframes.interval=4",
    "sampling.steps=8",
    "metrics=[warp_error]",
    "seed=0",
]


ON_FOLDERS = ("real_clips",)


def small(name: str, place: Path) -> list[str]:
    """The settings that make an experiment quick: those above, or a folder of one clip."""
    if name not in ON_FOLDERS:
        return TINY
    (clip,) = Demo(frames=5, size=32).clips()
    write_video(place / "clips" / "one.mp4", [clip.video[i] for i in range(5)], clip.video)
    return [each for each in TINY if not each.startswith("data.seeds")]


def rows(name: str) -> tuple[str, list[str]]:
    """What an experiment sweeps over: the key and its values; "" for one that is a single run."""
    text = (CONF / "exp" / f"{name}.yaml").read_text(encoding="utf-8")
    hydra: dict[str, Any] = (yaml.safe_load(text) or {}).get("hydra", {})
    params = hydra.get("sweeper", {}).get("params", {})
    key = next((key for key in params if key != "seed"), "")
    return key, str(params[key]).split(",") if key else []


def finished(place: Path) -> list[dict[str, Any]]:
    return [json.loads(file.read_text()) for file in place.glob("outputs/*/metrics.json")]


@pytest.mark.parametrize("name", EXPERIMENTS)
def test_an_experiment_runs(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """One row of it: the first; `test_all_rows_of_an_experiment_run` does the others."""
    monkeypatch.chdir(tmp_path)
    key, values = rows(name)
    row = [f"{key}={values[0]}"] if key else []
    quick = [] if name == "propagation" else ["propagation=hold"]
    assert main([f"+exp={name}", *small(name, tmp_path), *row, *quick]) == 0
    (facts,) = finished(tmp_path)
    assert facts["clips"][0]["frames"] == 5
    assert facts["clips"][0]["scores"]["warp_error"]["value"] is not None


@pytest.mark.slow
@pytest.mark.parametrize("name", [name for name in EXPERIMENTS if rows(name)[0]])
def test_all_rows_of_an_experiment_run(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    key = rows(name)[0]
    settings = [each for each in small(name, tmp_path) if not each.startswith(f"{key}=")]
    assert main([f"+exp={name}", *settings]) == 0
    runs = [facts["run"].rpartition("-")[0] for facts in finished(tmp_path)]
    assert len(runs) >= len(rows(name)[1])
    table = (tmp_path / "results" / name / "table.csv").read_text()
    assert not [run for run in runs if run not in table]
