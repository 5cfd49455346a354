"""What commands that were killed leave under names of ours: the next one takes it away, and nothing
of commands that live."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from uuid import uuid4

import pytest

from eval.score import main as score
from experiments.report import main as report
from experiments.tables import main as tables
from rerender import files
from rerender.files import temporaries
from rerender.propagate_keys import main as propagate
from rerender.run import main as run
from rerender.studio.clips import ClipFolder
from tests.faults import Faults, forked

HOST, OTHER = files.host(), "0" * 8
TEMPORARY = re.compile(r"\.tmp-")


def gone() -> int:
    """The number of a process that is over."""
    child = subprocess.Popen([sys.executable, "-c", ""])
    child.wait()
    return child.pid


def left(room: Path, host: str, pid: int, old: bool = False) -> Path:
    path = room / f".tmp-{host}-{pid}-{uuid4().hex}"
    files.folder(room)
    path.write_bytes(b"half of a prompt")
    if old:
        os.utime(path, (time.time() - 90_000,) * 2)
    return path


def test_the_first_write_into_a_folder_takes_away_what_the_dead_left_there(tmp_path: Path) -> None:
    dead, alive = gone(), os.getppid()
    litter = [left(tmp_path, HOST, dead), left(tmp_path, OTHER, dead, old=True)]
    stay = [
        left(tmp_path, HOST, alive),
        left(tmp_path, HOST, alive, old=True),  # it writes a video, whose frames take days
        left(tmp_path, OTHER, dead),  # another machine, whose processes are not seen here
        tmp_path / f".tmp-notes-{dead}-mine",  # somebody else's
        tmp_path / f"tmp-{HOST}-{dead}-{uuid4().hex}",
    ]
    for path in stay[3:]:
        path.write_bytes(b"mine")
    folder = files.folder(tmp_path / f".tmp-{HOST}-{dead}-{uuid4().hex}")
    files.put(tmp_path / "video.mp4", b"whole")
    assert not [path for path in litter if path.exists()]
    assert not [path for path in (*stay, folder) if not path.exists()]


def test_a_scratch_folder_is_of_one_process_and_goes_with_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    litter = files.folder(tmp_path / f".tmp-{HOST}-{gone()}-{uuid4().hex}")
    (litter / "frame.exr").write_bytes(b"a frame")
    live = files.folder(tmp_path / f".tmp-{HOST}-{os.getppid()}-{uuid4().hex}")
    with files.scratch_folder() as folder:
        assert folder.stat().st_mode & 0o777 == 0o700
        (folder / "a").write_bytes(b"a")
        assert live.is_dir() and not litter.exists()
    assert [path.name for path in tmp_path.iterdir()] == [live.name]


def test_uploads_of_a_killed_studio_go_with_the_next(tmp_path: Path) -> None:
    import asyncio

    from rerender.errors import InputError

    litter = files.folder(tmp_path / f".tmp-{HOST}-{gone()}-{uuid4().hex}")
    (litter / "film.mp4").write_bytes(b"half")
    live = files.folder(tmp_path / f".tmp-{HOST}-{os.getppid()}-{uuid4().hex}")

    async def data():  # type: ignore[no-untyped-def]
        yield b"no video"

    with pytest.raises(InputError):
        asyncio.run(ClipFolder(tmp_path, 2**20).add("film.mp4", None, data()))
    assert [path.name for path in tmp_path.iterdir()] == [live.name]


# -- every command, killed -------------------------------------------------------------------------


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A sweep of two runs, collected."""
    place = tmp_path_factory.mktemp("made")
    small = ["+exp=smoke", "data.size=32", "data.frames=4", "sampling.steps=2", "constraint=[]"]
    before = Path.cwd()
    os.chdir(place)
    try:
        assert run([*small, "metrics=[fidelity]", "tracker=none", "seed=1,2"]) == 0
    finally:
        os.chdir(before)
    return place


def _propagate() -> int:
    keys = min(Path("outputs").glob("*/keys"))
    video = keys.parent / "video.mp4"
    options = ["--keys", str(keys), "--video", str(video), "--out", "film/clip.mp4", "--one-shot"]
    return propagate([*options, "propagation=hold"])


COMMANDS: dict[str, Callable[[], int]] = {
    "propagate": _propagate,
    "score": lambda: score(["results/smoke", "metrics=[integrity]"]),
    "tables": lambda: tables(["results/smoke"]),
    "report": lambda: report(["results/smoke"]),
}


@pytest.mark.parametrize("most", [3, pytest.param(999, marks=pytest.mark.slow)])
@pytest.mark.parametrize("name", COMMANDS)
def test_what_a_killed_command_left_goes_with_the_next(
    name: str, most: int, made: Path, tmp_path: Path
) -> None:
    said = tmp_path / "said.txt"

    def at(place: Path, number: int) -> int:
        def work() -> int:
            os.chdir(place)
            temporaries._TIDIED.clear()  # as in a process that begins
            faults = Faults(number)
            faults.install()
            code = COMMANDS[name]()
            if not number:
                (tmp_path / "count").write_text(" ".join(map(str, faults.writes)))
            return code

        return forked(work, said)

    shutil.copytree(made, tmp_path / "0")
    assert at(tmp_path / "0", 0) == 0, said.read_text()
    writes = [int(word) for word in (tmp_path / "count").read_text().split()]
    assert writes
    for number in writes[:: max(1, len(writes) // most)]:
        place = tmp_path / str(number)
        shutil.copytree(made, place)
        assert at(place, number) == -9, said.read_text()
        assert at(place, 0) == 0, said.read_text()
        assert not [path for path in place.rglob("*") if TEMPORARY.match(path.name)]
