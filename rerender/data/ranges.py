"""Prompts in time: a table that says what is asked of which frames of a clip."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from pathlib import Path

from torch import Tensor

from rerender.data.edits import table_lines
from rerender.errors import InputError
from rerender.flow.field import Flow
from rerender.video import Clip, PromptRange, Truth

COLUMNS = ("from", "to", "prompt", "negative_prompt", "strength", "fade", "loras")
_NEEDED = ("from", "to", "prompt")


def in_time(clip: Clip, table: Path) -> Clip:
    """A clip whose prompt changes over time.

    Args:
        clip: the source; its prompts are asked for where the table says nothing.
        table: a csv file with a line for each range of frames: ``from`` and ``to``, the first and
            the last of them, from 0; ``prompt``; and any of ``negative_prompt``, ``strength``,
            ``fade`` and ``loras`` (see `PromptRange`): files with their scales, such as
            ``ink.safetensors:0.8; glow.safetensors``; a relative one lies in the table's folder.

    Raises:
        InputError: it cannot be read, has other columns, a cell that is no number, a range that is
            empty, not in the clip or over another one, or a fade into a third range.
    """
    length = len(clip.video)
    said = sorted(_read(table, clip), key=lambda each: each.start)
    found: list[PromptRange] = []
    for each in said:
        after = found[-1].stop if found else 0
        if each.start < after:
            problem = f"says of frame {each.start} two things"
            raise InputError(table, problem, "let ranges end before the next one begins")
        if each.stop > length:
            problem = f"names frame {each.stop - 1}, the clip has frames 0 to {length - 1}"
            raise InputError(table, problem, "correct its column to")
        if each.start > after:
            found.append(_rest(clip, after, each.start))
        found.append(each)
    if found[-1].stop < length:
        found.append(_rest(clip, found[-1].stop, length))
    _check_fades(table, found)
    truth = None if clip.truth is None else RangedTruth(clip.truth, tuple(found))
    return replace(clip, ranges=tuple(found), truth=truth)


@dataclass(frozen=True)
class RangedTruth:
    """The truth of a clip whose prompt changes over time.

    Attributes:
        truth: of the clip, whatever it is asked for.
        ranges: what it is asked for when.
    """

    truth: Truth
    ranges: tuple[PromptRange, ...]

    def flow(self, target: int, source: int) -> Flow:
        """The exact flow from frame ``target`` to frame ``source``."""
        return self.truth.flow(target, source)

    def translation(self, index: int) -> Tensor | None:
        """The frame as its range asks for it; in a fade, as if it changed at once."""
        asked = next(each.prompt for each in self.ranges if index < each.stop)
        return self.truth.part(0, asked).translation(index)

    def part(self, start: int, prompt: str) -> Truth:
        """The truth of the frames from ``start`` on, asked for with another prompt."""
        return self.truth.part(start, prompt)


def _rest(clip: Clip, start: int, stop: int) -> PromptRange:
    """Frames of which the table says nothing."""
    return PromptRange(start, stop, clip.prompt, clip.negative_prompt)


def _check_fades(table: Path, ranges: Sequence[PromptRange]) -> None:
    if ranges[0].fade:
        raise InputError(table, "fades in at frame 0, before which nothing is", "leave it out")
    for one, other in pairwise(ranges):
        if other.begin < one.full_from or other.full_from > other.stop:
            problem = (
                f"its fade of {other.fade} frames at frame {other.start} reaches a third range"
            )
            raise InputError(table, problem, "shorten it")


def _read(table: Path, clip: Clip) -> list[PromptRange]:
    lines = table_lines(table)
    _, header = next(lines, (1, []))
    unknown = set(header) - set(COLUMNS) or set(_NEEDED) - set(header)
    if unknown or len(set(header)) < len(header):
        problem = f"has the columns {', '.join(header)[:200] or 'none'}"
        cure = f"name them in its first line, separated by commas: {', '.join(COLUMNS)}"
        raise InputError(table, problem, cure)
    found = []
    for line, cells in lines:
        if len(cells) != len(header):
            problem = f"line {line} has {len(cells)} cells for {len(header)} columns"
            raise InputError(table, problem, 'put a text with commas in quotes: "a cat, sitting"')
        found.append(_range(table, line, dict(zip(header, cells, strict=True)), clip))
    if not found:
        raise InputError(table, "holds no range", "write a line for each")
    return found


def _range(table: Path, line: int, row: Mapping[str, str], clip: Clip) -> PromptRange:
    def number(column: str, default: str, most: float = 1e9, whole: bool = True) -> float:
        text = (row.get(column) or default).strip()
        try:  # Python also reads digits of other scripts, and 1_000
            plain = text.isascii() and "_" not in text
            value = (float(int(text)) if whole else float(text)) if plain else -1.0
        except ValueError:
            value = -1.0
        if not 0 <= value <= most:
            kind = "a whole number from 0" if whole else f"a number in 0..{most:g}"
            raise InputError(
                table, f"line {line}: {column} must be {kind}, received {text!r}", "correct it"
            )
        return value

    start, last = int(number("from", "")), int(number("to", ""))
    if last < start:
        raise InputError(table, f"line {line} goes from {start} to {last}", "swap the two")
    if not row["prompt"].strip():
        raise InputError(table, f"line {line} has no prompt", "write one")
    strength = (
        number("strength", "", 1, whole=False) if (row.get("strength") or "").strip() else None
    )
    negative, fade = row.get("negative_prompt") or clip.negative_prompt, int(number("fade", "0"))
    loras = _loras(table, line, row.get("loras") or "")
    return PromptRange(start, last + 1, row["prompt"], negative, strength, fade, loras)


def _loras(table: Path, line: int, cell: str) -> tuple[tuple[str, float], ...]:
    """The files of a cell with their scales, 1 where none is said."""
    found = []
    for said in filter(None, map(str.strip, cell.split(";"))):
        name, colon, text = said.rpartition(":")
        try:
            scale = float(text) if colon else 1.0
        except ValueError:  # the colon is one of the name
            name, scale = said, 1.0
        if not -10 <= scale <= 10:
            problem = f"line {line}: the scale of a LoRA must lie in -10..10, received {text!r}"
            raise InputError(table, problem, "0 to 1 is usual")
        place = Path(name.strip() if colon else said).expanduser()
        found.append((str(table.parent / place), scale))
    return tuple(found)
