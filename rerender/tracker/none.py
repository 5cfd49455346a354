"""No tracker besides the record that every run writes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rerender.contracts import Cell, Tracker


@dataclass(frozen=True)
class Silent(Tracker):
    """Keeps nothing: the run folder with its record.jsonl is the only record."""

    def start(self, folder: Path, config: Mapping[str, Any], name: str, group: str) -> None:
        """Nothing to begin."""

    def log(self, values: Mapping[str, float | int | str | None], step: int | None = None) -> None:
        """Nothing to add."""

    def summary(self, values: Mapping[str, float | int | str | None]) -> None:
        """Nothing to set."""

    def file(self, name: str, path: Path) -> None:
        """Nothing to keep."""

    def table(self, name: str, columns: Sequence[str], rows: Sequence[Sequence[Cell]]) -> None:
        """Nothing to keep."""

    def finish(self, exit_code: int) -> None:
        """Nothing to end."""
