"""Hydra's side of the engines of `rerender.launcher`: it must lie in this package to be found."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from hydra.core.utils import JobReturn, JobStatus, filter_overrides
from hydra.plugins.launcher import Launcher
from hydra.types import HydraContext, TaskFunction
from omegaconf import DictConfig, OmegaConf

from rerender.work import SWEEP, Call, read


class Spread(Launcher):  # type: ignore[misc]
    """Hands the jobs of a sweep, which are composed and checked already, to an engine.

    Args:
        settings: ``engine``, the full name of its class, and the engine's own settings.
    """

    def __init__(self, **settings: Any) -> None:
        self._settings = OmegaConf.to_container(OmegaConf.create(settings), resolve=True)
        self._engine: Any = None
        self._folder = Path()

    def setup(
        self, *, hydra_context: HydraContext, task_function: TaskFunction, config: DictConfig
    ) -> None:
        from rerender.launcher.engine import engine_of

        assert isinstance(self._settings, dict)
        self._engine = engine_of({str(key): value for key, value in self._settings.items()})
        self._folder = Path(str(config.hydra.sweep.dir)).absolute()

    def launch(
        self, job_overrides: Sequence[Sequence[str]], initial_job_idx: int
    ) -> Sequence[JobReturn]:
        sweep = read(self._folder / SWEEP)
        calls = [
            Call(
                number,
                sweep["trees"][number],
                sweep["name"],
                sweep["group"],
                " ".join(filter_overrides(said)),
                self._folder / str(number),
                Path.cwd(),
                keep=len(sweep["trees"]) > 1,
            )
            for number, said in enumerate(job_overrides, start=initial_job_idx)
        ]
        self._engine.run(calls)
        return [JobReturn(overrides=said, status=JobStatus.COMPLETED) for said in job_overrides]
