"""Scores and their files: one JSON object a line with a sum of its own, written whole, read back
exactly. Whoever only reads scores waits for no library that computes."""

from __future__ import annotations

import hashlib
import json
import logging
import math
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from typing import Any

from rerender import files
from rerender.errors import InputError

log = logging.getLogger(__name__)

SUM = "sum"
_SOMETIMES = ("remark", "kind", "source_clip")  # said where there is something to say


@dataclass(frozen=True)
class Score:
    """One row of a score file.

    Attributes:
        clip: name of the clip.
        method: name of the method that made the result.
        seed: seed it was made with; None where a method has none.
        metric: name of the metric.
        version: version of its definition.
        value: None where undefined.
        n: number of frames (or pairs) behind the value.
        note: backbone, or the reason why there is no value.
        direction: whether "lower" or "higher" is better.
        unit: of the value and the curve.
        curve: one number for each frame, None where undefined.
        key: hash of everything the value depends on; the row is kept while it stays the same.
        remark: what changes the meaning of the value, such as frames that are missing; "" for none.
        kind: of the edit that was asked for, such as style or object; "" where none is said.
        source_clip: the clip of which ``clip`` is one of several edits or prompts; "" for its own.
    """

    clip: str
    method: str
    seed: int | None
    metric: str
    version: str
    value: float | None
    n: int
    note: str = ""
    direction: str = "lower"
    unit: str = "1"
    curve: tuple[float | None, ...] = ()
    key: str = ""
    remark: str = ""
    kind: str = ""
    source_clip: str = ""

    @property
    def source(self) -> str:
        """The source clip: rows of one share its content, so they are no evidence about others."""
        return self.source_clip or self.clip


def finite(value: float | None) -> float | None:
    """The value itself, or None where it is not a finite number."""
    return value if value is not None and math.isfinite(value) else None


_NAMES = tuple(field.name for field in fields(Score))


def dump(rows: Iterable[Score]) -> bytes:
    """The file's content, sorted, so that the order of work does not show.

    Curves keep six significant digits; values keep all. The sum of a row is of all that it says,
    so that a changed digit is found. A name that is no UTF-8 is escaped, and read back as it was.
    """
    ordered = sorted(rows, key=lambda r: (r.method, r.clip, -1 if r.seed is None else r.seed))
    plain = [_plain(row) for row in ordered]
    lines = (_text({**row, SUM: _sum(row)}) + "\n" for row in plain)
    return "".join(lines).encode(errors="backslashreplace")


def _text(row: dict[str, Any]) -> str:
    return json.dumps(row, ensure_ascii=False, allow_nan=False)


def _sum(row: dict[str, Any]) -> str:
    return hashlib.sha256(_text(row).encode(errors="backslashreplace")).hexdigest()[:16]


def write(path: Path, rows: Iterable[Score]) -> None:
    """Write a score file: the whole of it or nothing."""
    files.put(path, dump(rows))


def read(path: Path) -> list[Score]:
    """The rows of a score file; none if there is no such file.

    Raises:
        InputError: a line is not a score, or does not fit its sum.
    """
    with suppress(FileNotFoundError):  # taken away after the look at it
        return parse(path.read_bytes(), path) if path.is_file() else []
    return []


def parse(data: bytes, path: Path) -> list[Score]:
    """The rows in a score file's content; ``path`` is named where a line is not a score.

    Raises:
        InputError: a line is not a score, or does not fit its sum.
    """
    rows: list[Score] = []
    if not data:  # nothing was measured
        return rows
    lines = data.decode(errors="replace").removesuffix("\n").split("\n")
    for number, line in enumerate(lines, 1):
        try:
            rows.append(_score(json.loads(line)))
        except (ValueError, TypeError, KeyError, RecursionError) as error:
            cure = f"score again: python -m eval.score {path.parent}"
            problem = f"is not a score row ({' '.join(str(error).split())[:200]})"
            raise InputError(f"{path}:{number}", problem, cure) from error
    return rows


def intact(path: Path) -> list[Score]:
    """The rows of a score file for one who can measure again: a damaged file is said once, and its
    rows are as if they had never been measured."""
    try:
        return read(path)
    except InputError as error:
        log.warning("%s: %s; measured again", error.where, error.problem)
        return []


def rounded(row: Score) -> Score:
    """A row as it is when it is read back: its curve has six significant digits."""
    curve = (None if value is None else float(f"{value:.6g}") for value in row.curve)
    return replace(row, curve=tuple(curve))


def _plain(row: Score) -> dict[str, Any]:
    plain = {**asdict(row), "curve": list(rounded(row).curve)}
    return {name: value for name, value in plain.items() if value or name not in _SOMETIMES}


def _score(found: dict[str, Any]) -> Score:
    """A row; those of others may lack a sum."""
    if not isinstance(found, dict):
        raise ValueError(f"{type(found).__name__} in place of an object")
    if found.pop(SUM, None) not in (None, _sum(found)):
        raise ValueError("it does not fit its sum")
    if not isinstance(found["clip"], str) or not isinstance(found["metric"], str):
        raise ValueError("clip and metric are texts")
    if found["value"] is not None and not isinstance(found["value"], (int, float)):
        raise ValueError("value is a number or null")
    named = {name: found[name] for name in _NAMES if name in found}
    row = Score(**{**named, "curve": tuple(found.get("curve", ()))})
    texts = [row.method, row.version, row.note, row.direction, row.unit, row.key]
    texts += [row.remark, row.kind, row.source_clip]
    numbers = (row.value, *row.curve)
    if not all(isinstance(text, str) for text in texts):
        raise ValueError("method, version, note, direction, unit, key, remark and kind are texts")
    if not isinstance(row.n, int) or not isinstance(row.seed, int | None):
        raise ValueError("n and seed are whole numbers")
    if not all(isinstance(v, int | float | None) and finite(v) == v for v in numbers):
        raise ValueError("values are finite numbers or null")
    return row
