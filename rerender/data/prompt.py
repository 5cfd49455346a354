"""Prompts: the one that everything needs, and tables of them."""

from __future__ import annotations

import csv
import stat
import unicodedata
from collections.abc import Collection, Iterator, Mapping
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

    Args:
        path: the csv file, UTF-8 with or without a byte order mark; empty lines are left out.
        names: the clips there are.
        default: prompts for clips that are not in the table, and for its empty cells.

    Raises:
        InputError: it cannot be read, has other columns, a line that does not fit its header, one
            without any prompt, or one that names a clip twice or an unknown one.
    """
    lines = table_lines(path)
    _, header = next(lines, (1, []))
    if set(header) - set(COLUMNS) or "name" not in header or len(set(header)) < len(header):
        problem = f"has the columns {', '.join(header)[:200] or 'none'}"
        cure = f"name them in its first line, separated by commas: {', '.join(COLUMNS)}"
        raise InputError(path, problem, cure)
    table: dict[str, Prompts] = {}
    for line, cells in lines:
        if len(cells) != len(header):
            count = "1 cell" if len(cells) == 1 else f"{len(cells)} cells"
            problem = f"line {line} has {count} for {len(header)} columns"
            raise InputError(path, problem, 'put a text with commas in quotes: "a cat, sitting"')
        row = dict(zip(header, cells, strict=True))
        name = unicodedata.normalize("NFC", row["name"])
        _require_new(path, line, name, names, table)
        said = Prompts(*(row.get(column) or getattr(default, column) for column in COLUMNS[1:]))
        if not (said.prompt or "").strip():
            problem = f"line {line} has no prompt for {name!r}"
            raise InputError(path, problem, "write one there, or give prompt=… for all")
        table[name] = said
    return table


def table_lines(path: Path) -> Iterator[tuple[int, list[str]]]:
    """The rows of a csv file that are not empty, each with the number of its first line.

    Raises:
        InputError: it is no plain file, not UTF-8 or no csv.
    """
    try:
        if not stat.S_ISREG(path.stat().st_mode):
            raise InputError(path, "is not a plain file", "give a csv file in UTF-8")
        with path.open(newline="", encoding="utf-8-sig") as file:
            reader, line = csv.reader(file, strict=True), 1
            for cells in reader:
                if cells:
                    yield line, cells
                line = reader.line_num + 1
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        why = "it is not UTF-8" if isinstance(error, UnicodeDecodeError) else str(error)
        why = (error.strerror or why).lower() if isinstance(error, OSError) else why
        raise InputError(path, f"cannot be read ({why})", "give a csv file in UTF-8") from error


def _require_new(
    path: Path, line: int, name: str, names: Collection[str], table: Collection[str]
) -> None:
    if name not in names:
        problem = f"line {line} names {name!r}, which is not in the folder"
        raise InputError(path, problem, f"names are {', '.join(sorted(names))[:200]}")
    if name in table:
        raise InputError(path, f"line {line} names {name!r} a second time", "keep one of them")
