"""Weights & Biases: offline by default, online only when asked, never in the way."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field

from rerender.contracts import Cell, Tracker

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class WandB(Tracker):
    """One W&B run for each run, in its folder; upload an offline one with ``wandb sync``.

    Neither the command line, the environment, the machine nor the source is recorded: only the
    configuration, the values and the files given.

    Attributes:
        mode: "offline" writes to the run folder; "online" sends, and falls back to offline with
            one warning where the server does not answer.
        project: project that the runs belong to.
        init_timeout: seconds to wait for the server.
    """

    mode: Literal["offline", "online"] = "offline"
    project: Annotated[str, Field(min_length=1)] = "rerender"
    init_timeout: Annotated[float, Field(gt=0, le=600)] = 20.0
    _open: list[Any] = field(default_factory=list, init=False, repr=False, compare=False)

    def start(self, folder: Path, config: Mapping[str, Any], name: str, group: str) -> None:
        options: dict[str, Any] = {
            "dir": folder,
            "project": self.project,
            "name": name,
            "group": group or None,
            "config": dict(config),
        }
        self._open.append(self._begin(options))

    def log(self, values: Mapping[str, float | int | str | None], step: int | None = None) -> None:
        self._run.log({key: v for key, v in values.items() if v is not None}, step=step)

    def summary(self, values: Mapping[str, float | int | str | None]) -> None:
        self._run.summary.update(dict(values))

    def file(self, name: str, path: Path) -> None:
        import wandb

        video = path.suffix == ".mp4"
        media = wandb.Video(str(path), format="mp4") if video else wandb.Image(str(path))
        self._run.log({name: media})

    def table(self, name: str, columns: Sequence[str], rows: Sequence[Sequence[Cell]]) -> None:
        import wandb

        table = wandb.Table(columns=list(columns), allow_mixed_types=True)
        for row in rows:
            table.add_data(*row)
        self._run.log({name: table})

    def finish(self, exit_code: int) -> None:
        while self._open:
            self._open.pop().finish(exit_code=exit_code)

    @property
    def _run(self) -> Any:
        return self._open[-1]

    def _begin(self, options: Mapping[str, Any]) -> Any:
        import wandb

        if self.mode == "online":
            try:
                return wandb.init(mode="online", settings=self._settings(), **options)
            except Exception as error:  # whatever keeps it from answering
                reason = " ".join(str(error).split())
                log.warning("tracker: W&B did not answer (%s); recording offline", reason[:200])
                wandb.teardown(exit_code=0)
        return wandb.init(mode="offline", settings=self._settings(), **options)

    def _settings(self) -> Any:
        import wandb

        return wandb.Settings(
            init_timeout=self.init_timeout,
            console="off",
            silent=True,
            save_code=False,
            disable_git=True,
            disable_code=True,
            x_disable_meta=True,
            x_disable_machine_info=True,
            x_disable_stats=True,
            program="rerender.run",
            host="-",
        )
