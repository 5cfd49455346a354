"""The run folder: claimed whole, left as it was found, and never stopped by a tracker."""

from __future__ import annotations

import io
import json
import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest
import torch

from rerender import files
from rerender.contracts import Cell, Tracker
from rerender.errors import LockedError
from rerender.exits import warned
from rerender.jobs.progress import Progress
from rerender.jobs.record import Record, claimed, logged
from rerender.tracker.none import Silent


class Broken(Tracker):
    """Fails wherever it can."""

    def __init__(self) -> None:
        self.calls = 0

    def _fail(self) -> None:
        self.calls += 1
        raise ConnectionError("nobody\nthere")

    def start(self, folder: Path, config: Mapping[str, Any], name: str, group: str) -> None:
        self._fail()

    def log(self, values: Mapping[str, float | int | str | None], step: int | None = None) -> None:
        self._fail()

    def summary(self, values: Mapping[str, float | int | str | None]) -> None:
        self._fail()

    def file(self, name: str, path: Path) -> None:
        self._fail()

    def table(self, name: str, columns: Sequence[str], rows: Sequence[Sequence[Cell]]) -> None:
        self._fail()

    def finish(self, exit_code: int) -> None:
        self._fail()


def record(folder: Path, tracker: Tracker, *pictures: str) -> Record:
    return Record(folder, tracker, pictures, Progress(io.StringIO()))


def test_a_tracker_that_fails_is_left_alone_after_one_warning(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    tracker = Broken()
    with warned(), logged(tmp_path):
        kept = record(tmp_path, tracker)
        kept.start({"seed": 1}, "")
        kept.log({"a": 1.0})
        kept.summary({"b": 2.0})
        kept.file(tmp_path / "video.mp4")
        kept.table("scores", ["metric"], [["warp_error"], [float("nan")]])
        kept.finish(0)
    assert tracker.calls == 1
    warnings = capsys.readouterr().err.splitlines()
    assert warnings == [
        "warning: tracker: start failed (ConnectionError: nobody there); going on without it"
    ]
    lines = (tmp_path / "record.jsonl").read_text().splitlines()
    events = [json.loads(line)["event"] for line in lines]
    assert events == ["start", "log", "summary", "file", "table", "finish"]


def test_only_the_pictures_asked_for_are_kept(tmp_path: Path) -> None:
    kept = record(tmp_path, Silent(), "keys")
    for name in ("keys", "hole"):
        kept.picture(name, 7, torch.zeros(3, 4, 4))
    kept.at(tmp_path / "clip")
    kept.picture("keys", 8, torch.zeros(1, 4, 4))
    pictures = sorted(path.relative_to(tmp_path).as_posix() for path in tmp_path.rglob("*.png"))
    assert pictures == ["clip/keys/000008.png", "keys/000007.png"]
    assert kept.kept == {"keys": [8]}


def test_an_unused_folder_vanishes_with_the_folders_made_for_it(tmp_path: Path) -> None:
    with claimed(tmp_path / "a" / "b", lambda folder: True):
        assert (tmp_path / "a" / "b" / files.LOCK).is_file()
    assert not list(tmp_path.iterdir())


def test_a_used_folder_stays_whatever_happens(tmp_path: Path) -> None:
    with pytest.raises(KeyboardInterrupt), claimed(tmp_path / "a", lambda folder: True):
        files.put(tmp_path / "a" / "config.yaml", b"")
        raise KeyboardInterrupt
    assert (tmp_path / "a" / "config.yaml").is_file()


def test_what_a_killed_writer_left_makes_a_folder_nobody_elses(tmp_path: Path) -> None:
    folder = files.folder(tmp_path / "out")
    (folder / f"{files.TEMPORARY}host-1-x").write_bytes(b"half a configuration")
    with claimed(folder, lambda folder: False):
        files.sweep(folder)
        files.put(folder / "config.yaml", b"seed: 1")
    assert sorted(path.name for path in folder.iterdir()) == ["config.yaml", "lock"]


def test_a_folder_has_one_owner(tmp_path: Path) -> None:
    with claimed(tmp_path / "a", lambda folder: True):
        with pytest.raises(LockedError), claimed(tmp_path / "a", lambda folder: True):
            pytest.fail("two owners")
        assert (tmp_path / "a" / files.LOCK).is_file()


def test_the_log_holds_what_we_say_and_what_python_warns_of(tmp_path: Path) -> None:
    import warnings

    with logged(tmp_path), warnings.catch_warnings():
        warnings.simplefilter("always")
        logging.getLogger("rerender.somewhere").info("said")
        logging.getLogger("elsewhere").info("not ours")
        warnings.warn("careful", stacklevel=1)
    text = (tmp_path / "run.log").read_text()
    assert "rerender.somewhere: said" in text
    assert "not ours" not in text
    assert "careful" in text
    logging.getLogger("rerender.somewhere").info("after")
    assert "after" not in (tmp_path / "run.log").read_text()


def test_a_warning_from_before_the_folder_is_shown_once_kept_and_logged(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    log = logging.getLogger("rerender.data.somewhere")
    with warned() as warnings:
        log.warning("a.png: %s", "passed over")
        with logged(tmp_path, warnings):
            log.warning("a.png: passed over")
            log.warning("b.png: passed over")
    assert warnings == ["a.png: passed over", "b.png: passed over"]
    assert capsys.readouterr().err.splitlines() == [f"warning: {said}" for said in warnings]
    text = (tmp_path / "run.log").read_text()
    assert all(said in text for said in warnings)
