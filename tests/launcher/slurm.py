"""A stand-in for SLURM's commands: no scheduler, but submitit's own scripts run as one array."""

from __future__ import annotations

import os
import re
import shlex
import signal
import subprocess
import sys
import time
from pathlib import Path

ROOT = Path(os.environ["SLURM_STANDIN"])
JOB = "4711"


def sbatch(script: Path) -> None:
    """Start the array in the background, never more tasks at once than its limit."""
    ROOT.mkdir(exist_ok=True)
    text = script.read_text()
    found = re.search(r"--array=0-(\d+)%(\d+)", text)
    assert found, text
    (ROOT / "script").write_text(text)
    (ROOT / "count").write_text(found[1])
    command = [sys.executable, __file__, "array", found[2]]
    null = subprocess.DEVNULL
    process = subprocess.Popen(command, start_new_session=True, stdout=null, stderr=null)
    (ROOT / "pid").write_text(str(process.pid))
    print(f"Submitted batch job {JOB}")


def array(limit: int) -> None:
    """Run the tasks of the array, and note the state of each."""
    (srun,) = (li for li in (ROOT / "script").read_text().splitlines() if li.startswith("srun"))
    running: dict[int, subprocess.Popen[bytes]] = {}
    for task in range(int((ROOT / "count").read_text()) + 1):
        while len(running) >= limit:
            _reap(running)
        (ROOT / f"state{task}").write_text("RUNNING")
        words = shlex.split(srun)
        start = words.index("submitit.core._submit") - 3  # python -u -m
        environment = {
            **os.environ,
            "SUBMITIT_EXECUTOR": "slurm",
            "SLURM_JOB_ID": str(4800 + task),
            "SLURM_ARRAY_JOB_ID": JOB,
            "SLURM_ARRAY_TASK_ID": str(task),
            "SLURM_JOB_NUM_NODES": "1",
            "SLURM_NTASKS": "1",
            "SLURM_NODEID": "0",
            "SLURM_PROCID": "0",
            "SLURM_LOCALID": "0",
            "SLURM_JOB_NODELIST": "here",
        }
        log = (ROOT / f"log{task}").open("wb")
        running[task] = subprocess.Popen(words[start:], env=environment, stdout=log, stderr=log)
    while running:
        _reap(running)


def _reap(running: dict[int, subprocess.Popen[bytes]]) -> None:
    for task, process in list(running.items()):
        if process.poll() is not None:
            (ROOT / f"state{task}").write_text("COMPLETED" if process.returncode == 0 else "FAILED")
            del running[task]
    time.sleep(0.05)


def sacct() -> None:
    print("JobID|State|NodeList")
    for file in sorted(ROOT.glob("state*")):
        print(f"{JOB}_{file.name.removeprefix('state')}|{file.read_text()}|here")


def main() -> None:
    tool = sys.argv[1]
    if tool == "sbatch":
        sbatch(Path(sys.argv[-1]))
    elif tool == "array":
        array(int(sys.argv[2]))
    elif tool == "sacct":
        sacct()
    elif tool == "scancel":
        os.killpg(int((ROOT / "pid").read_text()), signal.SIGTERM)


if __name__ == "__main__":
    main()
