"""Runs of the studio: one after the other, ended with all they started, found again."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from rerender.errors import ConfigError, InputError
from rerender.run_folder import sealed
from rerender.studio.runs import StudioRuns, name_of
from rerender.studio.warm import Spawned

# What stands in for the run command: it says what that says, leaves what that leaves, starts a
# process of its own, and waits to be told to go on.
PROGRAM = """
import subprocess, sys, time
from pathlib import Path
out = Path(next(a for a in sys.argv if a.startswith("out=")).partition("=")[2])
child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
(out / "keys").mkdir(parents=True, exist_ok=True)
Path(f"{out}.child").write_text(str(child.pid))
print("warning: something", flush=True)
print("translate: 3 of 8 (2.0 s, about 40 s left)", flush=True)
(out / "keys" / "000000.png").write_bytes(b"")
while not Path("go").exists():
    time.sleep(0.02)
if "fail" in sys.argv:
    print("error: data.path: is damaged; copy it again", flush=True)
    sys.exit(3)
(out / "video.mp4").write_bytes(b"film")
(out / "metrics.json").write_text(FACTS)
child.kill()
"""
FACTS = {"config": "", "code": "", "versions": {}, "inputs": {}, "pictures": []}
FACTS |= {"clips": [], "seconds": {}, "files": {}, "warnings": []}
PROGRAM = f"FACTS = {json.dumps(sealed(FACTS))!r}\n{PROGRAM}"


@pytest.fixture
def runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[], StudioRuns]]:
    """Studios in one folder, as many as are started."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).parents[2]))
    made: list[StudioRuns] = []

    def start() -> StudioRuns:
        made.append(StudioRuns(tmp_path / "runs", Spawned((sys.executable, "-c", PROGRAM))))
        return made[-1]

    yield start
    for each in made:
        for state in each.all():
            each.cancel(state["id"])
        each.close()


def until(question: Callable[[], Any], seconds: float = 120) -> None:
    end = time.monotonic() + seconds
    while not question():
        assert time.monotonic() < end
        time.sleep(0.02)


def lives(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    status = Path(f"/proc/{pid}/stat")
    return not status.exists() or status.read_text().rpartition(")")[2].split()[0] != "Z"


def test_runs_wait_for_each_other_and_are_cancelled_whole(
    runs: Callable[[], StudioRuns], tmp_path: Path
) -> None:
    studio, tab = runs(), {"prompt": "oil"}
    first = studio.start("a", tab, ["prompt=oil"])
    second = studio.start("b", tab, ["prompt=neon"])
    assert studio.start("a", tab, ["prompt=oil"]) == first  # of another page: the same run
    until(lambda: studio.state(first)["keys"])
    state = studio.state(first)
    assert (state["state"], state["keys"], state["warnings"]) == ("running", [0], ["something"])
    assert state["stages"] == {"translate": [3, 8]}
    assert 20 < state["left"] <= 40
    assert studio.state(second)["state"] == "waiting"
    with pytest.raises(ConfigError, match="under way"):
        studio.forget(first)
    child = int((tmp_path / f"runs/{first}.child").read_text())
    assert lives(child)
    studio.cancel(first)
    until(lambda: studio.state(first)["state"] == "stopped" and not lives(child))
    assert studio.state(first)["keys"] == [0]  # kept
    until(lambda: studio.state(second)["state"] == "running")
    third = studio.start("a", tab, ["prompt=pencil"])
    studio.cancel(third)  # before it began
    assert studio.state(third)["state"] == "stopped"
    (tmp_path / "go").touch()
    until(lambda: studio.state(second)["state"] == "done")
    assert studio.video(second).read_bytes() == b"film"
    assert studio.start("a", tab, ["prompt=oil"]) == first  # goes on
    until(lambda: studio.state(first)["state"] == "done")
    assert [run["id"] for run in studio.all("a")] == [first, third]
    studio.forget(first)
    assert [run["id"] for run in studio.all("a")] == [third]
    assert [path.suffix for path in (tmp_path / "runs").glob(f"{first}*")] == [".child"]


def test_a_failure_is_its_one_line(runs: Callable[[], StudioRuns], tmp_path: Path) -> None:
    (tmp_path / "go").touch()
    studio = runs()
    id = studio.start("a", {}, ["fail"])
    until(lambda: studio.state(id)["state"] == "failed")
    assert studio.state(id)["message"] == "data.path: is damaged; copy it again"


def test_what_a_killed_studio_began_is_found_and_can_be_cancelled(
    runs: Callable[[], StudioRuns], tmp_path: Path
) -> None:
    code = (
        "import sys, time; from pathlib import Path; from rerender.studio.runs import StudioRuns\n"
        "from rerender.studio.warm import Spawned\n"
        "program = Spawned((sys.executable, '-c', sys.argv[1]))\n"
        "studio = StudioRuns(Path('runs').absolute(), program)\n"
        "studio.start('a', {}, ['prompt=oil']); studio.start('a', {}, ['prompt=neon'])\n"
        "time.sleep(600)"
    )
    killed = subprocess.Popen([sys.executable, "-c", code, PROGRAM])
    again, (first, second) = runs(), map(name_of, (["prompt=oil"], ["prompt=neon"]))
    try:
        until(lambda: any(run["keys"] for run in again.all()))
    finally:
        killed.kill()
        killed.wait()
    assert again.state(first)["state"] == "running"  # it goes on without its studio
    assert again.state(second)["state"] == "stopped"  # it never began, and does not by itself
    again.start("a", {}, ["prompt=neon"])
    time.sleep(0.2)
    assert again.state(second)["state"] == "waiting"  # for the one that is left over
    child = int((tmp_path / f"runs/{first}.child").read_text())
    again.cancel(first)
    until(lambda: again.state(first)["state"] == "stopped" and not lives(child))
    (tmp_path / "go").touch()
    until(lambda: again.state(second)["state"] == "done")


def test_a_studio_that_ends_ends_its_run(runs: Callable[[], StudioRuns], tmp_path: Path) -> None:
    studio = runs()
    id = studio.start("a", {}, ["prompt=oil"])
    until(lambda: studio.state(id)["keys"])
    child = int((tmp_path / f"runs/{id}.child").read_text())
    studio.close()
    assert studio.state(id)["state"] == "stopped"
    until(lambda: not lives(child))


@pytest.mark.parametrize("name", ["../x", "0123456789abcdef", "", "x" * 999])
def test_there_is_no_run_of_another_name(runs: Callable[[], StudioRuns], name: str) -> None:
    studio = runs()
    for ask in (studio.state, studio.cancel, studio.forget, studio.video):
        with pytest.raises(InputError, match="there is no"):
            ask(name)
