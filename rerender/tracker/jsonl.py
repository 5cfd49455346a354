"""The record that every run writes: one JSON object per line, the source of truth for tables."""

from __future__ import annotations

import json
import math
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from rerender import files
from rerender.contracts import Cell, Tracker
from rerender.run_folder import RECORD


class Jsonl(Tracker):
    """Appends to ``record.jsonl`` in the run folder; a new start begins a new attempt below."""

    def __init__(self) -> None:
        self._path: Path | None = None

    def start(self, folder: Path, config: Mapping[str, Any], name: str, group: str) -> None:
        self._path = folder / RECORD
        self._write("start", name=name, group=group, config=config)

    def log(self, values: Mapping[str, float | int | str | None], step: int | None = None) -> None:
        self._write("log", step=step, values=_finite(values))

    def summary(self, values: Mapping[str, float | int | str | None]) -> None:
        self._write("summary", values=_finite(values))

    def file(self, name: str, path: Path) -> None:
        assert self._path is not None
        self._write("file", name=name, path=path.relative_to(self._path.parent).as_posix())

    def table(self, name: str, columns: Sequence[str], rows: Sequence[Sequence[Cell]]) -> None:
        finite = [[self._plain(cell) for cell in row] for row in rows]
        self._write("table", name=name, columns=list(columns), rows=finite)

    def finish(self, exit_code: int) -> None:
        self._write("finish", exit_code=exit_code)

    def _plain(self, cell: Cell) -> float | int | str | None:
        """A cell as JSON knows it; a file by its place in the run folder."""
        if isinstance(cell, Path):
            assert self._path is not None
            return cell.relative_to(self._path.parent).as_posix()
        return next(iter(_finite({"": cell}).values()))

    def _write(self, event: str, **content: Any) -> None:
        assert self._path is not None, "a record begins with start()"
        line = json.dumps({"event": event, "time": round(time.time(), 3), **content})
        files.append_line(self._path, line.encode())


def _finite(values: Mapping[str, float | int | str | None]) -> dict[str, float | int | str | None]:
    """The values with null for what is not a number, as JSON knows neither NaN nor infinity."""
    return {
        key: None if isinstance(value, float) and not math.isfinite(value) else value
        for key, value in values.items()
    }
