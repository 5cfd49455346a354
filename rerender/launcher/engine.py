"""What every engine does, and what they share."""

from __future__ import annotations

import importlib
import importlib.util
import os
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

from rerender.config.allowlist import ALONE, TARGET
from rerender.config.build import build
from rerender.errors import ConfigError
from rerender.exits import report
from rerender.jobs.worker import ScheduledJob


class Engine(ABC):
    """Does jobs in other processes, on this machine or others that see the same disk.

    Attributes:
        library: what it needs.
        extra: the extra of this project that installs it.
    """

    library: ClassVar[str]
    extra: ClassVar[str]

    def check(self) -> None:
        """Refuse what cannot work, before anything is started.

        Raises:
            ConfigError: the engine's library is missing or there is no such cluster.
        """
        if importlib.util.find_spec(self.library) is None:
            cure = f"pip install -c constraints.txt -e '.[{self.extra}]'"
            raise ConfigError("hydra/launcher", f"needs {self.library}, which is missing", cure)

    @abstractmethod
    def run(self, calls: Sequence[ScheduledJob]) -> None:
        """Do all jobs; one that fails or dies stops no other. Each leaves its status.

        Raises:
            ConfigError: the cluster refuses what is asked for.
            KeyboardInterrupt, Terminated: after all jobs are stopped.
        """


def engine_of(settings: Mapping[str, Any]) -> Engine | None:
    """The engine that ``hydra.launcher`` describes; None for jobs one after the other, here.

    Raises:
        ConfigError: a wrong value, or `Engine.check` refuses it.
    """
    if settings.get(TARGET) in (None, ALONE):
        return None
    engine = build(settings, "hydra.launcher")
    if not isinstance(engine, Engine):
        where = f"hydra.launcher.{TARGET}"
        raise ConfigError(where, "is not an engine", "choose hydra/launcher=NAME")
    engine.check()
    return engine


def devices() -> tuple[str, ...]:
    """The accelerators that this process may use, as CUDA_VISIBLE_DEVICES names them."""
    given = os.environ.get("CUDA_VISIBLE_DEVICES")
    if given is not None:
        return tuple(name.strip() for name in given.split(",") if name.strip())
    from torch import cuda

    return tuple(map(str, range(cuda.device_count())))


def say(call: ScheduledJob, total: int) -> None:
    """A line for a job that ended elsewhere, where its own words do not show."""
    status = call.status()
    how = "done" if status.get("code") == 0 else status.get("message", "failed")
    report(f"{call.number + 1} of {total}: {how}", "job")
