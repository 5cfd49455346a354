"""Score files: one JSON object a line, written whole, read back exactly."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import asdict, fields
from pathlib import Path
from typing import Any

from eval.contracts import Score
from rerender import store
from rerender.errors import InputError

SCORES = "scores.jsonl"
_NAMES = tuple(field.name for field in fields(Score))


def dump(rows: Iterable[Score]) -> bytes:
    """The file's content, sorted, so that the order of work does not show.

    Curves keep six significant digits; values keep all.
    """
    ordered = sorted(rows, key=lambda r: (r.method, r.clip, -1 if r.seed is None else r.seed))
    return "".join(
        json.dumps(_plain(row), ensure_ascii=False, allow_nan=False) + "\n" for row in ordered
    ).encode()


def write(path: Path, rows: Iterable[Score]) -> None:
    """Write a score file: the whole of it or nothing."""
    store.put(path, dump(rows))


def read(path: Path) -> list[Score]:
    """The rows of a score file; none if there is no such file.

    Raises:
        InputError: a line is not a score.
    """
    return parse(path.read_bytes(), path) if path.is_file() else []


def parse(data: bytes, path: Path) -> list[Score]:
    """The rows in a score file's content; ``path`` is named where a line is not a score.

    Raises:
        InputError: a line is not a score.
    """
    rows = []
    lines = data.decode(errors="replace").removesuffix("\n").split("\n")
    for number, line in enumerate(lines, 1):
        try:
            rows.append(_score(json.loads(line)))
        except (ValueError, TypeError, KeyError) as error:
            cure = "remove the file and score again"
            raise InputError(f"{path}:{number}", f"is not a score row ({error})", cure) from error
    return rows


def _plain(row: Score) -> dict[str, Any]:
    curve = [None if value is None else float(f"{value:.6g}") for value in row.curve]
    return {**asdict(row), "curve": curve}


def _score(found: dict[str, Any]) -> Score:
    if not isinstance(found["clip"], str) or not isinstance(found["metric"], str):
        raise ValueError("clip and metric are texts")
    if found["value"] is not None and not isinstance(found["value"], (int, float)):
        raise ValueError("value is a number or null")
    named = {name: found[name] for name in _NAMES if name in found}
    return Score(**{**named, "curve": tuple(found.get("curve", ()))})
