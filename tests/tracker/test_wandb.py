"""W&B: an offline run can be read back, an online one arrives, a dead server delays nothing."""

from __future__ import annotations

import json
import logging
import os
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
import torch
import wandb

from rerender import files
from rerender.tracker import wandb as tracker_module
from rerender.tracker.wandb import WandB

from .wandb_server import wandb_server

CONFIG = {"seed": 3, "sampling": {"steps": 4}}


@pytest.fixture(autouse=True)
def alone(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[None]:
    """No settings of the machine, no login, no mode from outside or from the test before."""
    wandb.teardown()
    for name in [name for name in os.environ if name.startswith("WANDB_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("NETRC", str(tmp_path / "netrc"))
    yield
    wandb.teardown()


def record(tracker: WandB, folder: Path, table: bool = True) -> None:
    tracker.start(folder, CONFIG, "name", "group")
    tracker.log({"demo/warp_error": 0.5, "demo/none": None}, step=0)
    tracker.log({"demo/warp_error": 0.25}, step=1)
    files.put(folder / "sheet.png", files.png(torch.zeros(3, 8, 8)))
    tracker.file("sheet", folder / "sheet.png")
    if table:
        rows: list[list[float | str | None]] = [["warp_error", 0.25], ["clip_score", None]]
        tracker.table("scores", ["metric", "value"], rows)
    tracker.summary({"score": 0.375})
    tracker.finish(0)


def read_back(folder: Path) -> list[dict[str, Any]]:
    (file,) = folder.glob("wandb/offline-run-*/run-*.wandb")
    command = [sys.executable, "-m", "wandb", "leet", "inspect", "--json", str(file)]
    done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=250)
    return [json.loads(line) for line in done.stdout.splitlines()]


def test_an_offline_run_holds_config_curves_summary_and_pictures(tmp_path: Path) -> None:
    record(WandB(), tmp_path)
    rows = read_back(tmp_path)
    run = next(row["run"] for row in rows if row["type"] == "run")
    assert (run["display_name"], run["run_group"]) == ("name", "group")
    assert run["config"]["update"] | CONFIG == run["config"]["update"]
    history = [row["history"]["item"] for row in rows if row["type"] == "history"]
    curve = [item["demo/warp_error"] for item in history if "demo/warp_error" in item]
    assert curve == [0.5, 0.25]
    summaries = [row["summary"].get("update", {}) for row in rows if row["type"] == "summary"]
    assert any(update.get("score") == 0.375 for update in summaries)
    assert any("sheet.path" in item or "sheet._type" in item for item in summaries)
    (table,) = tmp_path.glob("wandb/offline-run-*/files/media/table/scores_*.table.json")
    stored = json.loads(table.read_text())
    assert stored["columns"] == ["metric", "value"]
    assert stored["data"] == [["warp_error", 0.25], ["clip_score", None]]


def test_an_offline_run_loses_nothing_where_the_machine_is_slow(tmp_path: Path) -> None:
    """What patience there is, is with servers."""
    record(WandB(init_timeout=0.001, finish_timeout=0.001), tmp_path)
    (table,) = tmp_path.glob("wandb/offline-run-*/files/media/table/scores_*.table.json")
    assert json.loads(table.read_text())["data"][0] == ["warp_error", 0.25]


@pytest.mark.parametrize("home", ["/proc/no home", "/dev/null"])
def test_without_a_home_a_run_is_whole_and_says_nothing(
    home: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
    caplog: pytest.LogCaptureFixture,
) -> None:
    monkeypatch.setattr(tracker_module, "_MOVED", set())
    monkeypatch.setenv("HOME", home)
    for name in ("XDG_CACHE_HOME", "XDG_DATA_HOME"):
        monkeypatch.delenv(name, raising=False)
    for name in tracker_module._PLACES:  # set here, so that it is put back afterwards
        monkeypatch.setenv(name, "")
        monkeypatch.delenv(name)
    try:
        for folder in (tmp_path / "one", tmp_path / "two"):
            record(WandB(), folder)
            assert "scores" in str(read_back(folder))
            assert os.environ["WANDB_DATA_DIR"] == str(folder / "wandb" / "data")
    finally:
        wandb.teardown()
    assert capfd.readouterr() == ("", "")
    assert not [word for word in caplog.records if word.levelno > logging.INFO]


def test_a_run_has_its_kind_its_tags_and_media_in_its_tables(tmp_path: Path) -> None:
    tracker = WandB()
    model = {"_target_": "rerender.model.pretrained.Pretrained", "path": "rerender/demo/weights"}
    config = {**CONFIG, "model": model}
    tracker.start(tmp_path, config, "no_shape-0123abcd", "ablation_shape")
    files.put(tmp_path / "sheet.png", files.png(torch.zeros(3, 8, 8)))
    tracker.table("clips", ["clip", "warp_error", "sheet"], [["c", 0.5, tmp_path / "sheet.png"]])
    tracker.summary({"warp_error": 0.5})
    tracker.finish(0)
    rows = read_back(tmp_path)
    run = next(row["run"] for row in rows if row["type"] == "run")
    assert (run["job_type"], run["tags"]) == ("run", ["no_shape", "seed 3", "model demo/weights"])
    # The picture travels in the artifact that stands behind a table.
    text = json.dumps([row for row in rows if row["type"] not in ("run", "history", "summary")])
    assert "media/images/" in text and "run_table" in text


def test_what_a_sweep_ends_with_is_one_artifact_of_a_summary_run(tmp_path: Path) -> None:
    files.put(tmp_path / "table.csv", b"method,metric")
    files.put(tmp_path / "report" / "index.html", b"<p>")
    files.put(tmp_path / "report" / "media" / "a.png", files.png(torch.zeros(3, 8, 8)))
    made = [tmp_path / "table.csv", tmp_path / "report"]
    WandB().results(tmp_path, "drift results", "drift", made)
    rows = read_back(tmp_path)
    run = next(row["run"] for row in rows if row["type"] == "run")
    assert (run["job_type"], run["run_group"]) == ("summary", "drift")
    text = json.dumps(rows)
    assert all(name in text for name in ("table.csv", "report/index.html", "report/media/a.png"))
    assert (tmp_path / "table.csv").read_bytes() == b"method,metric"


def test_nothing_of_the_environment_or_command_line_is_recorded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SOME_KEY", "canary-in-env")
    monkeypatch.setattr(sys, "argv", ["run", "token=canary-in-argv"])
    record(WandB(), tmp_path)
    paths = [path for path in tmp_path.rglob("*") if path.is_file()]
    assert len(paths) > 1
    assert not [path for path in paths if b"canary" in path.read_bytes()]


def test_an_online_run_arrives_at_a_server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with wandb_server() as (address, rows):
        monkeypatch.setenv("WANDB_BASE_URL", address)
        monkeypatch.setenv("WANDB_API_KEY", "0" * 40)
        # Tables travel as artifacts, whose protocol the stand-in does not speak.
        record(WandB(mode="online"), tmp_path, table=False)
    sent = json.dumps(rows)
    assert "demo/warp_error" in sent
    assert "0.375" in sent
    assert "steps" in sent


def test_a_dead_server_costs_seconds_and_one_warning(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv("WANDB_BASE_URL", "http://127.0.0.1:9")
    monkeypatch.setenv("WANDB_API_KEY", "0" * 40)
    started = time.monotonic()
    with caplog.at_level(logging.WARNING):
        record(WandB(mode="online", init_timeout=1.0), tmp_path)
    assert time.monotonic() - started < 100  # of a busy machine too; nobody ever answers
    warned = [entry.message for entry in caplog.records if entry.name.startswith("rerender")]
    assert len(warned) == 1
    assert warned[0].startswith("tracker: W&B did not answer")
    history = [row for row in read_back(tmp_path) if row["type"] == "history"]
    assert len(history) >= 2


@pytest.mark.parametrize("how", ["silent", "gone"])
def test_a_server_that_dies_on_the_way_costs_seconds_and_one_warning(
    how: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    dead = threading.Event()
    tracker = WandB(mode="online", finish_timeout=2.0)
    monkeypatch.setenv("WANDB_API_KEY", "0" * 40)
    with wandb_server(dead) as (address, _):
        monkeypatch.setenv("WANDB_BASE_URL", address)
        tracker.start(tmp_path, CONFIG, "name", "group")
        if how == "silent":
            dead.set()
            ended = _finished(tracker, caplog)
    if how == "gone":
        ended = _finished(tracker, caplog)
    assert ended < 100  # the server is silent for 600
    warned = [entry.getMessage() for entry in caplog.records if entry.name.startswith("rerender")]
    assert len(warned) == 1 and "wandb sync" in warned[0]
    place = Path(warned[0].partition("wandb sync ")[2].strip("`"))
    assert place.parent == tmp_path / "wandb" and list(place.glob("run-*.wandb"))


def _finished(tracker: WandB, caplog: pytest.LogCaptureFixture) -> float:
    """Seconds that logging and finishing take."""
    started = time.monotonic()
    with caplog.at_level(logging.WARNING):
        for step in range(20):
            tracker.log({"demo/warp_error": 0.5}, step)
        with suppress(Exception):  # what a record does with a tracker that fails
            tracker.table("scores", ["metric"], [["warp_error"]])
        tracker.summary({"score": 0.375})
        tracker.finish(0)
    return time.monotonic() - started


def test_a_job_that_is_started_again_goes_on_in_its_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WANDB_API_KEY", "0" * 40)
    with wandb_server() as (address, rows):
        monkeypatch.setenv("WANDB_BASE_URL", address)
        ends = []
        for name, seed in (("a", 0), ("a", 0), ("a", 1)):
            tracker = WandB(mode="online")
            tracker.start(tmp_path, {"seed": seed, "tracker": {"mode": "online"}}, name, "group")
            tracker.log({"demo/warp_error": 0.5}, 0)
            tracker.finish(0)
            ends.append(len(rows))
    first, again, other = (
        {*_runs(rows[begin:end])} for begin, end in zip([0, *ends], ends, strict=False)
    )
    assert first == again and len(first) == len(other) == 1
    assert first != other, "the third is another run"
    assert {row["groupName"] for row in rows if row.get("groupName")} == {"group"}


def _runs(rows: list[dict[str, Any]]) -> list[str]:
    return [row["name"] for row in rows if row.get("name")]


def test_an_offline_job_keeps_its_id_and_the_curves_of_all_its_clips(tmp_path: Path) -> None:
    for _ in range(2):
        tracker = WandB()
        tracker.start(tmp_path, CONFIG, "name", "")
        for clip in ("a", "b"):
            for step in range(3):
                tracker.log({f"{clip}/warp_error": 0.5}, step)
        tracker.finish(0)
        time.sleep(1.1)  # W&B names folders by the second
    first, second = sorted(tmp_path.glob("wandb/offline-run-*/run-*.wandb"))
    assert first.name == second.name, "wandb sync puts both attempts in one run"
    command = [sys.executable, "-m", "wandb", "leet", "inspect", "--json", str(second)]
    done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=250)
    read = [json.loads(line) for line in done.stdout.splitlines()]
    items = [row["history"]["item"] for row in read if row["type"] == "history"]
    frames = [
        (clip, item["frame"]) for item in items for clip in item if clip.endswith("/warp_error")
    ]
    assert frames == [(f"{clip}/warp_error", step) for clip in ("a", "b") for step in range(3)]


def test_wandb_sync_sends_every_attempt_of_a_job_into_one_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The vendor's own command; the last attempt, which has all clips, comes last."""
    for clips in (("a",), ("a", "b")):
        tracker = WandB()
        tracker.start(tmp_path, CONFIG, "name", "group")
        for clip in clips:
            for step in range(3):
                tracker.log({f"{clip}/warp_error": len(clips) + step / 4}, step)
        if len(clips) == 2:
            tracker.summary({"score": 0.375})
        tracker.finish(2 - len(clips))
        time.sleep(1.1)  # W&B names folders by the second
    with wandb_server() as (address, rows):
        monkeypatch.setenv("WANDB_BASE_URL", address)
        monkeypatch.setenv("WANDB_API_KEY", "0" * 40)
        command = [sys.executable, "-m", "wandb", "sync", "--yes"]
        done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=250)
    assert done.returncode == 0, done.stderr
    names = _runs(rows)
    assert len(names) > 1 and len(set(names)) == 1
    sent = [row["files"] for row in rows if row.get("files")]
    histories = [each["wandb-history.jsonl"] for each in sent if "wandb-history.jsonl" in each]
    lines = [json.loads(line) for each in histories for line in each["content"]]
    curve = {
        clip: [x[clip] for x in lines if clip in x] for clip in ("a/warp_error", "b/warp_error")
    }
    assert curve == {"a/warp_error": [1, 1.25, 1.5, 2, 2.25, 2.5], "b/warp_error": [2, 2.25, 2.5]}
    # Each attempt begins at line 0: lines of the one before are replaced, none stands twice.
    assert [each["offset"] for each in histories] == [0, 0]
    summary = json.loads(sent[-1]["wandb-summary.json"]["content"][-1])
    assert summary["score"] == 0.375
    assert [row["exitcode"] for row in rows if "exitcode" in row] == [1, 0]
