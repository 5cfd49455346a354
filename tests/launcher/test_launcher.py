"""Engines: what they refuse, and sweeps that go through them as through one process."""

from __future__ import annotations

import hashlib
import importlib.util
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import pytest

from rerender.config.compose import literal, preflight
from rerender.config.paths import CONF, ROOT
from rerender.errors import ConfigError
from rerender.jobs.worker import STATUS, ScheduledJob, read, status_kept
from rerender.launcher.engine import Engine, engine_of
from rerender.run import main
from tests.experiments.test_sweep import SWEEP

LAUNCHERS = sorted(file.stem for file in (CONF / "hydra" / "launcher").glob("*.yaml"))
SLURM = Path(__file__).with_name("slurm.py")


def launcher(*arguments: str) -> Mapping[str, object]:
    return preflight(literal(["model=tiny", *arguments])).launcher


def there(name: str) -> None:
    """Skip where the library of an engine is not installed."""
    library = {"joblib": "joblib", "ray": "ray"}.get(name, "submitit")
    if importlib.util.find_spec(library) is None:
        pytest.skip(f"{library} is not installed")


# -- what a launcher says -------------------------------------------------------------------------


@pytest.mark.parametrize("name", LAUNCHERS)
def test_every_launcher_composes_and_builds(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Engine, "check", lambda self: None)
    monkeypatch.setattr(shutil, "which", lambda command: command)
    assert isinstance(engine_of(launcher(f"hydra/launcher={name}")), Engine)
    assert (CONF / "hydra" / "launcher" / f"{name}.yaml").read_text().startswith("# ")


def test_without_a_launcher_there_is_no_engine() -> None:
    assert engine_of(launcher()) is None


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["hydra/launcher=jobli"], "did you mean joblib?"),
        (["hydra/launcher=joblib", "hydra.launcher.jobs=0"], "hydra.launcher.jobs: "),
        (["hydra/launcher=joblib", "hydra.launcher.jobz=2"], "hydra.launcher.jobz: unknown key"),
        (["hydra/launcher=ray", "hydra.launcher.gpus=-1"], "hydra.launcher.gpus: "),
        (["hydra/launcher=joblib", "hydra.launcher.engine=os.system"], "unknown key"),
        (["hydra/launcher=joblib", "hydra.launcher._target_=os.system"], "not a part of this"),
        (
            ["hydra/launcher=joblib", "hydra.launcher._target_=rerender.flow.dis.Dis"],
            "hydra.launcher",
        ),
    ],
)
def test_a_wrong_launcher_is_refused_before_anything_starts(
    arguments: list[str],
    says: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main([*SWEEP, *arguments]) == 2
    assert says in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("name", LAUNCHERS)
def test_a_missing_library_or_cluster_is_named_with_its_cure(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda library: None)
    with pytest.raises(ConfigError, match=r"pip install .*-e '\.\[(joblib|slurm|ray)\]'"):
        engine_of(launcher(f"hydra/launcher={name}"))


# -- a job in a process of its own ----------------------------------------------------------------


def call(folder: Path, devices: tuple[str, ...] = ()) -> ScheduledJob:
    return ScheduledJob(0, {}, "name", "", "", folder / "0", folder, False, devices)


def test_a_job_leaves_word_when_it_begins_ends_and_fails(tmp_path: Path) -> None:
    job = call(tmp_path)
    with status_kept(job.ours, False):
        assert job.status()["ended"] is False
    assert job.status() == {"code": 0, "message": "", "folder": "", "ended": True}
    job.lost("never said")
    assert job.status()["code"] == 0

    def fail() -> None:
        raise ConfigError("key", "is wrong", "mend it")

    with status_kept(job.ours, False):
        fail()
    assert job.status()["code"] == 2
    with pytest.raises(KeyboardInterrupt), status_kept(job.ours, False):
        raise KeyboardInterrupt
    assert job.status()["code"] == 130


def test_a_job_that_is_killed_is_lost_with_a_reason(tmp_path: Path) -> None:
    code = (
        "import os, sys; from pathlib import Path; from rerender.jobs.worker import status_kept\n"
        "with status_kept(Path(sys.argv[1]), False) as status:\n"
        "    status['folder'] = 'outputs/a'\n"
        "    os.kill(os.getpid(), 9)\n"
    )
    job = call(tmp_path)
    subprocess.run([sys.executable, "-c", code, str(job.ours)], cwd=ROOT, timeout=250)
    assert job.status()["ended"] is False
    job.lost("see the log")
    status = json.loads((job.ours / STATUS).read_text())
    assert (status["code"], status["ended"]) == (70, True)
    assert status["message"].endswith("see the log")


def test_processes_that_share_devices_have_one_each(tmp_path: Path) -> None:
    code = (
        "import os, sys, time; from pathlib import Path\n"
        "from rerender.jobs.worker import ScheduledJob, take_device\n"
        "ours = Path(sys.argv[1])\n"
        "take_device(ScheduledJob(0, {}, '', '', '', ours, ours, False, ('3', 'GPU-7/1')))\n"
        "print(os.environ['CUDA_VISIBLE_DEVICES'], flush=True); sys.stdin.read()\n"
    )
    command = [sys.executable, "-c", code, str(tmp_path / "0")]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True, "cwd": ROOT}
    first, second = (subprocess.Popen(command, **pipes) for _ in range(2))  # type: ignore[call-overload]
    taken = {process.stdout.readline().strip() for process in (first, second)}
    assert taken == {"3", "GPU-7/1"}
    third = subprocess.Popen(command, **pipes)  # type: ignore[call-overload]
    time.sleep(0.6)
    assert third.poll() is None, "it waits"
    second.communicate("")
    assert third.stdout.readline().strip() in taken
    for process in (first, third):
        process.communicate("")


