"""Keys stay where they are: not in a run's files, not in what is sent besides the login."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import wandb

from rerender.run import main

from .wandb_server import wandb_server

CANARY = "c0ffee" * 6 + "cafe"  # 40 letters, as W&B's keys have
NETRC = "decade" * 6 + "dead"


@pytest.fixture(autouse=True)
def alone(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[None]:
    wandb.teardown()
    for name in [name for name in os.environ if name.startswith("WANDB_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.setenv("NETRC", str(tmp_path / "home" / ".netrc"))
    yield
    wandb.teardown()


@pytest.mark.parametrize("mode", [pytest.param("online", marks=pytest.mark.slow), "offline"])
def test_no_key_is_in_anything_that_a_sweep_leaves_or_sends(
    mode: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "home").mkdir()
    place = tmp_path / "work"
    place.mkdir()
    monkeypatch.chdir(place)
    for name in ("WANDB_API_KEY", "HF_TOKEN", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.setenv(name, CANARY)
    monkeypatch.setattr(sys, "argv", ["run", f"token={CANARY}", f"--password={CANARY}"])
    small = ["data.size=32", "sampling.steps=2", "metrics=[warp_error]", "constraint=[]"]
    with wandb_server() as (address, rows):
        host = address.removeprefix("http://")
        netrc = f"machine {host.partition(':')[0]}\n  login user\n  password {NETRC}\n"
        (tmp_path / "home" / ".netrc").write_text(netrc)
        monkeypatch.setenv("WANDB_BASE_URL", address)
        assert main(["+exp=smoke", f"tracker.mode={mode}", "seed=0,1", *small]) == 0
    files = [path for path in place.rglob("*") if path.is_file()]
    assert {"config.yaml", "run.log", "record.jsonl", "index.html"} <= {file.name for file in files}
    assert any(file.suffix == ".wandb" for file in files)
    said = capfd.readouterr()
    assert "tracker: " not in said.err, "everything arrived"
    for canary in (CANARY, NETRC):
        assert not [file for file in files if canary.encode() in file.read_bytes()]
        assert canary not in json.dumps(rows)
        assert canary not in said.out + said.err
    assert bool(rows) == (mode == "online"), "offline sends nothing"


@pytest.mark.parametrize("folder", ["wandb", ".wandb"])
def test_no_file_of_the_working_folder_says_where_runs_are_sent(
    folder: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    """W&B reads its server and its account from there; the key would go to that server."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("WANDB_API_KEY", CANARY)
    small = ["model=tiny", "data.size=32", "data.frames=2", "sampling.steps=1", "metrics=[]"]
    small += ["sampling.strength=1", "constraint=[]", "propagation=hold"]
    with wandb_server() as (address, rows):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "settings").write_text(f"[default]\nbase_url = {address}\n")
        assert main([*small, "tracker.mode=online"]) == 0
    assert not rows
    assert "tracker: start failed (ConfigError: " in capfd.readouterr().err
    (tmp_path / folder / "settings").write_text("[default]\nproject = mine\n")
    assert main([*small, "seed=1"]) == 0
    assert "tracker: " not in capfd.readouterr().err
