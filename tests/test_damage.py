"""Whatever happens to the files of a store, the next run ends well and with the same bytes."""

from __future__ import annotations

import random
import shutil
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.faults import contents
from tests.test_resume import ready, run, stopped_after_two, tree, whole

__all__ = ["ready", "tree", "whole"]  # fixtures

Change = Callable[[bytes, random.Random], bytes | None]


def _flip(data: bytes, draw: random.Random) -> bytes:
    at = draw.randrange(max(len(data), 1))
    return (
        data[:at] + bytes([(data[at] if data else 0) ^ (1 << draw.randrange(8))]) + data[at + 1 :]
    )


def _digit(data: bytes, draw: random.Random) -> bytes:
    """One digit of a text is another one."""
    places = [index for index, byte in enumerate(data) if chr(byte).isdigit()]
    at = draw.choice(places or [0])
    return data[:at] + bytes([48 + (data[at : at + 1] or b"0")[0] % 9]) + data[at + 1 :]


CHANGES: dict[str, Change] = {
    "flip": _flip,
    "digit": _digit,
    "cut": lambda data, draw: data[: draw.randrange(max(len(data), 1))],
    "longer": lambda data, draw: data + draw.randbytes(9),
    "empty": lambda data, draw: b"",
    "noise": lambda data, draw: draw.randbytes(len(data)),
    "brackets": lambda data, draw: b"[" * 5000,  # too deep for a reader of JSON
    "other JSON": lambda data, draw: b'{"facts": 3, "files": [], "sha256": null}',
    "gone": lambda data, draw: None,
}


@pytest.fixture(scope="module", params=["finished", "stopped"])
def place(request: Any, tree: dict[str, Any], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What a run leaves, and what one leaves that was stopped after two key frames."""
    found: Path = tmp_path_factory.mktemp(request.param)
    if request.param == "finished":
        assert run(tree, found) == 0
        shutil.rmtree(found / "out")
    else:
        assert run(tree, found, before=stopped_after_two(signal.SIGINT)) == 130
    return found


def files(place: Path) -> list[Path]:
    found = sorted(path.relative_to(place) for path in (place / ".store").rglob("*"))
    return [name for name in found if (place / name).is_file()]


def check(
    place: Path,
    changes: list[tuple[Path, str, int]],
    tree: dict[str, Any],
    whole: dict[str, str],
    again: Path,
) -> None:
    shutil.copytree(place, again)
    for name, change, seed in changes:
        made = CHANGES[change]((place / name).read_bytes(), random.Random(seed))
        (again / name).unlink()
        if made is not None:
            (again / name).write_bytes(made)
    log = again.with_suffix(".log")
    assert run(tree, again) == 0, (changes, log.read_text())
    assert contents(again) == whole, (changes, log.read_text())
    shutil.rmtree(again)


def test_some_damage_to_a_store(
    place: Path, tree: dict[str, Any], whole: dict[str, str], tmp_path: Path
) -> None:
    """In every round another part of the files is damaged; each is, in one way."""
    names, rounds = files(place), 3
    assert len(names) > 5
    kinds = list(CHANGES)
    for turn in range(rounds):
        chosen = [
            (name, kinds[(number + turn) % len(kinds)], number)
            for number, name in enumerate(names)
            if number % rounds == turn
        ]
        check(place, chosen, tree, whole, tmp_path / str(turn))


@pytest.mark.parametrize("change", ["digit"])
def test_facts_that_are_changed_are_not_believed(
    change: str, place: Path, tree: dict[str, Any], whole: dict[str, str], tmp_path: Path
) -> None:
    facts = [name for name in files(place) if name.suffix == ".json"]
    assert facts
    check(place, [(name, change, 1) for name in facts], tree, whole, tmp_path / "again")


def test_a_lock_in_a_store_is_nobody_elses(
    place: Path, tree: dict[str, Any], whole: dict[str, str], tmp_path: Path
) -> None:
    """In a folder of somebody a long file called lock is his; in a store it is damage."""
    locks = [name for name in files(place) if name.name == "lock"]
    check(place, [(name, "brackets", 0) for name in locks], tree, whole, tmp_path / "again")


@pytest.mark.slow
@pytest.mark.timeout(7200)
def test_all_damage_to_a_store(
    place: Path, tree: dict[str, Any], whole: dict[str, str], tmp_path: Path
) -> None:
    for name in files(place):
        for change in CHANGES:
            for seed in range(3 if change in ("flip", "digit", "cut") else 1):
                check(place, [(name, change, seed)], tree, whole, tmp_path / "again")
