"""Jobs as tasks of a Ray cluster, one started here or one that is there."""

from __future__ import annotations

import os
import signal
from collections import deque
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from types import FrameType
from typing import Annotated, Any, ClassVar

from pydantic import Field

from rerender.errors import ConfigError
from rerender.exits import Terminated
from rerender.jobs.worker import ScheduledJob, run_in_process
from rerender.kinds import Address
from rerender.launcher.engine import Engine, say

_STORE = 100_000_000  # bytes of shared memory; jobs hand nothing over but their configuration


@dataclass(frozen=True)
class Ray(Engine):
    """A task for each job; Ray gives each its own GPU.

    Attributes:
        address: null starts a cluster on this machine and ends it afterwards; "auto" or an address
            joins one.
        workers: processor cores of the cluster that is started here; null takes all.
        cpus: cores of a job.
        gpus: GPUs of a job; null takes one where the cluster has any.
        at_once: how many jobs run at the same time; null as many as fit.
        retries: how often a job whose process or machine is lost is done again.
    """

    library: ClassVar[str] = "ray"
    extra: ClassVar[str] = "ray"
    address: Address | None = None
    workers: Annotated[int, Field(ge=1, le=1024)] | None = None
    cpus: Annotated[float, Field(gt=0, le=1024)] = 1.0
    gpus: Annotated[float, Field(ge=0, le=64)] | None = None
    at_once: Annotated[int, Field(ge=1)] | None = None
    retries: Annotated[int, Field(ge=0, le=100)] = 1

    def run(self, calls: Sequence[ScheduledJob]) -> None:
        os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
        import ray

        self._start(ray)
        try:
            with _terminable():
                self._all(ray, calls)
        finally:
            ray.shutdown()

    def _start(self, ray: Any) -> None:
        here: dict[str, Any] = {"num_cpus": self.workers, "object_store_memory": _STORE}
        here |= {"include_dashboard": False}
        try:
            ray.init(
                address="local" if self.address is None else self.address,
                logging_level="ERROR",
                **(here if self.address is None else {}),
            )
        except (ConnectionError, ValueError, RuntimeError) as error:
            reason = f"no cluster at {self.address!r} ({' '.join(str(error).split())[:120]})"
            raise ConfigError("hydra.launcher.address", reason, "ray start --head") from error

    def _all(self, ray: Any, calls: Sequence[ScheduledJob]) -> None:
        have = ray.cluster_resources()
        gpus = min(1.0, have.get("GPU", 0.0)) if self.gpus is None else self.gpus
        for name, wanted in (("CPU", self.cpus), ("GPU", gpus)):
            if wanted > have.get(name, 0.0):
                problem = f"{wanted:g} {name}s for a job, the cluster has {have.get(name, 0):g}"
                raise ConfigError("hydra.launcher", problem, "ask for less")
        task = ray.remote(num_cpus=self.cpus, num_gpus=gpus, max_retries=self.retries)(
            run_in_process
        )
        waiting = deque(calls)
        flying: dict[Any, ScheduledJob] = {}
        try:
            while waiting or flying:
                while waiting and len(flying) < (self.at_once or len(calls)):
                    call = waiting.popleft()
                    flying[task.remote(call)] = call
                (done,), _ = ray.wait(list(flying), num_returns=1)
                call = flying.pop(done)
                _settle(ray, done, call)
                say(call, len(calls))
        except BaseException:
            for reference in flying:
                ray.cancel(reference)
            raise


def _settle(ray: Any, done: Any, call: ScheduledJob) -> None:
    try:
        ray.get(done)
        call.lost("see the logs of Ray")
    except ray.exceptions.RayError as error:
        call.lost(" ".join(str(error).split())[:200])


@contextmanager
def _terminable() -> Iterator[None]:
    """As `rerender.exits.terminable`: Ray replaces that handler, and of what a handler raises
    while it waits it lets nothing through but a KeyboardInterrupt."""
    asked = []

    def stop(number: int, frame: FrameType | None) -> None:
        asked.append(number)
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGTERM, stop)
    try:
        yield
    except KeyboardInterrupt:
        if asked:
            raise Terminated from None
        raise
    finally:
        signal.signal(signal.SIGTERM, before)