# -- sweeps through engines -----------------------------------------------------------------------


@pytest.fixture(scope="module")
def alone(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """What the sweep gives in one process."""
    place = tmp_path_factory.mktemp("alone")
    with command(place) as process:
        said, _ = process.communicate(timeout=200)
    assert process.returncode == 0, said
    return results(place)


def command(place: Path, *arguments: str, **environment: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", "rerender.run", *SWEEP, *arguments],
        cwd=place,
        env={**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1", **environment},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )


def results(place: Path) -> dict[str, str]:
    """Hash of everything that a sweep makes and that does not tell the time."""
    kept = ("video.mp4", "sheet.png", "scores.jsonl")
    files = [*place.glob("outputs/*/*"), *place.glob("results/*/*")]
    return {
        str(file.relative_to(place)): hashlib.sha256(file.read_bytes()).hexdigest()
        for file in sorted(files)
        if file.name in kept
    }


def settings(name: str) -> list[str]:
    chosen = [f"hydra/launcher={name}"]
    if name == "ray":
        return [*chosen, "hydra.launcher.workers=2"]
    return [*chosen, "hydra.launcher.memory=null"] if name == "submitit_slurm" else chosen


@contextmanager
def cluster(name: str, place: Path) -> Iterator[dict[str, str]]:
    """The environment in which a launcher works; SLURM's commands are stand-ins."""
    if name != "submitit_slurm":
        yield {}
        return
    tools = place / "tools"
    tools.mkdir()
    for tool in ("sbatch", "srun", "sacct", "scancel"):
        (tools / tool).write_text(f'#!/bin/sh\nexec {sys.executable} {SLURM} {tool} "$@"\n')
        (tools / tool).chmod(0o755)
    yield {"PATH": f"{tools}:{os.environ['PATH']}", "SLURM_STANDIN": str(place / "slurm")}


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.parametrize("name", LAUNCHERS)
def test_a_sweep_through_an_engine_is_the_same_sweep(
    name: str, alone: dict[str, str], tmp_path: Path
) -> None:
    there(name)
    with cluster(name, tmp_path) as environment:
        run = command(tmp_path, *settings(name), **environment)
        out, _ = run.communicate(timeout=250)
        assert run.returncode == 0, out
        assert results(tmp_path) == alone
        assert not (tmp_path / "outputs" / ".jobs").exists(), out
        again = command(tmp_path, *settings(name), **environment)
        out, _ = again.communicate(timeout=250)
        assert again.returncode == 0, out
        assert results(tmp_path) == alone


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.parametrize("name", LAUNCHERS)
def test_a_job_that_fails_leaves_the_others_and_exit_code_6(name: str, tmp_path: Path) -> None:
    there(name)
    plan = command(tmp_path, "--dry").communicate(timeout=100)[0]
    blocked = tmp_path / plan.splitlines()[0].split()[1]
    blocked.mkdir(parents=True)
    (blocked / "mine.txt").write_text("not to be touched")
    with cluster(name, tmp_path) as environment:
        run = command(tmp_path, *settings(name), **environment)
        out, _ = run.communicate(timeout=250)
    assert run.returncode == 6, out
    assert "failed: job 1: out: " in out
    assert "1 of 2 jobs failed" in out
    assert (tmp_path / "results" / "ablation_shape" / "table.csv").is_file(), out


def workers(place: Path, parent: int) -> set[int]:
    """Processes that work in a run folder, as their locks say."""
    found = set()
    for lock in place.glob("outputs/*/lock"):
        match = re.match(r"pid (\d+) ", lock.read_text())
        if match and int(match[1]) != parent and alive(int(match[1])):
            found.add(int(match[1]))
    return found


def alive(pid: int) -> bool:
    try:
        return "\nState:\tZ" not in Path(f"/proc/{pid}/status").read_text()
    except OSError:
        return False


LONG = ["data.frames=41", "sampling.steps=200"]  # long enough to be stopped


def started(run: subprocess.Popen[str], place: Path) -> set[int]:
    end = time.monotonic() + 150
    while time.monotonic() < end and run.poll() is None:
        found = workers(place, run.pid)
        if found and any(place.glob("outputs/*/record.jsonl")):
            return found
        time.sleep(0.1)
    raise AssertionError(run.communicate(timeout=10)[0])


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.parametrize("name", LAUNCHERS)
def test_a_signal_to_the_command_stops_its_jobs(
    name: str, number: signal.Signals, tmp_path: Path
) -> None:
    there(name)
    with cluster(name, tmp_path) as environment:
        run = command(tmp_path, *settings(name), *LONG, **environment)
        found = started(run, tmp_path)
        if number == signal.SIGINT:
            os.killpg(run.pid, number)  # as a terminal does
        else:
            run.send_signal(number)
        out, _ = run.communicate(timeout=60)
        end = time.monotonic() + 40
        while any(map(alive, found)) and time.monotonic() < end:
            time.sleep(0.1)
    assert run.returncode == 128 + number, out
    assert not [pid for pid in found if alive(pid)], "none works on"


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.parametrize("name", LAUNCHERS)
def test_a_killed_process_costs_no_other_job(name: str, tmp_path: Path) -> None:
    there(name)
    with cluster(name, tmp_path) as environment:
        retried = ["hydra.launcher.retries=0"] if name == "ray" else []
        run = command(tmp_path, *settings(name), *retried, "data.frames=41", **environment)
        os.kill(min(started(run, tmp_path)), signal.SIGKILL)
        out, _ = run.communicate(timeout=250)
    if name == "joblib":  # jobs of a pool that broke are done again
        assert run.returncode == 0, out
        assert "a process of the pool died" in out
    else:
        assert run.returncode == 6, out
        assert "its process ended without a word" in out
        assert "1 of 2 jobs failed" in out
    assert len(list(tmp_path.glob("results/*/*/video.mp4"))) == (2 if name == "joblib" else 1)


def test_statuses_that_cannot_be_read_are_empty(tmp_path: Path) -> None:
    (tmp_path / STATUS).write_text("{")
    assert read(tmp_path / STATUS) == {}


def test_of_a_killed_sweep_no_process_goes_on(tmp_path: Path) -> None:
    """Neither its pool, which would keep its models for minutes, nor its folder comes back."""
    there("joblib")
    code = (
        "import os, sys, time; from pathlib import Path\n"
        "from rerender.jobs.worker import ScheduledJob\n"
        "from rerender.launcher.joblib import Joblib\n"
        "place = Path(sys.argv[1])\n"
        "calls = [ScheduledJob(n, {}, '', '', '', place / str(n), place, False)\n"
        "         for n in range(2)]\n"
        "Joblib(jobs=2).run(calls)\n"
        "print('begun', flush=True); time.sleep(600)\n"
    )
    sweep = subprocess.Popen(
        [sys.executable, "-c", code, str(tmp_path)], stdout=subprocess.PIPE, text=True, cwd=ROOT
    )
    with sweep:
        assert sweep.stdout is not None
        assert sweep.stdout.readline() == "begun\n"
        pool = Path(f"/proc/{sweep.pid}/task/{sweep.pid}/children").read_text().split()
        sweep.kill()
    assert pool
    end = time.monotonic() + 120
    while any(Path(f"/proc/{pid}").exists() for pid in pool):
        assert time.monotonic() < end, "a process of the pool lives on"
        time.sleep(0.1)


def test_a_job_that_kills_its_process_is_lost_alone(tmp_path: Path) -> None:
    """Also where joblib has one process, for which it takes the command's own."""
    there("joblib")
    code = (
        "import os, sys; from pathlib import Path; from rerender.jobs import worker\n"
        "from rerender.launcher import joblib\n"
        "def dies(call, command):\n"
        "    with worker.status_kept(call.ours, False):\n"
        "        os.kill(os.getpid(), 9 * (call.number == 0))\n"
        "joblib._run, place = dies, Path(sys.argv[1])\n"
        "calls = [worker.ScheduledJob(n, {}, '', '', '', place / str(n), place, False)\n"
        "         for n in range(2)]\n"
        "joblib.Joblib(jobs=1).run(calls)\n"
    )
    sweep = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path)], cwd=ROOT, capture_output=True, text=True
    )
    assert sweep.returncode == 0, sweep.stderr
    assert "a process of the pool died" in sweep.stderr
    assert [read(tmp_path / f"{n}" / STATUS)["ended"] for n in range(2)] == [False, True]


def test_the_folder_of_a_killed_command_that_was_taken_away_stays_away(tmp_path: Path) -> None:
    job = call(tmp_path)
    with status_kept(job.ours, False):
        shutil.rmtree(job.ours)
    assert not job.ours.exists()
