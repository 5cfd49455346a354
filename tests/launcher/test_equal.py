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

SWEEP = [
    "+exp=smoke",
    "tracker=none",
    "data.size=32",
    "constraint=[]",
    "metrics=[integrity]",
    "seed=1,2",
]


@pytest.mark.timeout(1200)
@pytest.mark.parametrize(
    ("count", "more"),
    [
        (2, ["--no-tables"]),
        pytest.param(4, [], marks=pytest.mark.slow),
        pytest.param(4, ["hydra/launcher=joblib"], marks=pytest.mark.slow),
    ],
)
def test_equal_sweeps_started_at_once_all_end_well(
    count: int, more: list[str], tmp_path: Path
) -> None:
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-m", "rerender.run", "-m", *SWEEP, *more]
    starts = [
        subprocess.Popen(
            command,
            cwd=tmp_path,
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for _ in range(count)
    ]
    ends = [start.communicate() for start in starts]
    assert [start.returncode for start in starts] == [0] * count, ends
    runs = [path for path in (tmp_path / "outputs").iterdir() if not path.name.startswith(".")]
    assert len(runs) == 2
    for run in runs:
        assert (run / "record.jsonl").read_text().count('"event": "start"') == 1, "made once"
    assert sum(out.count("complete already") for out, _ in ends) == 2 * (count - 1)
    assert not (tmp_path / "outputs" / ".jobs").exists()


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
