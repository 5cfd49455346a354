"""Ways in which files are damaged: bytes, text, and values of JSON and YAML."""

from __future__ import annotations

import json
from collections.abc import Callable
from random import Random
from typing import Any

import yaml

EDGE = 512  # bytes at either end, where containers keep their tables
NUMBERS = (0, 1, 0x7F, 0x80, 0xFF, 0x7FFF, 0xFFFF, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFF)
WORDS = (b"", b"\0", b"\xff\xfe", b"\r", b"\xc3\x28", b"-1", b"1e999", b"NaN", b"null", b"true")
MARKS = (b"'", b'"', b"{", b"[" * 300, b"]", b"${x}", b"../", b"\t", b",", b":", b"\\", b"9" * 40)
VALUES: tuple[Any, ...] = (
    *(None, True, False, 0, -1, 1, 2**31, 2**63, 10**23, 0.5, -0.0, 1e308, "", "x", "../x"),
    *("1", "nan", "\0", "\u202e", "x" * 5000, [], {}, [[]], {"": None}, [0] * 50),
)


def damaged(data: bytes, dice: Random) -> bytes:
    """The bytes with one kind of damage; never the same as before."""
    while True:
        found = dice.choice(_BINARY)(data, dice)
        if found != data:
            return found


def misspelt(data: bytes, dice: Random) -> bytes:
    """A text with lines, words or signs lost, doubled or replaced."""
    while True:
        found = dice.choice(_TEXTUAL)(data, dice)
        if found != data:
            return found


def revalued(data: bytes, dice: Random) -> bytes:
    """JSON or YAML of which one value is another one, gone, or under another name."""
    text = data.decode()
    as_json = text.lstrip().startswith(("{", "["))
    while True:
        tree = json.loads(text) if as_json else yaml.safe_load(text)
        before = json.dumps(tree)
        _change(tree, dice)
        if json.dumps(tree) != before:
            if as_json:
                return json.dumps(tree).encode()
            head = "".join(line for line in text.splitlines(True) if line.startswith("#"))
            return (head + yaml.safe_dump(tree, sort_keys=False)).encode()


def _change(tree: Any, dice: Random) -> None:
    places = list(_places(tree))
    holder, key = dice.choice(places)
    way = dice.randrange(6)
    if way == 0:
        del holder[key]
    elif way == 1 and isinstance(holder, dict):
        holder[f"{key}x"] = holder.pop(key)
    elif way == 2 and isinstance(holder[key], int | float):
        holder[key] = holder[key] + dice.choice((-1, 1, 7, 1e6))
    else:
        holder[key] = dice.choice(VALUES)


def _places(tree: Any) -> Any:
    items = tree.items() if isinstance(tree, dict) else enumerate(tree)
    for key, value in list(items):
        yield tree, key
        if isinstance(value, dict | list):
            yield from _places(value)


def _spot(data: bytes, dice: Random) -> int:
    """Somewhere in the data; often near one of its ends."""
    near = min(EDGE, len(data))
    where = dice.random()
    if where < 0.3:
        return dice.randrange(max(near, 1))
    return len(data) - near + dice.randrange(max(near, 1)) if where < 0.5 else _any(data, dice)


def _any(data: bytes, dice: Random) -> int:
    return dice.randrange(max(len(data), 1))


def _length(data: bytes, dice: Random) -> int:
    return min(dice.choice((1, 2, 4, 16, 64, 256, 4096)), len(data))


def _flipped(data: bytes, dice: Random) -> bytes:
    changed = bytearray(data)
    for _ in range(dice.choice((1, 1, 2, 8, 32))):
        if changed:
            changed[_spot(data, dice) % len(changed)] ^= 1 << dice.randrange(8)
    return bytes(changed)


def _numbered(data: bytes, dice: Random) -> bytes:
    """A whole number put over what is there, in either order of bytes."""
    width = dice.choice((1, 2, 4, 8))
    number = dice.choice(NUMBERS) & (2 ** (8 * width) - 1)
    at = _spot(data, dice)
    value = number.to_bytes(width, dice.choice(("big", "little")))
    changed: bytes = data[:at] + value + data[at + width :]
    return changed[: len(data)]


def _filled(data: bytes, dice: Random) -> bytes:
    at, length = _spot(data, dice), _length(data, dice)
    filling = dice.choice((bytes(length), b"\xff" * length, dice.randbytes(length)))
    return (data[:at] + filling + data[at + length :])[: len(data)]


def _cut(data: bytes, dice: Random) -> bytes:
    return data[: _any(data, dice)]


def _beheaded(data: bytes, dice: Random) -> bytes:
    return data[_length(data, dice) :]


def _lost(data: bytes, dice: Random) -> bytes:
    at = _spot(data, dice)
    return data[:at] + data[at + _length(data, dice) :]


def _doubled(data: bytes, dice: Random) -> bytes:
    at, length = _spot(data, dice), _length(data, dice)
    return data[: at + length] + data[at:]


def _inserted(data: bytes, dice: Random) -> bytes:
    at = _spot(data, dice)
    return data[:at] + dice.randbytes(_length(data, dice)) + data[at:]


def _swapped(data: bytes, dice: Random) -> bytes:
    length = _length(data, dice)
    first, second = sorted((_any(data, dice), _any(data, dice)))
    middle = data[first + length : second]
    return (
        data[:first]
        + data[second : second + length]
        + middle
        + data[first : first + length]
        + data[second + length :]
    )


def _replaced(data: bytes, dice: Random) -> bytes:
    return dice.choice((b"", b"\0" * 64, b"<!DOCTYPE html>\n", b"version https://git-lfs\n"))


def _word(data: bytes, dice: Random) -> bytes:
    at = _any(data, dice)
    return data[:at] + dice.choice(WORDS + MARKS) + data[at + dice.choice((0, 1, 3)) :]


def _line(data: bytes, dice: Random) -> bytes:
    lines = data.splitlines(True) or [b"\n"]
    at = dice.randrange(len(lines))
    ways: tuple[list[bytes], ...] = (
        *([], [lines[at]] * 2),
        *([lines[at][: len(lines[at]) // 2]], [dice.choice(lines)]),
    )
    return b"".join([*lines[:at], *dice.choice(ways), *lines[at + 1 :]])


def _recoded(data: bytes, dice: Random) -> bytes:
    text = data.decode(errors="replace")
    return dice.choice(
        (text.encode("utf-16"), b"\xef\xbb\xbf" + data, data.replace(b"\n", b"\r\n"), data * 2)
    )


Damage = Callable[[bytes, Random], bytes]
_BINARY: tuple[Damage, ...] = (
    *(_flipped, _flipped, _flipped, _numbered, _numbered, _filled, _cut, _cut),
    *(_beheaded, _lost, _doubled, _inserted, _swapped, _replaced),
)
_TEXTUAL: tuple[Damage, ...] = (_word, _word, _line, _line, _recoded, _flipped, _cut, _replaced)
