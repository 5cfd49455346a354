"""The page of a device's figures."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

TITLES = {
    "keys": "Seconds per key frame (all four constraints, 20 steps at strength 0.75)",
    "evaluation": "Milliseconds of one call of the networks, by requests in a batch",
    "outside": "Outside of the networks",
    "clip": "A clip from end to end, without codecs",
    "propagation": "Frames between key frames",
    "memory": "Device memory over many key frames",
    "tests": "Tests marked gpu",
    "methods": "Every method against the processor, demo model in float32",
    "sdxl": "Seconds per key frame of Stable Diffusion XL",
    "profile": "Where the time of a key frame goes",
}


def page(parts: Mapping[str, Mapping[str, Any]]) -> str:
    """Markdown of all parts: a table each, with what it is of."""
    first = next(iter(parts.values()), {})
    lines = [f"# On one {first.get('card', 'device')}", ""]
    for name, part in parts.items():
        lines += [f"## {TITLES[name]}", ""]
        said = ", ".join(
            f"{key} {part[key]}" for key in ("card", "date", "torch", "python", "commit")
        )
        lines += [f"{said}; `{part['command']}`", ""]
        lines += table(part["rows"])
        if part.get("error"):
            lines += [f"Not complete: {part['error']}", ""]
    return "\n".join(lines)


def table(rows: list[Mapping[str, Any]]) -> list[str]:
    """Rows with all their columns, in the order in which these first come."""
    columns = list(dict.fromkeys(column for row in rows for column in row))
    if not columns:
        return []
    lines = [f"| {' | '.join(columns)} |", "|" + "---|" * len(columns)]
    lines += [f"| {' | '.join(cell(row.get(each, '')) for each in columns)} |" for row in rows]
    return [*lines, ""]


def cell(value: Any) -> str:
    """A value in a table."""
    if isinstance(value, Mapping):
        return ", ".join(f"{key} {cell(each)}" for key, each in value.items())
    if isinstance(value, (list, tuple)):
        return ", ".join(cell(each) for each in value)
    return str(value).replace("|", "/").replace("\n", " ")
