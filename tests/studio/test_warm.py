"""The warm process: runs are forked from it, share nothing, outlive it, and make the same bytes."""

from __future__ import annotations

import hashlib
import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from rerender.run_folder import sealed
from rerender.studio.runs import StudioRuns
from rerender.studio.warm import WarmWorker
from tests.codec.making import make, pictures
from tests.studio.test_runs import FACTS, lives, until

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="there is none elsewhere")

# A worker whose runs say what they find in their process, and wait to be told to go on. One that
# finds the file "dies" never gets warm.
PROGRAM = """
import json, os, sys, time
from multiprocessing.connection import Connection
from pathlib import Path
from rerender.studio.worker import serve
seen = []
def load():
    if Path("dies").exists():
        os._exit(1)
    seen.append("loaded")
    return lambda: seen.append("forked")
def run(arguments):
    seen.append("run")
    out = Path(next(a for a in arguments if a.startswith("out=")).partition("=")[2])
    (out / "keys").mkdir(parents=True, exist_ok=True)
    (out / "keys" / "000000.png").write_bytes(b"")
    print("warning:", *seen, os.getppid(), flush=True)
    while not Path("go").exists():
        time.sleep(0.02)
    (out / "video.mp4").write_bytes(b"film")
    (out / "metrics.json").write_text(FACTS)
    return 0
sys.exit(serve(Connection(int(sys.argv[1])), load, run, lambda channel: channel.send_bytes(b"hi")))
"""
PROGRAM = f"FACTS = {json.dumps(sealed(FACTS))!r}\n{PROGRAM}"


@pytest.fixture
def studio(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[StudioRuns, Any]]:
    """Runs, and the warm process that forks them."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).parents[2]))
    warm = WarmWorker((), (sys.executable, "-c", PROGRAM))
    runs = StudioRuns(tmp_path / "runs", warm)
    yield runs, warm
    (tmp_path / "go").touch()
    for state in runs.all():
        runs.cancel(state["id"])
    runs.close()


def test_runs_share_nothing_outlive_their_worker_and_are_cancelled_alone(
    studio: tuple[StudioRuns, Any], tmp_path: Path
) -> None:
    runs, warm = studio
    first = runs.start("a", {}, ["prompt=oil"])
    until(lambda: runs.state(first)["warnings"])
    worker = warm._process.pid
    assert runs.state(first)["warnings"] == [f"loaded forked run {worker}"]
    second = runs.start("a", {}, ["prompt=neon"])
    os.kill(worker, signal.SIGKILL)
    until(lambda: not lives(worker))
    assert runs.state(first)["state"] == "running"  # without it
    runs.cancel(first)
    until(lambda: runs.state(first)["state"] == "stopped")
    until(lambda: runs.state(second)["warnings"])  # of another worker, as if it were the first
    said = runs.state(second)["warnings"][0].split()
    assert said[:3] == ["loaded", "forked", "run"] and int(said[3]) not in (worker, os.getpid())
    assert warm.preview().recv_bytes() == b"hi"  # beside a run
    (tmp_path / "go").touch()
    until(lambda: runs.state(second)["state"] == "done")
    third = runs.start("a", {}, ["prompt=pencil"])
    until(lambda: runs.state(third)["state"] == "done")
    assert runs.state(third)["warnings"] == [" ".join(said)]  # nothing of the second
    runs.close()
    until(lambda: not lives(int(said[3])))


def test_a_worker_that_never_gets_warm_is_said(
    studio: tuple[StudioRuns, Any], tmp_path: Path
) -> None:
    (tmp_path / "dies").touch()
    runs, _ = studio
    id = runs.start("a", {}, ["prompt=oil"])
    until(lambda: runs.state(id)["state"] == "failed")
    assert "is lost" in runs.state(id)["message"]
    (tmp_path / "dies").unlink()
    (tmp_path / "go").touch()
    runs.start("a", {}, ["prompt=oil"])
    until(lambda: runs.state(id)["state"] == "done")


def digests(folder: Path) -> dict[str, str]:
    """Of every file that a run ends with."""
    names = [folder / "video.mp4", folder / "sheet.png", folder / "scores.jsonl"]
    found = [*names, *sorted((folder / "keys").glob("*.png"))]
    return {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in found}


@pytest.mark.slow
def test_a_run_of_the_warm_process_has_the_bytes_of_the_command(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).parents[2]))
    make(tmp_path / "cat.mp4", pictures(11))
    asked = ["data=video", "data.path=cat.mp4", "data.size=64", "prompt=oil", "preset=fast"]
    asked += ["keyframes.interval=5", "tracker=none", "metrics=[fidelity,warp_error]", "store=null"]
    runs = StudioRuns(tmp_path / "runs", WarmWorker(()))
    made: dict[int, tuple[str, dict[str, str]]] = {}
    try:
        for seed in (0, 1, 0):
            id = runs.start("a", {}, [*asked, f"seed={seed}"])
            until(lambda id=id: runs.state(id)["state"] in ("done", "failed"), 300)  # type: ignore
            found = id, digests(tmp_path / "runs" / id)
            assert made.setdefault(seed, found) == found  # what went before decides nothing
            runs.forget(id)
    finally:
        runs.close()
    for seed, (id, kept) in made.items():
        line = [sys.executable, "-m", "rerender.run", *asked, f"seed={seed}", f"out=typed/{id}"]
        subprocess.run(line, check=True, capture_output=True)
        assert digests(tmp_path / "typed" / id) == kept


ON_GPU = """
import os, sys
os.environ["PYTORCH_NVML_BASED_CUDA_CHECK"] = "1"
from multiprocessing.connection import Connection
from rerender.studio.worker import loaded, serve
def run(arguments):
    import torch
    print("warning:", torch.ones(3, device="cuda").sum().item(), flush=True)
    return 0
told = ("model.device=cuda",)
sys.exit(serve(Connection(int(sys.argv[1])), lambda: loaded(told), run, lambda channel: None))
"""


@pytest.mark.gpu
def test_a_fork_computes_on_the_gpu(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).parents[2]))
    runs = StudioRuns(tmp_path / "runs", WarmWorker((), (sys.executable, "-c", ON_GPU)))
    try:
        id = runs.start("a", {}, ["prompt=oil"])
        until(lambda: runs.state(id)["warnings"] or runs.state(id)["state"] != "waiting", 120)
        until(lambda: runs.state(id)["state"] == "stopped", 120)
        assert runs.state(id)["warnings"] == ["3.0"]
    finally:
        runs.close()
