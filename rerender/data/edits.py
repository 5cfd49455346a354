"""Tables of edits, each one clip with one prompt, as csv or yaml."""

from __future__ import annotations

import csv
import io
import stat
import unicodedata
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

import yaml

from rerender.errors import InputError

if TYPE_CHECKING:
    from rerender.data.folder import Edit

COLUMNS = (
    "name",
    "prompt",
    "source_prompt",
    "negative_prompt",
    "kind",
    "path",
    "start",
    "frames",
    "mask",
    "licence",
    "attribution",
)
_OF_EDIT = ("prompt", "kind", "source_prompt", "negative_prompt", "start", "frames", "mask")
FETCHED = "set.yaml"  # the table that a fetched data set has
_LARGEST = 16 << 20  # bytes of a table
_Loader: type[yaml.SafeLoader] = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
Row = Mapping[str, str]


def read_edits(table: Path, found: Mapping[str, Path] | None, default: Edit) -> list[Edit]:
    """The edits that a table names, in the order of its clips, then of its lines.

    A table is a csv file, whose first line names its columns, or a yaml file: ``clips: {NAME:
    {path: …, source_prompt: …, edits: [{prompt: …, kind: …}, …]}}``. Cells that are empty and texts
    that are missing are those of ``default``. A clip with several edits gives each the name of its
    kind: ``dog-style``, or ``dog-style-2`` for the second one of a kind.

    Args:
        table: UTF-8 with or without a byte order mark; paths in it are relative to its folder.
        found: the clips of a folder by name, for tables that name no paths.
        default: settings for what a line does not say.

    Raises:
        InputError: it cannot be read, says what is not known, or a line lacks a prompt, names an
            unknown clip or says the same twice.
    """
    rows = list(_yaml(table) if table.suffix.lower() in (".yaml", ".yml") else _csv(table))
    edits: dict[str, list[Edit]] = {}
    for where, row in rows:
        edit = _edit(table, where, row, found, default)
        same = edits.setdefault(edit.source_clip, [])
        if any(replace(edit, table=None) == replace(other, table=None) for other in same):
            problem = f"{where} names {edit.source_clip!r} a second time with the same prompt"
            raise InputError(table, problem, "keep one of them")
        same.append(edit)
    named = [edit for same in edits.values() for edit in _named(same)]
    twice = [name for name, count in Counter(edit.name for edit in named).items() if count > 1]
    if twice:
        raise InputError(table, f"gives two edits the name {twice[0]!r}", "rename a clip or a kind")
    return named


def names_paths(table: Path) -> bool:
    """Whether a table says where its clips lie.

    Raises:
        InputError: it cannot be read.
    """
    if table.suffix.lower() in (".yaml", ".yml"):
        return any(row.get("path") for _, row in _yaml(table))
    return "path" in next(table_lines(table), (1, []))[1]


def _named(edits: Sequence[Edit]) -> Iterator[Edit]:
    """The edits of one clip, each with a name of its own."""
    if len(edits) == 1:
        yield replace(edits[0], name=edits[0].source_clip)
        return
    labels = [edit.kind.replace("/", "_").strip() or "edit" for edit in edits]
    seen: Counter[str] = Counter()
    for edit, label in zip(edits, labels, strict=True):
        seen[label] += 1
        number = f"-{seen[label]}" if labels.count(label) > 1 else ""
        yield replace(edit, name=f"{edit.source_clip}-{label}{number}")


def _edit(
    table: Path, where: str, row: Row, found: Mapping[str, Path] | None, default: Edit
) -> Edit:
    name = unicodedata.normalize("NFC", row["name"])
    path = table.parent / row["path"] if row.get("path") else (found or {}).get(name)
    if not name.strip() or path is None:
        problem = f"{where} names {name!r}, which is not in the folder"
        if found is None:
            problem = f"{where} has no path for {name!r}, others have one"
        known = f"names are {', '.join(sorted(found or ()))[:200]}"
        raise InputError(table, problem, known if found else "write its path there")
    if row.get("path") and not path.exists():
        raise InputError(table, f"{where}: {path} is not there", "correct the path")
    prompt = row.get("prompt") or default.prompt
    if not (prompt or "").strip():
        problem = f"{where} has no prompt for {name!r}"
        raise InputError(table, problem, "write one there, or give prompt=… for all")
    mask = table.parent / row["mask"] if row.get("mask") else None
    if mask is not None and not mask.exists():
        raise InputError(table, f"{where}: {mask} is not there", "correct the mask")
    start, frames = (_whole(table, where, row, key) for key in ("start", "frames"))
    return replace(
        default,
        path=path,
        prompt=prompt,
        source_prompt=row.get("source_prompt") or default.source_prompt,
        negative_prompt=row.get("negative_prompt") or default.negative_prompt,
        source_clip=name,
        kind=row.get("kind", "").strip(),
        mask=mask or default.mask,
        licence=row.get("licence") or default.licence,
        attribution=row.get("attribution") or default.attribution,
        start=default.start if start is None else start,
        frames=default.frames if frames is None else frames,
        table=table,
    )


