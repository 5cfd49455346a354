"""Files appear whole or not at all, and every refusal names the file and the cure."""

from __future__ import annotations

import errno
import io
import json
import multiprocessing
import os
import resource
import socket
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from multiprocessing.connection import Connection
from multiprocessing.queues import SimpleQueue
from multiprocessing.synchronize import Barrier, Semaphore
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from rerender import files
from rerender.errors import ConfigError, LockedError, ResourceError


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_put_writes_and_replaces(tmp_path: Path) -> None:
    path = tmp_path / "new" / "folder" / "猫 🐈.bin"
    files.put(path, b"one")
    files.put(path, b"two")
    assert path.read_bytes() == b"two"
    assert names(path.parent) == [path.name]


def test_writing_is_seekable_and_promoted_at_the_end(tmp_path: Path) -> None:
    path = tmp_path / "file"
    with files.writing(path) as file:
        file.write(b"....tail")
        file.seek(0)
        file.write(b"head")
        assert not path.exists()
    assert path.read_bytes() == b"headtail"


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt])
def test_a_failed_block_leaves_the_old_file(tmp_path: Path, error: type[BaseException]) -> None:
    path = tmp_path / "file"
    files.put(path, b"old")
    with pytest.raises(error), files.writing(path) as file:
        file.write(b"new")
        raise error
    assert path.read_bytes() == b"old"
    assert names(tmp_path) == ["file"]


def test_an_error_about_another_file_passes_through(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError), files.writing(tmp_path / "file"):
        (tmp_path / "missing").read_bytes()
    assert names(tmp_path) == []


@contextmanager
def file_size_limit(size: int) -> Iterator[None]:
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def test_a_full_disk_is_noticed(tmp_path: Path) -> None:
    path = tmp_path / "big"
    with file_size_limit(4096), pytest.raises(ResourceError, match=r"big: cannot be written"):
        files.put(path, bytes(100_000))
    assert names(tmp_path) == []


def test_a_full_disk_is_noticed_when_the_file_is_closed(tmp_path: Path) -> None:
    """The buffered rest of a block that failed already is written by close, which fails too."""
    with (
        file_size_limit(4096),
        pytest.raises(ResourceError, match=r"big: cannot be written"),
        files.writing(tmp_path / "big") as file,
    ):
        file.write(bytes(4000))
        file.flush()
        file.write(bytes(4000))
        file.flush()
    assert names(tmp_path) == []


@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EIO, errno.EDQUOT])
@pytest.mark.parametrize("operation", ["fsync", "replace"])
def test_every_operation_may_fail(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, operation: str, code: int
) -> None:
    def fail(*_: object, **__: object) -> None:
        raise OSError(code, os.strerror(code))

    files.put(tmp_path / "file", b"old")
    owner: object = Path if operation == "replace" else os
    monkeypatch.setattr(owner, operation, fail)
    with pytest.raises(ResourceError) as caught:
        files.put(tmp_path / "file", b"new")
    assert str(tmp_path / "file") in str(caught.value)
    assert (tmp_path / "file").read_bytes() == b"old"
    assert names(tmp_path) == ["file"]


def test_a_forbidden_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def forbid(*_: object, **__: object) -> None:
        raise PermissionError(errno.EACCES, "Permission denied")

    monkeypatch.setattr(Path, "open", forbid)  # tests may run as root, whom no mode stops
    with pytest.raises(ResourceError, match=r"permission denied.*make the folder writable"):
        files.put(tmp_path / "file", b"")


def test_an_output_path_that_is_a_file(tmp_path: Path) -> None:
    files.put(tmp_path / "file", b"mine")
    for attempt in (tmp_path / "file", tmp_path / "file" / "deeper"):
        with pytest.raises(ConfigError, match=r"file: a file has this name already"):
            files.folder(attempt)
    with pytest.raises(ConfigError, match="a file has this name"):
        files.put(tmp_path / "file" / "video.mp4", b"")
    assert (tmp_path / "file").read_bytes() == b"mine"


def test_an_output_file_that_is_a_folder(tmp_path: Path) -> None:
    (tmp_path / "video.mp4" / "inside").mkdir(parents=True)
    with pytest.raises(ConfigError, match="a folder has this name already"):
        files.put(tmp_path / "video.mp4", b"")
    assert names(tmp_path) == ["video.mp4"]


def test_a_planted_link_is_replaced_and_not_followed(tmp_path: Path) -> None:
    files.put(tmp_path / "theirs", b"theirs")
    (tmp_path / "ours").symlink_to(tmp_path / "theirs")
    files.put(tmp_path / "ours", b"ours")
    assert (tmp_path / "theirs").read_bytes() == b"theirs"
    assert not (tmp_path / "ours").is_symlink()


def test_json_round_trip_and_no_nan(tmp_path: Path) -> None:
    value = {"prompt": "猫 \ud800 ${x} </script>", "score": None}
    files.put_json(tmp_path / "a.json", value)
    assert json.loads((tmp_path / "a.json").read_text()) == value
    with pytest.raises(ValueError, match="not JSON compliant"):
        files.put_json(tmp_path / "b.json", float("nan"))
    assert names(tmp_path) == ["a.json"]


