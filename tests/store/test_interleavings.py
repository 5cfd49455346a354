"""Whatever another process does to a stage store between two system calls of this one."""

from __future__ import annotations

import fcntl
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest

from rerender import files
from rerender.errors import LockedError
from rerender.files import locks
from rerender.store import gc
from rerender.store.cache import WRITING, Cache, key

KEY, OTHER = key(a=1), key(a=2)
RESULT = "image-000000.safetensors"
LATER = time.time() + 10 * gc.DAY
SYSTEM = {"posix", "fcntl"}  # modules of system calls


@contextmanager
def before_call(number: int, act: Callable[[], object]) -> Iterator[None]:
    """Call `act` before the system call of this number in the block."""
    count = 0

    def watch(frame: Any, event: str, function: Any) -> None:
        nonlocal count
        if event != "c_call":
            return
        owner = getattr(function, "__module__", None) or type(function.__self__).__module__
        if owner in SYSTEM:
            count += 1
            if count == number:
                sys.setprofile(None)
                act()
                sys.setprofile(watch)

    sys.setprofile(watch)
    try:
        yield
    finally:
        sys.setprofile(None)


def made(cache: Cache, name: str) -> None:
    with cache.making("keys", name) as work:
        if work.entry is None:
            work.put(RESULT, name.encode())
            work.put("frame-000001.raw", b"not needed at the end")
            work.commit({"frames": 1})
            work.finish({"n": 1}, (RESULT,))
        assert work.entry is not None
        assert work.entry.read(RESULT) == name.encode()


def found(cache: Cache) -> None:
    entry = cache.find("keys", KEY)
    if entry is not None:
        assert entry.read(RESULT) == KEY.encode()


def kept(cache: Cache) -> None:
    cache.put("scores", KEY, b"0.5")
    assert cache.get("scores", KEY) in (b"0.5", None)


ACTIONS: dict[str, Callable[[Cache], object]] = {
    "collect": lambda cache: gc.collect(cache.root, LATER, days=0),
    "make": lambda cache: made(cache, KEY),
    "make another": lambda cache: made(cache, OTHER),
    "find": found,
    "put": kept,
    "tidy": Cache.tidy,
    "list": lambda cache: gc.listing(list(gc.kept(cache.root)), LATER),
}
# what removes, between the calls of each; the rest takes a minute
PAIRS = [
    pytest.param(action, other, marks=[] if other == "collect" else pytest.mark.slow)
    for action in ACTIONS
    for other in ACTIONS
]


def filled(root: Path) -> Cache:
    """A store with a finished stage, a small result, a stage under way, and what a writer left in
    each of its folders that was killed."""
    cache = Cache(root)
    made(cache, KEY)
    cache.put("scores", KEY, b"0.5")
    with suppress(KeyboardInterrupt), cache.making("keys", OTHER) as work:
        work.put("frames-000001.yuv", b"frames")
        work.commit({"frames": 1})
        raise KeyboardInterrupt
    for room in (root, root / WRITING, work.folder):
        (room / f"{files.TEMPORARY}{files.host()}-999999999-0a").write_bytes(b"half")
    return cache


@pytest.mark.parametrize(("action", "other"), PAIRS)
def test_another_process_may_act_before_any_system_call(
    action: str, other: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Both are one process here: where the other would wait for this one, it does nothing more.
    monkeypatch.setattr(locks, "_MOMENT", 0.0)
    flock = fcntl.flock

    def at_once(handle: int, kind: int) -> None:
        try:
            flock(handle, kind | fcntl.LOCK_NB)
        except BlockingIOError:
            if kind & fcntl.LOCK_NB:
                raise
            raise LockedError("lock", "another has it", "wait") from None

    monkeypatch.setattr(fcntl, "flock", at_once)
    monkeypatch.setattr("os.fsync", lambda handle: None)
    number, acted = 1, True
    while acted:
        cache = filled(tmp_path / str(number))
        acted = False

        def act() -> None:
            nonlocal acted
            acted = True
            with suppress(LockedError):
                ACTIONS[other](Cache(cache.root))  # noqa: B023 - called within the turn

        with before_call(number, act):
            ACTIONS[action](cache)
        number += 1
    assert number > 10
