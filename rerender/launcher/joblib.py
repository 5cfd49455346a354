"""Worker processes on this machine, by joblib."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Annotated, ClassVar

from pydantic import Field

from rerender.exits import report
from rerender.jobs.worker import ScheduledJob, run_in_process
from rerender.launcher.engine import Engine, devices

_POLL = 1.0  # seconds between looks at whether the command lives


@dataclass(frozen=True)
class Joblib(Engine):
    """A pool of processes, each of which keeps its model for the next job.

    With accelerators there are no more processes than these, and each has one to itself.

    Attributes:
        jobs: processes side by side.
    """

    library: ClassVar[str] = "joblib"
    extra: ClassVar[str] = "joblib"
    jobs: Annotated[int, Field(ge=1, le=1024)] = 2

    def run(self, calls: Sequence[ScheduledJob]) -> None:
        found = devices()
        todo = [replace(call, devices=found) for call in calls]
        while todo:
            self._round(todo, min(self.jobs, len(found) or self.jobs, len(todo)))
            # A process that dies takes the pool along. Whose fault it was shows when the jobs that
            # had begun are done again, each alone.
            for call in [call for call in todo if call.status().get("ended") is False]:
                self._round([call], 1)
            left = [call for call in todo if not call.status()]
            if len(left) == len(todo):
                return
            todo = left

    def _round(self, calls: Sequence[ScheduledJob], jobs: int) -> None:
        from joblib import Parallel, delayed

        command = os.getpid()
        try:
            if jobs == 1:  # joblib would do them in the command itself
                return _alone(calls, command)
            Parallel(jobs, backend="loky", batch_size=1, pre_dispatch=jobs)(
                delayed(_run)(call, command) for call in calls
            )
        except Exception as error:  # a dead process, in whatever words
            reason = " ".join(str(error).split())[:120]
            report(f"a process of the pool died ({reason}); going on", "warning")


def _alone(calls: Sequence[ScheduledJob], command: int) -> None:
    """One process for jobs one after the other: one that dies does not take the command along."""
    from joblib.externals.loky import ProcessPoolExecutor

    pool = ProcessPoolExecutor(1)
    try:
        for call in calls:
            pool.submit(_run, call, command).result()
    finally:
        pool.shutdown(kill_workers=True)


def _run(call: ScheduledJob, command: int) -> None:
    """Do a job in a process of the pool, for as long as the command lives: of one that was killed
    no process goes on, with its model in memory."""
    if not any(thread.name == _follow.__name__ for thread in threading.enumerate()):
        threading.Thread(
            target=_follow, args=(command,), name=_follow.__name__, daemon=True
        ).start()
    run_in_process(call)
    if os.getppid() != command:
        os._exit(0)


def _follow(command: int) -> None:
    """End this process when its command is gone: the job at hand as by SIGTERM."""
    while os.getppid() == command:
        time.sleep(_POLL)
    os.kill(os.getpid(), signal.SIGTERM)
