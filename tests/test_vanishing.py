"""Several processes share folders of outputs, jobs, results and the studio: whatever one of them
takes away between two looks of another, that one refuses it in its own words, or goes on.

Each reader is called again and again; every time another entry of its folder is taken away right
after it was seen for the first, second ... time (by stat, or in a list of the folder).
"""

from __future__ import annotations

import logging
import os
import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch

from eval.results import discover
from eval.score import score_folder
from experiments import experiment
from experiments.costs import costs
from experiments.credits import credits
from experiments.finish_sweep import collect, promote
from experiments.media import Media
from experiments.report_data import gather
from experiments.study import votes
from rerender.codec import check_folder
from rerender.config.compose import preflight
from rerender.data.folder import Folder
from rerender.errors import RerenderError
from rerender.jobs import plan, worker
from rerender.jobs.record import check_place
from rerender.jobs.run_job import run_job
from rerender.studio.clips import ClipFolder
from rerender.studio.runs import StudioRuns
from tests.test_resume import ARGUMENTS

LOOKS = range(1, 5)


@dataclass
class Vanishing:
    """Takes an entry away after it was looked at so many times."""

    victim: Path
    looks: int

    def seen(self, path: Any) -> None:
        if isinstance(path, (str, os.PathLike)) and os.path.abspath(path) == str(self.victim):  # noqa: PTH100
            self.looks -= 1
            if self.looks == 0:
                if self.victim.is_dir() and not self.victim.is_symlink():
                    shutil.rmtree(self.victim)
                else:
                    self.victim.unlink()

    def over(self, patch: pytest.MonkeyPatch) -> None:
        """Put itself between Python and the file system."""
        stat, lstat, listdir, scandir = os.stat, os.lstat, os.listdir, os.scandir

        def looked(real: Callable[..., Any]) -> Callable[..., Any]:
            def look(path: Any, *rest: Any, **more: Any) -> Any:
                found = real(path, *rest, **more)
                self.seen(path)
                return found

            return look

        def listed(path: Any = ".") -> list[str]:
            names = listdir(path)
            self.seen(path)
            for name in names:
                self.seen(os.path.join(path, name))  # noqa: PTH118
            return names

        class Listed:
            def __init__(self, entries: list[os.DirEntry[str]]) -> None:
                self.entries = iter(entries)

            def __enter__(self) -> Iterator[os.DirEntry[str]]:
                return self.entries

            def __exit__(self, *error: object) -> None: ...

            def __iter__(self) -> Iterator[os.DirEntry[str]]:
                return self.entries

            def __next__(self) -> os.DirEntry[str]:
                return next(self.entries)

            def close(self) -> None: ...

        def scanned(path: Any = ".") -> Listed:
            with scandir(path) as found:
                entries = list(found)
            self.seen(path)
            for entry in entries:
                self.seen(entry.path)
            return Listed(entries)

        patch.setattr(os, "stat", looked(stat))
        patch.setattr(os, "lstat", looked(lstat))
        patch.setattr(os, "listdir", listed)
        patch.setattr(os, "scandir", scanned)


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run with two clips' worth of everything, jobs that were killed, results, clips, votes."""
    place = tmp_path_factory.mktemp("whole")
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(place)
        (tree,) = preflight([*ARGUMENTS, "metrics=[fidelity]", "data.frames=4"], None).jobs
        run_job(tree, Path("outputs/run-0"), "")
        collect(Path("results"), [Path("outputs/run-0")])
        (place / "outputs" / "run-0" / ".tmp-abc-1-def").touch()
        killed = place / "outputs" / ".jobs" / "20200101-000000-1"
        (killed / "0").mkdir(parents=True)
        for path in (killed / "0" / "status.json", killed / "0", killed):
            path.touch()
            os.utime(path, (0, 0))
        clip = place / "studio" / "clips" / ("0" * 16)
        clip.mkdir(parents=True)
        (clip / "clip.json").write_text('{"file": "a.mp4", "width": 32, "height": 32}')
        runs = place / "studio" / "runs"
        shutil.copytree(place / "outputs" / "run-0", runs / ("1" * 16))
        asked = '{"clip": "0000000000000000", "settings": {}, "arguments": [], "time": 0}'
        (runs / f"{'1' * 16}.json").write_text(asked)
        (runs / f"{'1' * 16}.log").write_text("translate: 1 of 2 (1 s)\n")
        (runs / f"{'1' * 16}.held").touch()
        (place / "votes").mkdir()
        (place / "votes" / "one.json").write_text("{}")
        shutil.copytree(place / "outputs" / "run-0" / "keys", place / "pictures" / "a")
        shutil.copyfile(place / "outputs" / "run-0" / "video.mp4", place / "pictures" / "b.mp4")
    torch.set_num_threads(threads)
    return place