@pytest.mark.parametrize("channels", [1, 3])
def test_png_is_exact_at_eight_bits(channels: int) -> None:
    levels = torch.arange(channels * 256).remainder(256).view(channels, 16, 16)
    decoded = np.asarray(Image.open(io.BytesIO(files.png(levels / 255))))
    expected = levels.permute(1, 2, 0).numpy()
    np.testing.assert_array_equal(decoded.reshape(expected.shape), expected)


def test_png_clips_and_refuses() -> None:
    decoded = np.asarray(Image.open(io.BytesIO(files.png(torch.tensor([[[-0.5, 1.5]]])))))
    assert decoded.tolist() == [[0, 255]]
    with pytest.raises(ValueError, match="NaN"):
        files.png(torch.full((3, 2, 2), float("nan")))
    with pytest.raises(ValueError, match=r"\[2, 4, 4\]"):
        files.png(torch.zeros(2, 4, 4))


def hold(folder: Path, pipe: Connection) -> None:
    with files.lock(folder):
        pipe.send(os.getpid())
        pipe.recv()


def test_one_process_at_a_time(tmp_path: Path) -> None:
    context = multiprocessing.get_context("fork")
    ours, theirs = context.Pipe()
    holder = context.Process(target=hold, args=(tmp_path / "work", theirs))
    holder.start()
    pid = ours.recv()
    with (
        pytest.raises(LockedError, match=f"in use by pid {pid} on "),
        files.lock(tmp_path / "work"),
    ):
        pass
    ours.send("done")
    holder.join()
    with files.lock(tmp_path / "work"):
        assert f"pid {os.getpid()}" in (tmp_path / "work" / files.LOCK).read_text()


def test_a_killed_holder_gives_the_lock_back(tmp_path: Path) -> None:
    context = multiprocessing.get_context("fork")
    ours, theirs = context.Pipe()
    holder = context.Process(target=hold, args=(tmp_path, theirs))
    holder.start()
    ours.recv()
    with pytest.raises(LockedError), files.lock(tmp_path):
        pass
    holder.kill()
    holder.join()
    with files.lock(tmp_path):
        assert not holder.is_alive()


def test_append_adds_lines_and_makes_the_folder(tmp_path: Path) -> None:
    files.append(tmp_path / "deep" / "log", b"one\n")
    files.append(tmp_path / "deep" / "log", b"two\n")
    assert (tmp_path / "deep" / "log").read_bytes() == b"one\ntwo\n"


def test_append_refuses_a_folder_in_its_place(tmp_path: Path) -> None:
    with pytest.raises(ConfigError):
        files.append(tmp_path, b"line\n")


def test_scratch_gives_back_what_was_kept_and_leaves_no_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    scratch = files.Scratch()
    places = [scratch.write(bytes([value]) * 5) for value in range(3)]
    assert scratch.write(b"again", places[1]) == places[1]
    assert [scratch.read(place, 5) for place in places] == [b"\0" * 5, b"again", b"\2" * 5]
    assert scratch.write(b"more") == 15
    assert names(tmp_path) == []
    with pytest.raises(ValueError, match="nothing is kept"):
        scratch.read(15, 5)


def test_scratch_explains_a_full_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> int:
        raise OSError(errno.ENOSPC, "No space left on device")

    scratch = files.Scratch()
    monkeypatch.setattr(os, "pwrite", full)
    with pytest.raises(ResourceError, match="free some space"):
        scratch.write(b"data")
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "missing"))
    with pytest.raises(ResourceError, match="missing"):
        files.Scratch()


# -- planted links ------------------------------------------------------------------------------


@pytest.mark.parametrize("deep", ["", "keys/"])
@pytest.mark.parametrize("write", [files.put, files.append])
def test_nothing_is_written_through_a_link_below_a_locked_folder(
    write: Callable[[Path, bytes], None], deep: str, tmp_path: Path
) -> None:
    theirs = files.folder(tmp_path / "theirs")
    files.put(theirs / "log", b"theirs\n")
    out = files.folder(tmp_path / "real")
    (tmp_path / "out").symlink_to(out)  # the folder that the user names may be one
    if deep:
        (out / "keys").symlink_to(theirs)
    else:
        (out / "log").symlink_to(theirs / "log")
    with files.lock(tmp_path / "out"):
        if deep or write is files.append:
            with pytest.raises(ConfigError, match="is a link, and nothing is written through it"):
                write(tmp_path / "out" / deep / "log", b"ours\n")
        else:
            write(tmp_path / "out" / "log", b"ours\n")
        with pytest.raises(ConfigError, match="is a link") if deep else nullcontext():
            files.remove(out.parent / "out" / deep / "log")
    assert (theirs / "log").read_bytes() == b"theirs\n"
    assert names(theirs) == ["log"]


