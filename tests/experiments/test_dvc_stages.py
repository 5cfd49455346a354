"""The stages of dvc.yaml: each command composes, and each makes its output whole."""

from __future__ import annotations

import json
import shlex
import shutil
from pathlib import Path
from typing import Any

import pytest
import yaml

from experiments.dvc_stages import main
from rerender.config.compose import literal, preflight
from rerender.config.paths import CONF, ROOT
from rerender.jobs.sweep import jobs_of
from rerender.run import main as run
from tests.experiments.test_sweep import SWEEP
from training.train import _parser

PIPELINE: dict[str, Any] = yaml.safe_load((ROOT / "dvc.yaml").read_text(encoding="utf-8"))
PARAMS: dict[str, Any] = yaml.safe_load((ROOT / "params.yaml").read_text(encoding="utf-8"))


def params() -> dict[str, str]:
    """What params.yaml says, as text, by the names that stages call it."""
    return {key: str(value) for key, value in PARAMS.items()}


def test_every_parameter_is_a_key_of_its_own_and_used() -> None:
    text = (ROOT / "dvc.yaml").read_text(encoding="utf-8")
    assert {"seed", "steps", "metrics", "model", "dataset", "size"} <= params().keys()
    assert all("${" + key + "}" in text for key in params())
    (plots,) = PIPELINE["stages"]["evaluate"]["do"]["plots"][0].values()
    assert (plots["x"], plots["y"]) == ("warp_error", "method"), "bars lie along their values"


def commands(experiment: str) -> list[list[str]]:
    """The words of every command, with the parameters put in."""
    said = []
    for stage in PIPELINE["stages"].values():
        lines = stage.get("do", stage)["cmd"]
        for line in [lines] if isinstance(lines, str) else lines:
            text = line.replace("${item}", experiment).replace("${item.experiment}", experiment)
            text = text.replace("${item.shard}", str(PARAMS["shards"][0]))
            for key, value in params().items():
                text = text.replace("${" + key + "}", value)
            assert "${" not in text
            said.append(shlex.split(text))
    return said


@pytest.mark.parametrize("experiment", PARAMS["experiments"])
def test_every_sweep_of_the_pipeline_is_one(experiment: str) -> None:
    assert (CONF / "exp" / f"{experiment}.yaml").is_file()
    (words,) = [line for line in commands(experiment) if line[2] == "rerender.run"]
    plan = preflight(literal([word for word in words[3:] if word != "--no-tables"]))
    assert plan.experiment == experiment
    assert len(jobs_of(plan.jobs)) > 1


def test_stages_depend_on_files_that_are_there() -> None:
    made = ("datasets/", "runs/", "evaluation/")
    for stage in PIPELINE["stages"].values():
        for name in stage.get("do", stage)["deps"]:
            name = name.replace("${dataset}", PARAMS["dataset"])
            assert name.startswith(made) or (ROOT / name).exists(), name


def test_work_is_done_where_no_stage_has_its_output() -> None:
    """DVC removes outputs before it runs a stage; what was measured must outlive that."""
    outs = [
        next(iter(out)) if isinstance(out, dict) else out
        for stage in PIPELINE["stages"].values()
        for key in ("outs", "metrics", "plots")
        for out in stage.get("do", stage).get(key, ())
    ]
    assert outs
    assert not [out for out in outs if out.startswith(("outputs", ".work"))]


def test_the_stages_one_after_the_other(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(["runs", "runs/a", *SWEEP]) == 3
    assert "is not finished" in capsys.readouterr().err
    assert run([*SWEEP, "--no-tables"]) == 0
    assert not (tmp_path / "results").exists()
    assert main(["runs", "runs/a", *SWEEP]) == 0
    runs = sorted(p.name for p in Path("outputs").iterdir())
    assert sorted(p.name for p in Path("runs/a").iterdir()) == ["experiment.yaml", *runs]
    assert main(["scores", "runs/a", "evaluation/a"]) == 0
    means = json.loads(Path("evaluation/a/metrics.json").read_text())
    assert {"full", "no_shape", "source"} <= means.keys()
    assert means["full"]["warp_error"] > 0
    assert Path("evaluation/a/means.csv").read_text().startswith("method,warp_error")
    assert main(["tables", "runs/a", "evaluation/a", "results/a"]) == 0
    assert (Path("results/a/report/index.html")).is_file()
    text = Path("results/a/table.md").read_text()
    assert "| all four " in text and "Shape-aware fusion on the demo world" in text

    first = {p: Path(p).read_bytes() for p in ("evaluation/a/scores.jsonl", "results/a/table.csv")}
    shutil.rmtree("evaluation")  # as DVC does
    shutil.rmtree("results")
    capsys.readouterr()
    assert main(["scores", "runs/a", "evaluation/a"]) == 0
    assert "score:" not in capsys.readouterr().err, "what was measured is not measured again"
    assert main(["tables", "runs/a", "evaluation/a", "results/a"]) == 0
    assert {p: Path(p).read_bytes() for p in first} == first


def test_missing_inputs_are_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(["scores", "runs/none", "evaluation/none"]) == 3
    assert capsys.readouterr().err.startswith("error: runs/none: ")
    assert main(["runs", "runs/x", "+exp=drfit"]) == 2
    assert "did you mean drift?" in capsys.readouterr().err


def test_training_stands_apart_and_its_command_is_one() -> None:
    """A plain `dvc repro` takes the shipped weights."""
    pipeline = yaml.safe_load((ROOT / "training" / "dvc.yaml").read_text(encoding="utf-8"))
    (stage,) = pipeline["stages"].values()
    words = shlex.split(stage["cmd"].replace("${train}", ""))
    given = _parser().parse_args(words[words.index("training.train") + 1 :])
    assert [str(given.export)] == stage["outs"]
    assert str(given.work).startswith(".work/"), "it goes on where it stopped"
    root = ROOT / "training" / stage["wdir"]
    assert all((root / name).is_file() for name in stage["deps"])
    assert "training.train" not in (ROOT / "dvc.yaml").read_text()
