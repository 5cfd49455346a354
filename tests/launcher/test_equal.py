"""Equal sweeps that are started at once: each run is made once, and all end well."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from rerender import files
from rerender.config.paths import ROOT
from rerender.jobs import worker
from rerender.run import main
from tests.faults import begun

SWEEP = [
    "+exp=smoke",
    "tracker=none",
    "data.size=32",
    "constraint=[]",
    "metrics=[integrity]",
    "seed=1,2",
]


def test_equal_sweeps_started_at_once_all_end_well(tiny: object, tmp_path: Path) -> None:
    assert tiny, "the libraries are imported"
    said = [tmp_path / f"{number}.txt" for number in range(2)]

    def sweep() -> int:
        os.chdir(tmp_path)
        return main(["-m", *SWEEP, "--no-tables"])

    starts = [begun(sweep, file) for file in said]
    codes = [os.waitstatus_to_exitcode(os.waitpid(start, 0)[1]) for start in starts]
    assert_made_once(tmp_path, codes, [file.read_text() for file in said])


@pytest.mark.slow
@pytest.mark.timeout(1200)
@pytest.mark.parametrize("more", [[], ["hydra/launcher=joblib"]])
def test_equal_sweeps_of_processes_all_end_well(more: list[str], tmp_path: Path) -> None:
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    starts = [
        subprocess.Popen(
            [sys.executable, "-m", "rerender.run", "-m", *SWEEP, *more],
            cwd=tmp_path,
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        for _ in range(4)
    ]
    said = [start.communicate()[0] for start in starts]
    assert_made_once(tmp_path, [start.returncode for start in starts], said)


def assert_made_once(place: Path, codes: list[int], said: list[str]) -> None:
    assert codes == [0] * len(codes), said
    runs = [path for path in (place / "outputs").iterdir() if not path.name.startswith(".")]
    assert len(runs) == 2
    for run in runs:
        assert (run / "record.jsonl").read_text().count('"event": "start"') == 1, "made once"
    assert sum(text.count("complete already") for text in said) == 2 * (len(said) - 1)
    assert not (place / "outputs" / ".jobs").exists()


# -- folders of commands --------------------------------------------------------------------------


def gone() -> int:
    """A process that is over."""
    child = subprocess.Popen([sys.executable, "-c", ""])
    child.wait()
    return child.pid


def test_what_killed_commands_left_is_taken_away_by_the_next(tmp_path: Path) -> None:
    code = (
        "import os, sys; from pathlib import Path\n"
        "from rerender import files; from rerender.jobs import worker\n"
        "folder = Path(sys.argv[1]); worker.begin(folder)\n"
        "files.put_json(folder / '0' / 'status.json', {'prompt': 'a secret'})\n"
        "os.kill(os.getpid(), 9)\n"
    )
    jobs = tmp_path / ".jobs"
    killed = jobs / "20200101-000000-1"
    subprocess.run([sys.executable, "-c", code, str(killed)], cwd=ROOT, timeout=250)
    assert (killed / "0" / "status.json").is_file()
    files.put(jobs / "notes" / "mine.txt", b"mine")  # no name of ours
    foreign = jobs / "20200101-000000-2"
    files.put(foreign / files.LOCK, b"pid 1 on another.machine\n")
    engine = jobs / "20200101-000000-3"  # its jobs may be queued still
    files.put(engine / ".submitit" / "1_task.pkl", b"")
    files.put(engine / files.LOCK, (killed / files.LOCK).read_bytes())
    (jobs / "20200101-000000-4").symlink_to(jobs / "notes")
    with files.lock(jobs / "20200101-000000-5"):
        worker.begin(jobs / f"20200101-000001-{os.getpid()}")
        worker.end()
        assert (jobs / "20200101-000000-5").is_dir(), "it is in use"
    assert not killed.exists()
    assert foreign.is_dir()
    assert engine.is_dir()
    assert (jobs / "notes" / "mine.txt").is_file()
    old = time.time() - worker.KEPT - 60
    for path in [foreign, engine, *foreign.rglob("*"), *engine.rglob("*")]:
        os.utime(path, (old, old))
    worker.begin(jobs / f"20200101-000002-{os.getpid()}")
    worker.end()
    assert not foreign.exists()
    assert not engine.exists()
