"""One process for each job, on this machine or by SLURM, by submitit."""

from __future__ import annotations

import shutil
import time
from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Annotated, Any, ClassVar, Literal

from pydantic import Field

from rerender.errors import ConfigError
from rerender.jobs.worker import ScheduledJob, run_in_process
from rerender.launcher.engine import Engine, devices, say

_POLL = 0.2


@dataclass(frozen=True)
class Submitit(Engine):
    """Jobs as submitit submits them; their words go to ``outputs/.jobs/*/.submitit``.

    Attributes:
        cluster: "local" starts processes here; "slurm" submits one job array.
        at_once: how many run at the same time (the array limit).
        minutes: time-out of a job.
        requeues: how often a SLURM job that was preempted or timed out is queued again; it goes on
            where it stopped.
        gpus: GPUs of a SLURM job; locally every process takes one, if there are any.
        cpus: processor cores of a SLURM job.
        memory: GB of a SLURM job; None leaves it to the cluster.
        more: further settings of submitit, such as ``slurm_partition: gpu``.
    """

    library: ClassVar[str] = "submitit"
    extra: ClassVar[str] = "slurm"
    cluster: Literal["local", "slurm"] = "local"
    at_once: Annotated[int, Field(ge=1, le=10_000)] = 2
    minutes: Annotated[int, Field(ge=1)] = 60
    requeues: Annotated[int, Field(ge=0, le=100)] = 3
    gpus: Annotated[int, Field(ge=0, le=64)] = 1
    cpus: Annotated[int, Field(ge=1, le=1024)] = 4
    memory: Annotated[float, Field(gt=0)] | None = None
    more: Mapping[str, Any] = field(default_factory=dict)

    def check(self) -> None:
        super().check()
        if self.cluster == "slurm" and not shutil.which("srun"):
            cure = "start it on a machine that submits jobs"
            raise ConfigError("hydra/launcher", "there is no srun here", cure)

    def run(self, calls: Sequence[ScheduledJob]) -> None:
        executor = self._executor(calls[0])
        if self.cluster == "local":
            shared, at_once = devices(), self.at_once
            calls = [replace(call, devices=shared) for call in calls]
            self._each(executor, deque(calls), min(at_once, len(shared) or at_once), len(calls))
        else:
            jobs = executor.map_array(_Task(), list(calls))
            _ended(list(zip(calls, jobs, strict=True)), len(calls), 0)

    def _executor(self, call: ScheduledJob) -> Any:
        import submitit

        folder = call.ours.parent / ".submitit" / "%j"
        settings: dict[str, Any] = {"timeout_min": self.minutes, "name": "rerender", **self.more}
        if self.cluster == "slurm":
            settings |= {
                "slurm_array_parallelism": self.at_once,
                "gpus_per_node": self.gpus,
                "cpus_per_task": self.cpus,
                "nodes": 1,
                "tasks_per_node": 1,
            }
            settings |= {} if self.memory is None else {"mem_gb": self.memory}
        try:
            limit = {f"{self.cluster}_max_num_timeout": self.requeues}
            executor = submitit.AutoExecutor(folder, cluster=self.cluster, **limit)
            executor.update_parameters(**settings)
        except (RuntimeError, NameError, TypeError, ValueError, AssertionError) as error:
            reason = " ".join(str(error).split())[:200]
            cure = "start it where the cluster's commands are, with settings that submitit knows"
            raise ConfigError("hydra.launcher", reason, cure) from error
        return executor

    def _each(self, executor: Any, waiting: deque[ScheduledJob], at_once: int, total: int) -> None:
        """Start processes, never more than ``at_once``, so that none waits while its time runs."""
        running: list[tuple[ScheduledJob, Any]] = []
        try:
            while waiting:
                call = waiting.popleft()
                running.append((call, executor.submit(_Task(), call)))
                running = _ended(running, total, at_once - 1)
            _ended(running, total, 0)
        except BaseException:
            _cancel(running)
            raise


class _Task:
    """What submitit runs; a job that is preempted goes on with the same call."""

    def __call__(self, call: ScheduledJob) -> None:
        run_in_process(call)

    def checkpoint(self, call: ScheduledJob) -> Any:
        """Queue the same job again."""
        from submitit.helpers import DelayedSubmission

        return DelayedSubmission(self, call)


def _ended(
    running: list[tuple[ScheduledJob, Any]], total: int, left: int
) -> list[tuple[ScheduledJob, Any]]:
    """Wait until no more than ``left`` jobs run; these are given back."""
    try:
        while True:
            for call, job in [one for one in running if one[1].done()]:
                call.lost(f"see {job.paths.stderr}")
                say(call, total)
                running = [one for one in running if one[0] is not call]
            if len(running) <= left:
                return running
            time.sleep(_POLL)
    except BaseException:
        _cancel(running)
        raise


def _cancel(running: Sequence[tuple[ScheduledJob, Any]]) -> None:
    for _, job in running:
        job.cancel(check=False)