@pytest.mark.parametrize("plant", ["link", "dangling", "pipe", "folder"])
@pytest.mark.parametrize("name", [files.LOCK, "run.log"])
def test_what_is_planted_as_a_file_of_ours_is_refused(
    name: str, plant: str, tmp_path: Path
) -> None:
    theirs, out = tmp_path / "theirs", files.folder(tmp_path / "out")
    theirs.write_bytes(b"theirs")
    planted = out / name
    if plant in ("link", "dangling"):
        planted.symlink_to(theirs if plant == "link" else tmp_path / "nothing")
    elif plant == "pipe":
        os.mkfifo(planted)
    else:
        planted.mkdir()
    with pytest.raises(ConfigError, match=name):
        if name == files.LOCK:
            with files.lock(out):
                pass
        else:
            files.append(planted, b"ours\n")
    assert theirs.read_bytes() == b"theirs"
    assert not (tmp_path / "nothing").exists()


def test_a_file_that_has_another_name_too_keeps_its_content_there(tmp_path: Path) -> None:
    """Results link the files of runs; a run that is started again adds to its log."""
    theirs, out = tmp_path / "theirs", files.folder(tmp_path / "out")
    theirs.write_bytes(b"one\n")
    for name in (files.LOCK, "run.log"):
        (out / name).hardlink_to(theirs)
    with files.lock(out):
        files.append(out / "run.log", b"two\n")
        assert f"pid {os.getpid()}" in (out / files.LOCK).read_text()
    assert theirs.read_bytes() == b"one\n"
    assert (out / "run.log").read_bytes() == b"one\ntwo\n"


def test_a_file_of_somebody_that_is_called_lock_is_not_overwritten(tmp_path: Path) -> None:
    (tmp_path / files.LOCK).write_bytes(b"locks of Paris\n" * 100)
    with pytest.raises(ConfigError, match="is no lock of this program"), files.lock(tmp_path):
        pass
    assert (tmp_path / files.LOCK).read_bytes() == b"locks of Paris\n" * 100


def test_a_path_is_looked_at_below_its_root_only(tmp_path: Path) -> None:
    (tmp_path / "real" / "in").mkdir(parents=True)
    (tmp_path / "root").symlink_to(tmp_path / "real")
    (tmp_path / "real" / "out").symlink_to(tmp_path)
    root = tmp_path / "root"
    assert files.unlinked(root, root) == root
    assert files.unlinked(root, root / "in" / "new") == root / "in" / "new"
    for path in (root / "out", root / "out" / "deeper", root / "..", tmp_path):
        with pytest.raises(ConfigError):
            files.unlinked(root, path)


@pytest.mark.parametrize(
    "before", [b"", b"one\n", b"one\nha", b"ha", b"x" * 9000, b"one\n" + b"x" * 9000]
)
def test_half_a_line_is_never_joined_to_another(before: bytes, tmp_path: Path) -> None:
    file = tmp_path / "record.jsonl"
    file.write_bytes(before)
    (tmp_path / "other").hardlink_to(file)
    files.append_line(file, b"two")
    files.append_line(file, b"three")
    assert file.read_bytes() == before[: before.rfind(b"\n") + 1] + b"two\nthree\n"
    assert (tmp_path / "other").read_bytes() == before
    files.append_line(tmp_path / "new" / "run.log", b"first")
    assert (tmp_path / "new" / "run.log").read_bytes() == b"first\n"


STARTS = 6


def _compute() -> None:
    while True:
        pass


def _try(folder: Path, barrier: Barrier, results: SimpleQueue[str], ended: Semaphore) -> None:
    barrier.wait()
    try:
        with files.lock(folder):
            results.put(f"{os.getpid()}")
            for _ in range(STARTS - 1):
                ended.acquire()
    except LockedError as error:
        results.put(str(error))
        ended.release()


@pytest.mark.timeout(900)
@pytest.mark.parametrize("rounds", [2, pytest.param(50, marks=pytest.mark.slow)])
@pytest.mark.parametrize("left", [b"", b"pid 999999999 on HOST\n", b"pid 12"])
def test_who_has_a_lock_is_named_from_the_first_moment_on(
    left: bytes, rounds: int, tmp_path: Path
) -> None:
    """Also where somebody who was killed stands in it, or had begun to write; two busy processes
    beside it make that moment long."""
    fork = multiprocessing.get_context("fork")
    busy = [fork.Process(target=_compute, daemon=True) for _ in range(2)]
    for process in busy:
        process.start()
    for turn in range(rounds):
        folder = files.folder(tmp_path / str(turn))
        if left:
            host = socket.gethostname().encode()
            (folder / files.LOCK).write_bytes(left.replace(b"HOST", host))
        results, barrier, ended = fork.SimpleQueue(), fork.Barrier(STARTS), fork.Semaphore(0)
        starts = [
            fork.Process(target=_try, args=(folder, barrier, results, ended)) for _ in range(STARTS)
        ]
        for start in starts:
            start.start()
        said = [results.get() for _ in starts]
        for start in starts:
            start.join()
        (winner,) = [each for each in said if each.isdigit()]
        assert sum(f"in use by pid {winner} on " in each for each in said) == STARTS - 1, said
    for process in busy:
        process.kill()
        process.join()
