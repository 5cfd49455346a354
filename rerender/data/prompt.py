"""Prompts: the one that everything needs, and tables of them."""

from __future__ import annotations

import csv
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import NamedTuple

from rerender.errors import ConfigError, InputError

COLUMNS = ("name", "prompt", "source_prompt", "negative_prompt")


class Prompts(NamedTuple):
    """What is asked of one clip."""

    prompt: str | None
    source_prompt: str = ""
    negative_prompt: str = ""


def require_prompt(prompt: str | None) -> str:
    """The prompt, as it is.

    Raises:
        ConfigError: it is missing or blank.
    """
    if prompt is None or not prompt.strip():
        cure = 'say what the result should show: prompt="an oil painting"'
        raise ConfigError("prompt", f"is empty, received {prompt!r}", cure)
    return prompt


def read_table(path: Path, names: Collection[str], default: Prompts) -> Mapping[str, Prompts]:
    """Prompts by clip name from a csv file whose first line names its columns.

    Columns are ``name`` and any of ``prompt``, ``source_prompt``, ``negative_prompt``; an empty
    cell takes the default.

    Args:
        path: the csv file, UTF-8.
        names: the clips there are.
        default: prompts for clips and cells that are not in the table.

    Raises:
        InputError: it cannot be read, has other columns, or names a clip twice or an unknown one.
    """
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            reader = csv.DictReader(file)
            rows, columns = list(reader), reader.fieldnames or []
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise InputError(path, f"cannot be read ({error})", "give a csv file in UTF-8") from error
    strange = [column for column in columns if column not in COLUMNS]
    if strange or "name" not in columns:
        problem = f"has the columns {', '.join(map(str, columns)) or 'none'}"
        raise InputError(path, problem, f"name them in its first line: {', '.join(COLUMNS)}")
    table: dict[str, Prompts] = {}
    for line, row in enumerate(rows, 2):
        _require_new(path, line, row["name"], names, table)
        cells = (row.get(column) or getattr(default, column) for column in COLUMNS[1:])
        table[row["name"]] = Prompts(*cells)
    return table


def _require_new(
    path: Path, line: int, name: str, names: Collection[str], table: Collection[str]
) -> None:
    if name not in names:
        problem = f"line {line} names {name!r}, which is not in the folder"
        raise InputError(path, problem, f"names are {', '.join(sorted(names))[:200]}")
    if name in table:
        raise InputError(path, f"line {line} names {name!r} a second time", "keep one of them")
