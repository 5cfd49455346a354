"""The stage store: whole or not there, one maker at a time, damage found, room made."""

from __future__ import annotations

import multiprocessing
import os
import time
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from rerender import files
from rerender.store import gc
from rerender.store.cache import MANIFEST, STATE, WORK, WRITING, Cache, key

KEY = key(a=1)


def made(cache: Cache, stage: str = "keys", key: str = KEY, data: bytes = b"result") -> Path:
    with cache.making(stage, key) as work:
        work.put("result", data)
        work.put("scratch", b"not needed")
        return work.finish({"n": 3}, ("result",)).folder


@pytest.fixture
def cache(tmp_path: Path) -> Cache:
    return Cache(tmp_path / "store")


def test_a_finished_stage_is_found_with_its_files_and_facts(cache: Cache) -> None:
    assert cache.find("keys", KEY) is None
    folder = made(cache)
    entry = cache.find("keys", KEY)
    assert entry is not None
    assert (entry.folder, entry.facts, entry.read("result")) == (folder, {"n": 3}, b"result")
    assert sorted(path.name for path in folder.iterdir()) == [MANIFEST, "result"]
    assert not [*(cache.root / WORK).iterdir()]
    assert cache.find("keys", key(a=2)) is None


@pytest.mark.parametrize("spoil", ["flip", "cut", "lose", "no manifest"])
def test_what_is_damaged_is_not_used_and_made_again(cache: Cache, spoil: str) -> None:
    folder = made(cache)
    if spoil == "flip":
        (folder / "result").write_bytes(b"resulu")
    if spoil == "cut":
        (folder / "result").write_bytes(b"res")
    if spoil == "lose":
        (folder / "result").unlink()
    if spoil == "no manifest":
        (folder / MANIFEST).write_text("{")
    assert cache.find("keys", KEY) is None
    assert made(cache) == folder
    assert cache.find("keys", KEY) is not None


def test_a_stage_goes_on_from_its_last_commit(cache: Cache) -> None:
    with pytest.raises(KeyboardInterrupt), cache.making("keys", KEY) as work:
        work.put("one", b"1")
        work.put("two", b"2")
        work.commit({"done": 2}, without=("one",))
        work.put("three", b"3")
        raise KeyboardInterrupt
    with cache.making("keys", KEY) as work:
        assert work.facts == {"done": 2}
        assert work.read("two") == b"2"
        assert not (work.folder / "one").exists()
        work.finish({}, ("two",))
    entry = cache.find("keys", KEY)
    assert entry is not None
    assert [path.name for path in entry.folder.iterdir() if path.name != MANIFEST] == ["two"]


def test_a_stage_that_lacks_only_its_name_gets_it(
    cache: Cache, monkeypatch: pytest.MonkeyPatch
) -> None:
    def die(*args: Any) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(files, "move", die)
        made(cache)
    with cache.making("keys", KEY) as work:
        assert work.entry is not None
    entry = cache.find("keys", KEY)
    assert entry is not None
    assert (entry.facts, entry.read("result")) == ({"n": 3}, b"result")
    assert sorted(path.name for path in entry.folder.iterdir()) == [MANIFEST, "result"]


@pytest.mark.parametrize("name", ["two", STATE])
def test_a_damaged_commit_is_not_gone_on_from(cache: Cache, name: str) -> None:
    with pytest.raises(KeyboardInterrupt), cache.making("keys", KEY) as work:
        work.put("two", b"234")
        work.commit({"done": 2})
        raise KeyboardInterrupt
    damaged = work.folder / name
    damaged.write_bytes(damaged.read_bytes()[:-2])
    with cache.making("keys", KEY) as work:
        assert work.facts == {}
        assert not work.folder.exists()


def test_small_results_carry_their_checksum(cache: Cache) -> None:
    assert cache.get("scores", KEY) is None
    cache.put("scores", KEY, b"0.5")
    assert cache.get("scores", KEY) == b"0.5"
    (place,) = (cache.root / "scores").rglob(KEY)
    place.write_bytes(place.read_bytes()[:-1] + b"6")
    assert cache.get("scores", KEY) is None
    cache.put("scores", KEY, b"0.7")
    assert cache.get("scores", KEY) == b"0.7"


def test_what_killed_writers_left_is_taken_away_and_what_others_write_is_not(
    cache: Cache,
) -> None:
    fork = multiprocessing.get_context("fork")
    gone = fork.Process(target=int)
    gone.start()
    gone.join()
    room = files.folder(cache.root / WRITING)
    host = files.host()
    dead, alive, elsewhere = (
        room / f"{files.TEMPORARY}{name}-x"
        for name in (f"{host}-{gone.pid}", f"{host}-1", "other-1")
    )
    for path in (dead, alive, elsewhere):
        path.write_bytes(b"half")
    cache.tidy()
    assert sorted(room.iterdir()) == sorted([alive, elsewhere])


