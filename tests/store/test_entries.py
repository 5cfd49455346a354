"""Only a stage store is a stage store, only its own files are removed, and never those in use."""

from __future__ import annotations

import multiprocessing
import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from rerender import files
from rerender.errors import ConfigError
from rerender.store import entries, gc
from rerender.store.cache import MANIFEST, WORK, WRITING, Cache, key
from tests.faults import contents

KEY = key(a=1)
LATER = time.time() + 10 * gc.DAY


def made(cache: Cache, key: str = KEY, data: bytes = b"result", stage: str = "keys") -> Path:
    with cache.making(stage, key) as work:
        work.put("image-000000.safetensors", data)
        return work.finish({"n": 3}, ("image-000000.safetensors",)).folder


def filled(root: Path) -> Cache:
    """A store with an entry, a small result and a stage under way."""
    cache = Cache(root)
    made(cache)
    cache.put("scores", KEY, b"0.5")
    with pytest.raises(KeyboardInterrupt), cache.making("video", KEY) as work:
        work.put("frames-000001.yuv", b"frames")
        work.commit({"frames": 1})
        work.put("frames-000002.yuv", b"more")
        raise KeyboardInterrupt
    return cache


def emptied(root: Path) -> int:
    return gc.main(["gc", str(root), "--gigabytes", "0", "--days", "0"])


# -- what is a store ------------------------------------------------------------------------------

TREES = {
    "pictures and a repository": [".git/objects/ab/cdef", ".git/config", "photos/1.jpg", "a.txt"],
    "objects named like keys": [f"objects/{KEY[:2]}/{KEY}"],
    "folders named like stages": ["keys/000000.png", "video/film.mp4", "work/report.doc"],
    "names of keys, among others": [f"keys/{KEY[:2]}/{KEY}", "thesis.tex"],
    "a key under other digits": [f"keys/{'00' if KEY[:2] != '00' else '11'}/{KEY}"],
    "a marker of something else": [entries.MARKER, "thesis.tex"],
    "a run": ["config.yaml", "keys/000000.png", ".store/keys/x", "video.mp4"],
    "nothing": [],
}


