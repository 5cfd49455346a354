"""Several processes start one run in one folder at once: one of them has it, the others say so."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any
from unittest.mock import patch

import pytest

from rerender.config.compose import literal, preflight
from rerender.errors import LockedError
from rerender.jobs import load_job, run_job, worker
from rerender.store.run_identity import Identity

STARTS = 8
SMALL = ["+exp=smoke", "tracker=none", "data.size=32", "constraint=[]", "metrics=[]", "out=run"]


def starts(place: Path, tree: dict[str, Any], go: Path) -> list[Path]:
    """Fork processes that begin when ``go`` appears; their status folders, when all have ended."""
    children = []
    for number in range(STARTS):
        child = os.fork()
        if not child:
            try:
                while not go.exists():
                    time.sleep(0.001)
                call = worker.ScheduledJob(
                    number, tree, "run", "", "", place / f"{number}", place, False
                )
                worker.run_in_process(call)
            finally:
                os._exit(0)
        children.append(child)
    go.touch()
    for child in children:
        os.waitpid(child, 0)
    return [place / f"{number}" for number in range(STARTS)]


def held(real: Callable[..., Any], place: Path, light: bool) -> Callable[..., Any]:
    """The winner's work, which does not end before the others have tried."""

    def work_on(*arguments: Any) -> Any:
        end = time.monotonic() + 60
        while time.monotonic() < end:
            ended = [
                worker.read(place / f"{n}" / worker.STATUS).get("ended") for n in range(STARTS)
            ]
            if ended.count(True) >= STARTS - 1:
                return None if light else real(*arguments)
            time.sleep(0.01)
        raise AssertionError("somebody else has it too")

    return work_on


def play(place: Path, rounds: int) -> None:
    """Several rounds in this process and its children. The winner of the last round does the whole
    run, those before it hold the folder only."""
    tree = dict(preflight(literal(SMALL)).jobs[0])
    Identity.of(tree)  # hashed once, before the processes part
    real = load_job.load_job
    for turn in range(rounds):
        light = turn < rounds - 1
        here = place / str(turn)
        here.mkdir()
        os.chdir(here)
        with patch.object(run_job, "load_job", held(real, here, light)):
            folders = starts(here, tree, here / "go")
        statuses = [worker.read(folder / worker.STATUS) for folder in folders]
        codes = sorted(status["code"] for status in statuses)
        assert codes == [0, *[LockedError.exit_code] * (STARTS - 1)], statuses
        assert all("in use by pid" in s["message"] for s in statuses if s["code"]), statuses
        assert light or (here / "run" / "metrics.json").is_file()


@pytest.mark.timeout(900)
@pytest.mark.parametrize("rounds", [3, pytest.param(20, marks=pytest.mark.slow)])
def test_of_eight_starts_exactly_one_wins(rounds: int, tmp_path: Path) -> None:
    # In a process of its own: children of one whose libraries have begun threads may wait for them
    # for ever.
    code = f"from tests.test_concurrency import Path, play; play(Path({str(tmp_path)!r}), {rounds})"
    root, call = Path(__file__).parents[1], [sys.executable, "-c", code]
    ended = subprocess.run(call, cwd=root, capture_output=True, text=True, check=False)
    assert ended.returncode == 0, ended.stderr