def test_keys_say_everything_and_nothing_of_order() -> None:
    assert key(a=1, b={"x": 2, "y": [1]}) == key(b={"y": [1], "x": 2}, a=1)
    assert len({key(a=1), key(a=1.5), key(a="1"), key(b=1), key(a=[1]), key(a=None)}) == 6


def _make(root: Path, log: Path, barrier: Any) -> None:
    barrier.wait()
    with Cache(root).making("keys", KEY) as work:
        if work.entry is None:
            files.append(log, f"{os.getpid()}\n".encode())
            time.sleep(0.05)
            work.put("result", b"x" * 1000)
            work.finish({}, ("result",))


def test_of_many_processes_one_makes_a_stage_and_the_others_wait(tmp_path: Path) -> None:
    fork, count = multiprocessing.get_context("fork"), 8
    for number in range(5):
        root, log = tmp_path / str(number), tmp_path / f"{number}.log"
        barrier = fork.Barrier(count)
        starts = [fork.Process(target=_make, args=(root, log, barrier)) for _ in range(count)]
        for start in starts:
            start.start()
        for start in starts:
            start.join()
        assert [start.exitcode for start in starts] == [0] * count
        assert len(log.read_text().splitlines()) == 1
        assert Cache(root).find("keys", KEY) is not None
        assert not [*(root / WORK).iterdir()]


def _locked(path: Path, log: Path, barrier: Any) -> None:
    barrier.wait()
    for _ in range(20):
        with files.lock(path, lambda owner: None):
            begun = time.monotonic_ns()
            files.append(log, f"{begun} {time.monotonic_ns()}\n".encode())
            files.vacate(path)


def test_a_lock_that_is_taken_away_with_its_folder_still_excludes(tmp_path: Path) -> None:
    fork = multiprocessing.get_context("fork")
    barrier, log = fork.Barrier(4), tmp_path / "log"
    starts = [fork.Process(target=_locked, args=(tmp_path / "x", log, barrier)) for _ in range(4)]
    for start in starts:
        start.start()
    for start in starts:
        start.join()
    assert [start.exitcode for start in starts] == [0] * 4
    spans = sorted(tuple(map(int, line.split())) for line in log.read_text().splitlines())
    assert len(spans) == 80
    assert all(one[1] <= other[0] for one, other in pairwise(spans))


# -- housekeeping ---------------------------------------------------------------------------------


def aged(path: Path, days: float) -> None:
    then = time.time() - days * gc.DAY
    for file in [path, *path.rglob("*")]:
        os.utime(file, (then, then))


def test_what_was_not_used_for_days_goes(cache: Cache) -> None:
    old, new = made(cache), made(cache, key=key(a=2))
    aged(old, 10)
    gone = gc.collect(cache.root, time.time(), days=7)
    assert [item.path for item in gone] == [old]
    assert not old.exists()
    assert new.exists()


def test_using_a_stage_keeps_it(cache: Cache) -> None:
    folder = made(cache)
    aged(folder, 10)
    assert cache.find("keys", KEY) is not None
    assert not gc.collect(cache.root, time.time(), days=7)


def test_what_was_used_least_recently_makes_room(cache: Cache) -> None:
    folders = [made(cache, key=key(a=n), data=bytes(1000)) for n in range(5)]
    for days, folder in enumerate(folders):
        aged(folder, days)
    gc.collect(cache.root, time.time(), gigabytes=2.5e-6)
    assert [folder.exists() for folder in folders] == [True, True, False, False, False]


def test_a_stage_under_way_is_left_alone(cache: Cache, tmp_path: Path) -> None:
    with cache.making("keys", KEY) as work:
        work.put("one", b"1")
        work.commit({})
        aged(cache.root, 10)
        assert not gc.collect(cache.root, time.time(), days=1)
    assert len(gc.collect(cache.root, time.time() + 1, days=0)) == 1
    assert not [*(cache.root / WORK).iterdir()]


def test_the_commands(cache: Cache, capsys: pytest.CaptureFixture[str]) -> None:
    made(cache)
    cache.put("scores", KEY, b"0.5")
    assert gc.main(["ls", str(cache.root)]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[:2] for line in lines[1:]] == [
        ["keys", "1"],
        ["scores", "1"],
        ["all", "2"],
    ]
    assert gc.main(["gc", str(cache.root), "--gigabytes", "0"]) == 0
    assert capsys.readouterr().out.startswith("2 removed")
    assert gc.main(["gc", str(cache.root)]) == 2
    assert gc.main(["gc", str(cache.root), "--days", "-1"]) == 2
    assert gc.main(["ls", "nowhere"]) == 3
