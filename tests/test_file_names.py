"""Names of files that are no UTF-8: the system's own bytes, taken as they are."""

from __future__ import annotations

import importlib
import json
import os
from pathlib import Path

import pytest
import torch

from eval import score_files
from rerender import files
from rerender.config.compose import literal
from rerender.errors import ConfigError
from rerender.run import main
from rerender.run_folder import METRICS, RECORD, known_score_file, read_config, read_facts
from tests.codec.making import make, pictures

CLIP, STORE = os.fsdecode(b"caf\xe9 \xff.mp4"), os.fsdecode(b"st\xf6re")
SMALL = ["model=tiny", "sampling.steps=2", "constraint=[]", "propagation=hold", "prompt=oil"]
SMALL += ["metrics=[integrity]", "data=video", f"data.path={CLIP}", "data.size=32"]


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    try:
        make(Path("plain.mp4"), pictures(3)).rename(CLIP)
    except OSError:
        pytest.skip("the file system takes UTF-8 alone")
    return tmp_path


@pytest.mark.parametrize("out", ["out", os.fsdecode(b"o\xfft")])
def test_a_run_its_record_and_its_scores(
    out: str, place: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([*SMALL, f"store={STORE}", f"out={out}", "tracker=wandb"]) == 0
    said = capsys.readouterr().err
    failed = "W&B takes no folder whose name is no UTF-8" in said
    assert failed == (out != "out")
    assert said.count("warning: ") == failed
    for name in (METRICS, RECORD, "run.log", "config.yaml"):
        assert (place / out / name).read_bytes().decode()
    assert json.loads((place / out / METRICS).read_bytes())["clips"][0]["clip"] == "caf_ _"
    assert read_config(place / out / "config.yaml")["data"]["path"] == CLIP
    assert "data.path" in read_facts(place / out)["inputs"]
    assert (place / STORE / "video").is_dir()
    for command in ("eval.score", "experiments.tables", "experiments.report"):
        assert importlib.import_module(command).main([out]) == 0, command
    assert "source" in {row.method for row in score_files.read(known_score_file(place / out))}
    assert "damaged" not in capsys.readouterr().err


def test_key_frames_are_carried_to_it(place: Path) -> None:
    keys = os.fsdecode(b"k\xe9ys")
    for index in (0, 2):
        files.put(place / keys / f"{index}.png", files.png(torch.full((3, 48, 64), index / 4)))
    out = os.fsdecode(b"r\xe9sult.mp4")
    command = importlib.import_module("rerender.propagate_keys").main
    assert command(["--keys", keys, "--video", CLIP, "--out", out, "propagation=hold"]) == 0
    assert (place / out).is_file()


def test_a_prompt_is_text() -> None:
    for key in ("prompt", "negative_prompt", "seed", "tracker.project"):
        with pytest.raises(ConfigError, match=f"^{key}: is not UTF-8 text"):
            literal([f"{key}={CLIP}"])