def _whole(table: Path, where: str, row: Row, key: str) -> int | None:
    text, least = row.get(key, "").strip(), 0 if key == "start" else 1
    if not text:
        return None
    if not (text.isascii() and text.isdecimal() and len(text) < 10 and int(text) >= least):
        problem = f"{where}: {key} is no whole number from {least} on, received {text[:40]!r}"
        raise InputError(table, problem, "correct it or leave it empty")
    return int(text)


def _csv(table: Path) -> Iterator[tuple[str, Row]]:
    """(where, cells by column) of each line."""
    lines = table_lines(table)
    _, header = next(lines, (1, []))
    if set(header) - set(COLUMNS) or "name" not in header or len(set(header)) < len(header):
        problem = f"has the columns {', '.join(header)[:200] or 'none'}"
        cure = f"name them in its first line, separated by commas: {', '.join(COLUMNS)}"
        raise InputError(table, problem, cure)
    for line, cells in lines:
        if len(cells) != len(header):
            count = "1 cell" if len(cells) == 1 else f"{len(cells)} cells"
            problem = f"line {line} has {count} for {len(header)} columns"
            raise InputError(table, problem, 'put a text with commas in quotes: "a cat, sitting"')
        yield f"line {line}", dict(zip(header, cells, strict=True))


def table_lines(table: Path) -> Iterator[tuple[int, list[str]]]:
    """The rows of a csv file that are not empty, each with the number of its first line.

    Raises:
        InputError: it is no plain file, too large, not UTF-8 or no csv.
    """
    text, line = _text(table, "a csv file in UTF-8"), 1
    try:
        reader = csv.reader(io.StringIO(text, newline=""), strict=True)
        for cells in reader:
            if any("\0" in cell for cell in cells):
                raise InputError(table, f"line {line} holds a NUL, which is no letter", "remove it")
            if cells:
                yield line, cells
            line = reader.line_num + 1
    except csv.Error as error:
        problem = f"line {line} cannot be read ({error})"
        raise InputError(table, problem, "give a csv file in UTF-8, quotes closed") from error


def _text(table: Path, wanted: str) -> str:
    try:
        if not stat.S_ISREG(table.stat().st_mode):
            raise InputError(table, "is not a plain file", f"give {wanted}")
        if table.stat().st_size > _LARGEST:
            raise InputError(table, f"holds more than {_LARGEST} bytes", f"give {wanted}")
        return table.read_bytes().decode("utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        why, cure = "it is not UTF-8", f"give {wanted}"
        if isinstance(error, OSError):
            why = (error.strerror or str(error)).lower()
        if isinstance(error, FileNotFoundError) and table.name == FETCHED:
            cure = f"fetch the set first: python -m rerender.fetch data={table.parent.name}"
        raise InputError(table, f"cannot be read ({why})", cure) from error


def _yaml(table: Path) -> Iterator[tuple[str, Row]]:
    """(where, texts) of each edit; what is said of a set or of a clip holds for its edits."""
    whole = ("licence", "attribution")
    tree = _tree(table)
    clips = tree.get("clips")
    if not isinstance(clips, dict):
        _refuse(table, "has no clips", "write clips: {NAME: {edits: [{prompt: …, kind: …}]}}")
    above = _texts(table, "the set", {key: tree[key] for key in whole if key in tree})
    for name, said in clips.items():
        where = f"clip {str(name)[:80]!r}"
        if not isinstance(said, dict):
            _refuse(table, f"{where} is not described", "write NAME: {path: …, edits: […]}")
        edits = said.get("edits", [{}])
        if not isinstance(edits, list) or not edits:
            _refuse(table, f"{where} has no list of edits", "write edits: [{prompt: …}]")
        own = _texts(table, where, {key: value for key, value in said.items() if key != "edits"})
        for edit in edits:
            if not isinstance(edit, dict) or set(edit) - set(_OF_EDIT):
                _refuse(table, f"{where} has an edit that is none", f"say {', '.join(_OF_EDIT)}")
            yield where, {**above, **own, **_texts(table, where, edit), "name": str(name)}


def _tree(table: Path) -> dict[Any, Any]:
    text = _text(table, "a yaml file in UTF-8")
    try:
        if any(isinstance(event, yaml.AliasEvent) for event in yaml.parse(text, _Loader)):
            _refuse(table, "uses an alias", "write it plainly")
        tree = yaml.load(text, _Loader)
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        why = " ".join(str(error).split())[:200]
        raise InputError(table, f"cannot be read ({why})", "give a yaml file in UTF-8") from error
    if not isinstance(tree, dict):
        _refuse(table, "holds no clips", "write clips: {NAME: {edits: [{prompt: …}]}}")
    return tree


def _texts(table: Path, where: str, said: Mapping[Any, Any]) -> dict[str, str]:
    """The texts and whole numbers that a mapping says, as texts."""
    found = {}
    for key, value in said.items():
        if key not in COLUMNS or key == "name":
            _refuse(table, f"{where} says {str(key)[:40]!r}", f"known are {', '.join(COLUMNS[1:])}")
        if value is None:
            continue
        if isinstance(value, bool) or not isinstance(value, str | int):
            _refuse(table, f"{where}: {key} is no text, received {str(value)[:40]!r}", "quote it")
        found[str(key)] = str(value)
    return found


def _refuse(table: Path, problem: str, cure: str) -> NoReturn:
    raise InputError(table, problem, cure)