@pytest.mark.parametrize("tree", TREES)
def test_a_folder_that_is_no_store_is_refused_and_left_alone(
    tree: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    root = files.folder(tmp_path / "root")
    for name in TREES[tree]:
        files.put(root / name, b"mine")
    before = contents(root)
    for command in (["gc", "--days", "0"], ["gc", "--gigabytes", "0"], ["ls"]):
        assert gc.main([*command, str(root)]) == 2
        assert "is no stage store" in (said := capsys.readouterr().err)
        assert said.count("\n") == 1
    if TREES[tree]:
        for use in (Cache(root).check, Cache(root).open, lambda: made(Cache(root))):
            with pytest.raises(ConfigError, match=r"^store: .* holds other files; .*store=PATH"):
                use()
    assert contents(root) == before


@pytest.mark.parametrize("marker", ["there", "lost", "damaged"])
def test_a_store_is_emptied(marker: str, tmp_path: Path) -> None:
    cache = filled(tmp_path / "root")
    file = cache.root / entries.MARKER
    if marker == "lost":  # as one that was made before there was a marker
        file.unlink()
    if marker == "damaged":
        file.write_bytes(b"Rerender stage store 1\n")
    assert emptied(cache.root) == 0
    assert set(contents(cache.root)) <= {entries.MARKER}
    made(cache)
    assert file.read_bytes() == entries.SIGNATURE


PLACES = [
    "thesis.tex",
    ".git/config",
    "keys/notes.txt",
    "keys/zz/notes.txt",
    f"keys/{KEY[:2]}/notes.txt",
    f"keys/{KEY[:2]}/{KEY}/notes.txt",
    f"keys/{KEY[:2]}/{KEY}/deep/manifest.json",
    f"keys/{KEY[:2]}/{KEY}.old",
    "other/" + KEY,
    f"{WORK}/notes.txt",
    f"{WORK}/photos/{KEY}",
    f"{WORK}/video-{KEY}/notes.txt",
    f"{WORK}/video-{KEY}/files/deep/video.mp4",
    f"{WRITING}/notes.txt",
    f"{WRITING}/.tmp-notes",
]


@pytest.mark.parametrize("place", PLACES)
def test_what_is_not_of_the_store_stays(place: str, tmp_path: Path) -> None:
    cache = filled(tmp_path / "root")
    files.put(cache.root / place, b"mine")
    old = LATER - 20 * gc.DAY
    os.utime(cache.root / place, (old, old))
    assert emptied(cache.root) == 0
    assert (cache.root / place).read_bytes() == b"mine"
    assert set(contents(cache.root)) <= {entries.MARKER, place}
    made(cache)  # and it is still a store
    found = [*tmp_path.rglob(Path(place).name)]
    assert any(path.read_bytes() == b"mine" for path in found), "moved aside at most"


@pytest.mark.parametrize(
    "place",
    [
        "keys",
        f"keys/{KEY[:2]}",
        f"keys/{KEY[:2]}/{KEY}",
        f"keys/{KEY[:2]}/{KEY}/{MANIFEST}",
        f"keys/{KEY[:2]}/{KEY}/image-000000.safetensors",
        f"scores/{KEY[:2]}/{KEY}",
        WORK,
        f"{WORK}/video-{KEY}",
        f"{WORK}/video-{KEY}/files",
        f"{WORK}/video-{KEY}/files/frames-000001.yuv",
        f"{WORK}/video-{KEY}/lock",
        WRITING,
    ],
)
def test_nothing_is_written_or_removed_through_a_link_in_a_store(
    place: str, tmp_path: Path
) -> None:
    cache, other = filled(tmp_path / "root"), filled(tmp_path / "other")
    files.put(other.root / WRITING / f".tmp-{files.host()}-999999999-0", b"left by the dead")
    link = cache.root / place
    files.remove(link)
    link.symlink_to(other.root / place)
    before = contents(tmp_path / "other")
    assert emptied(cache.root) in (0, 2)
    for use in (
        cache.tidy,
        lambda: cache.find("keys", KEY),
        lambda: made(cache),
        lambda: made(cache, stage="video"),
        lambda: cache.put("scores", KEY, b"0.7"),
    ):
        try:
            use()
        except ConfigError as error:
            assert "is a link, and nothing is written through it" in str(error)
    assert contents(tmp_path / "other") == before


# -- leases ---------------------------------------------------------------------------------------


def test_an_entry_in_use_stays_and_goes_afterwards(tmp_path: Path) -> None:
    cache = Cache(tmp_path / "root")
    with cache.making("keys", KEY) as work:
        work.put("result", b"1")
        entry: Any = work.finish({}, ("result",))
    for _ in range(2):  # just made, and found
        assert not gc.collect(cache.root, LATER, days=0)
        assert entry.read("result") == b"1"
        entry = cache.find("keys", KEY)
    del entry, work
    assert len(gc.collect(cache.root, LATER, days=0)) == 1
    assert cache.find("keys", KEY) is None


REMOVED = multiprocessing.get_context("fork").Value("i", 0)


def _use(root: Path, until: float, number: int) -> None:
    """Find or make entries, and read them, as a run does."""
    cache, turn = Cache(root), number
    while time.monotonic() < until:
        name = key(a=turn % 5)
        turn += 1
        entry = cache.find("keys", name)
        if entry is None:
            with cache.making("keys", name) as work:
                if work.entry is None:
                    work.put("image-000000.safetensors", name.encode() * 100)
                    work.finish({}, ("image-000000.safetensors",))
                entry = work.entry
        assert entry is not None
        for _ in range(3):
            assert entry.read("image-000000.safetensors") == name.encode() * 100
            time.sleep(0.0005)
        cache.put("scores", name, b"1")
        assert cache.get("scores", name) in (b"1", None)


def _collect(root: Path, until: float, number: int) -> None:
    """Make room until the time is up; at least one of all that do has removed something then."""
    while time.monotonic() < until or not REMOVED.value:
        removed = len(gc.collect(root, time.time() + 1, days=0))
        with REMOVED.get_lock():
            REMOVED.value += removed


@pytest.mark.timeout(900)
@pytest.mark.parametrize("seconds", [2, pytest.param(60, marks=pytest.mark.slow)])
def test_making_room_beside_processes_that_share_entries_stops_none(
    seconds: float, tmp_path: Path
) -> None:
    fork, root, until = multiprocessing.get_context("fork"), tmp_path / "root", time.monotonic()
    made(Cache(root), key(a="another"))
    work: list[Callable[..., None]] = [_use, _use, _use, _use, _collect, _collect]
    starts = [
        fork.Process(target=each, args=(root, until + seconds, number))
        for number, each in enumerate(work)
    ]
    for start in starts:
        start.start()
    for start in starts:
        start.join()
    assert [start.exitcode for start in starts] == [0] * len(starts)
    gc.collect(root, LATER, days=0)
    assert set(contents(root)) <= {entries.MARKER}
