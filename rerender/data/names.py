"""What names of files say: which are pictures and in what order, the number of a frame, the name of
a clip."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable, Mapping, Sequence
from itertools import pairwise
from pathlib import Path
from typing import NamedTuple

from rerender.errors import InputError
from rerender.files.suffixes import PICTURES

RULE = (
    "the last number of a name is its frame: 000010.png, frame-0010.png, ComfyUI_00010_.png; "
    "where a name holds another number too, or goes on with letters, all names must differ in the "
    "last number alone"
)
_CURE = "rename it so that one number from 0 on says its frame, such as 000010.png"
_PASSED_SILENTLY = ("thumbs.db", "ehthumbs.db", "desktop.ini", "__macosx", "@eadir")
_SHOWN = 4  # names in a message


class Name(NamedTuple):
    """The name of a file, without its suffix, around its last number."""

    before: str
    number: int | None
    after: str

    @property
    def pattern(self) -> tuple[str, str]:
        """What names of one series share."""
        return self.before.lower(), self.after.lower()

    @property
    def plain(self) -> bool:
        """Whether it holds one number, and no letter after it."""
        digits = re.search("[0-9]", self.before)
        return digits is None and not any(map(str.isalnum, self.after))


def parsed(path: Path) -> Name:
    """A file's name around its last number.

    Raises:
        InputError: it can be read as a number in two ways: a negative one (``-5``), one with an
            exponent (``1e3``), a hexadecimal one (``0x10``), or one in digits other than 0 to 9.
    """
    stem = path.stem
    if any(char.isdigit() and not char.isascii() for char in stem):
        raise InputError(path, "its name holds digits other than 0 to 9", _CURE)
    token = re.search(
        r"(?<![0-9A-Za-z])(0[xX][0-9A-Fa-f]+|[0-9]+(?:\.[0-9]+)?[eE][+-]?[0-9]+)(?![0-9A-Za-z])",
        stem,
    )
    if token:
        problem = f"its name holds {token[1]!r}, which can be read as a number in two ways"
        raise InputError(path, problem, _CURE)
    found = re.fullmatch(r"(.*?)([0-9]+)([^0-9]*)", stem, re.DOTALL)
    if found is None:
        return Name(stem, None, "")
    if re.search(r"(^|[^0-9A-Za-z])[-−]$", found[1]):
        raise InputError(path, "its name holds a negative number", _CURE)
    return Name(found[1], int(found[2]), found[3])


def frame_numbers(
    files: Iterable[Path], first: int = 0, setting: str = "--first"
) -> Mapping[int, Path]:
    """Pictures by the frame that their names say, in order, by the rule above.

    Args:
        files: the pictures.
        first: the number that the first frame of the video has in names.
        setting: what sets it, for messages.

    Raises:
        InputError: a name without a number, one that can be read in two ways, one below ``first``,
            or two of one frame.
    """
    named = {path: parsed(path) for path in sorted(files, key=lambda path: natural(path.name))}
    _require_one_reading(named)
    found: dict[int, Path] = {}
    for path, name in named.items():
        assert name.number is not None
        if name.number < first:
            problem = f"its number is {name.number}, that of the first frame is {first}"
            raise InputError(path, problem, f"correct {setting} or remove it")
        other = found.setdefault(name.number - first, path)
        if other is not path:
            raise InputError(path, f"has the number of {other.name}", "remove one of the two")
    return dict(sorted(found.items()))


def _require_one_reading(named: Mapping[Path, Name]) -> None:
    doubtful = [path for path, name in named.items() if not name.plain]
    example, model = next(iter(named.items()))
    for path, name in named.items():
        if name.number is None:
            raise InputError(path, "its name does not hold a frame number", _CURE)
        if re.fullmatch(r"[0-9]+[.,][0-9]+", path.stem):
            raise InputError(path, "its name is a decimal number, frames have whole ones", _CURE)
        if doubtful and name.pattern != model.pattern:
            which = doubtful[0]
            problem = f"beside {(path if path != which else example).name}: its frame is not clear"
            raise InputError(which, problem, f"{RULE}; rename them")
    if len(named) == 1 and any(map(str.isalpha, model.after)):
        raise InputError(example, "its name does not end in a frame number", _CURE)


def in_order(files: Iterable[Path]) -> list[Path]:
    """Pictures in the order of their names, with numbers as numbers: 9 comes before 10.

    Raises:
        InputError: the order is not clear: a number that can be read in two ways (see `parsed`),
            decimal numbers of several lengths, or the same name or number twice.
    """
    found = sorted(files, key=lambda path: natural(path.name))
    decimals: dict[int, Path] = {}
    for path in found:
        parsed(path)
        if fraction := re.fullmatch(r"[0-9]+[.,]([0-9]+)", path.stem):
            decimals.setdefault(len(fraction[1]), path)
    if len(decimals) > 1:
        one, other = list(decimals.values())[:2]
        problem = f"beside {one.name}: decimal numbers of several lengths have no clear order"
        raise InputError(other, problem, "give all the same number of digits")
    seen: dict[tuple[tuple[int, str], ...], Path] = {}
    for path in found:
        other = seen.setdefault(tuple(natural(path.stem)[:-1]), path)
        if other is not path:
            problem = f"has the same name or number as {other.name}"
            raise InputError(path, problem, "remove one of the two")
    return found


def is_picture(path: Path) -> bool:
    """Whether a file is a picture by its name; hidden files are not."""
    named = path.suffix.lower() in PICTURES and not path.name.startswith(".")
    return named and path.is_file()


def listed(folder: Path) -> list[Path]:
    """What lies in a folder, by name.

    Raises:
        InputError: it is none, or cannot be opened.
    """
    try:
        return sorted(folder.iterdir())
    except (FileNotFoundError, NotADirectoryError) as error:
        raise InputError(folder, "is not a folder", "name a folder that is there") from error
    except OSError as error:
        why = (error.strerror or "unknown").lower()
        raise InputError(folder, f"cannot be opened ({why})", "name another folder") from error


def pictures_of(folder: Path) -> list[Path]:
    """The pictures of a folder, by their names with numbers as numbers (9 before 10).

    Raises:
        InputError: their order is not clear (see `in_order`).
    """
    return in_order(frames_among(listed(folder)))


def frames_among(paths: Iterable[Path]) -> list[Path]:
    """The pictures among files. An EXR beside pictures of other kinds holds depth or passes of them
    and is none."""
    found = [path for path in paths if is_picture(path)]
    return [path for path in found if path.suffix.lower() != ".exr"] or found


def irregular(files: Sequence[Path]) -> str | None:
    """What is odd about the numbers of pictures in order: gaps, steps, several series; None if
    nothing is, or if they have no numbers."""
    names = [parsed(path) for path in files]
    numbers = [name.number for name in names if name.number is not None]
    if not numbers:
        return None
    if len({name.pattern for name in names}) > 1 or len(numbers) < len(names):
        odd = next(
            path
            for path, name in zip(files, names, strict=True)
            if name.pattern != names[0].pattern or name.number is None
        )
        return f"names are of several kinds ({files[0].name}, {odd.name})"
    gaps = [(a, b) for a, b in pairwise(numbers) if b - a > 1]
    if not gaps:
        return None
    steps = {b - a for a, b in pairwise(numbers)}
    if len(steps) == 1 and len(numbers) > 2:
        return f"numbers go up by {steps.pop()} (from {files[0].name} to {files[-1].name})"
    lacking = [str(a + 1) if b - a == 2 else f"{a + 1} to {b - 1}" for a, b in gaps]
    more = ", …" if len(lacking) > _SHOWN else ""
    count = sum(b - a - 1 for a, b in gaps)
    are = "number is" if count == 1 else "numbers are"
    return f"{count} {are} missing ({', '.join(lacking[:_SHOWN])}{more})"


def natural(name: str) -> list[tuple[int, str]]:
    """A sorting key by which frame9 comes before frame10."""
    parts = re.split(r"(\d+)", name.lower())
    return [(int(part), "") if part.isdecimal() else (-1, part) for part in parts] + [(-1, name)]


def clip_name(path: Path) -> str:
    """The name of the clip in a file or a folder: its own without the suffix of a file.

    Control characters and bytes that are no text become ``_``: the name is that of a folder, and
    stands in tables. It is never empty, nor dots alone.
    """
    stem = path.name if path.is_dir() else path.stem
    name = stem if stem.strip(". ") else path.name
    kept = (char if unicodedata.category(char) not in ("Cc", "Cs") else "_" for char in name)
    return unicodedata.normalize("NFC", "".join(kept)) or "pictures"


def said(names: Iterable[str]) -> str:
    """Names for a message: the first few of them, and how many more there are."""
    found = list(names)
    more = f" and {len(found) - _SHOWN} more" if len(found) > _SHOWN else ""
    return ", ".join(found[:_SHOWN]) + more


def unseen(path: Path) -> bool:
    """Whether a file is hidden, or one that systems leave in folders: passed over in silence."""
    return path.name.startswith(".") or path.name.lower() in _PASSED_SILENTLY