def begun() -> None:
    worker.begin(Path("outputs/.jobs/20260101-000000-2"))
    worker.end()


def studied() -> None:
    runs = StudioRuns(Path("studio/runs"))
    runs.all()
    assert not runs.busy
    runs.state("1" * 16)


READERS: dict[str, tuple[str, Callable[[], object]]] = {  # the folder, and who reads it
    "check_place": ("outputs/run-0", lambda: check_place(Path("outputs/run-0"), lambda p: True)),
    "begin": ("outputs/.jobs", begun),
    "plan": ("outputs", lambda: plan._spent(Path("outputs"))),
    "check_folder": ("outputs/run-0/keys", lambda: check_folder(Path("outputs/run-0/keys"))),
    "discover": ("results", lambda: discover(Path("results"))),
    "experiment": ("results", lambda: experiment.read(Path("results"))),
    "costs": ("results", lambda: costs(Path("results"))),
    "credits": ("results", lambda: credits(Path("results"))),
    "promote": ("outputs/run-0", lambda: promote(Path("copy"), [Path("outputs/run-0")])),
    "clips": ("studio/clips", lambda: ClipFolder(Path("studio/clips"), 1).all()),
    "runs": ("studio/runs", studied),
    "votes": ("votes", lambda: votes.files_of([Path("votes")])),
    "data": ("pictures", lambda: Folder(Path("pictures"), prompt="oil").clips()),
}
SLOW: dict[str, tuple[str, Callable[[], object]]] = {
    "score": ("results", lambda: score_folder(Path("results"), None)),
    "report": ("results", lambda: gather(Path("results"), Media(Path("results/report")))),
}


def tried(whole: Path, place: Path, folder: str, read: Callable[[], object], looks: int) -> int:
    """How many entries of a folder were taken away while it was read."""
    names = [path.relative_to(whole) for path in sorted((whole / folder).rglob("*"))]
    gone = 0
    for number, name in enumerate([Path(folder), *names]):
        here = place / f"{looks}-{number}"
        shutil.copytree(whole / name.parts[0], here / name.parts[0])
        with pytest.MonkeyPatch.context() as patch:
            patch.chdir(here)
            Vanishing(here / name, looks).over(patch)
            try:
                read()
            except RerenderError:
                pass
            except Exception as error:
                raise AssertionError(f"{name} gone after look {looks}") from error
        gone += not (here / name).exists()
        shutil.rmtree(here)
    return gone


@pytest.mark.parametrize("name", READERS)
def test_what_vanishes_between_two_looks_is_no_bug(
    name: str, whole: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.CRITICAL)
    assert sum(tried(whole, tmp_path, *READERS[name], looks) for looks in LOOKS) > 0


@pytest.mark.slow
@pytest.mark.parametrize("name", SLOW)
def test_what_vanishes_while_results_are_read_is_no_bug(
    name: str, whole: Path, tmp_path: Path
) -> None:
    assert sum(tried(whole, tmp_path, *SLOW[name], looks) for looks in range(1, 3)) > 0
