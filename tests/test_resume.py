"""Stopped anywhere, the same command goes on to the same bytes; what is finished is kept."""

from __future__ import annotations

import errno
import json
import os
import random
import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import cv2
import pytest
import torch

from rerender import files
from rerender.config.compose import preflight
from rerender.exits import failure, terminable
from rerender.jobs.run_job import run_job
from rerender.store import key_frames
from tests.faults import Faults, contents, damaged, forked, torn

ARGUMENTS = [
    "+exp=smoke",
    "tracker=none",
    "data.size=32",
    "data.frames=7",
    "keyframes.interval=2",
    "sampling.steps=2",
    "metrics=[integrity]",
    "constraint=[cross_frame,pixel]",
    "constraint.pixel.start=0.5",
    "constraint.pixel.stop=1",
]


@pytest.fixture(scope="module")
def tree() -> dict[str, Any]:
    (found,) = preflight(ARGUMENTS, None).jobs
    return dict(found)


@pytest.fixture(autouse=True, scope="module")
def ready(tree: dict[str, Any], tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Libraries, the model and compiled kernels are there, in one thread, so that copies of this
    process start quickly."""
    threads, cores, share = torch.get_num_threads(), cv2.getNumThreads(), key_frames.SHARE
    torch.set_num_threads(1)
    cv2.setNumThreads(0)
    key_frames.SHARE = 1  # traces are written after every key frame, however long that takes
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(tmp_path_factory.mktemp("warm"))
        run_job(tree, Path("out"), "")
    yield
    torch.set_num_threads(threads)
    cv2.setNumThreads(cores)
    key_frames.SHARE = share


@pytest.fixture(scope="module")
def whole(tree: dict[str, Any], tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """Hashes of what an undisturbed run leaves, its operations counted."""
    place = tmp_path_factory.mktemp("whole")
    assert run(tree, place) == 0
    return contents(place)


@pytest.fixture(scope="module")
def operations(tree: dict[str, Any], tmp_path_factory: pytest.TempPathFactory) -> int:
    place = tmp_path_factory.mktemp("counted")
    log = place / "count"
    faults = Faults()

    def done() -> None:
        os.write(os.open(log, os.O_WRONLY | os.O_CREAT), str(faults.count).encode())

    assert run(tree, place, faults, done) == 0
    return int(log.read_text())


def run(
    tree: dict[str, Any],
    place: Path,
    faults: Faults | None = None,
    done: Callable[[], None] = lambda: None,
    before: Callable[[], None] = lambda: None,
) -> int:
    """One run in a process of its own; its exit code."""

    def work() -> int:
        os.chdir(place)
        signal.signal(signal.SIGINT, signal.default_int_handler)
        before()
        if faults:
            faults.install()
        try:
            with terminable():
                run_job(tree, Path("out"), "")
        except BaseException as error:
            code, message = failure(error)
            os.write(2, f"{message}\n".encode())
            return code
        finally:
            done()
        return 0

    place.mkdir(exist_ok=True)
    return forked(work, place.with_suffix(".log"))


def check(tree: dict[str, Any], place: Path, whole: dict[str, str]) -> None:
    """Nothing is torn; the same command ends with the same files, and no others."""
    assert not torn(contents(place), whole)
    assert not damaged(place)
    assert run(tree, place) == 0, place.with_suffix(".log").read_text()
    assert contents(place) == whole


def places(count: int, number: int) -> list[int]:
    return sorted({1 + index * (count - 1) // (number - 1) for index in range(number)})


def test_killed_at_some_file_operations(
    tree: dict[str, Any], whole: dict[str, str], operations: int, tmp_path: Path
) -> None:
    for at in places(operations, 5):
        place = tmp_path / str(at)
        assert run(tree, place, Faults(at)) == -signal.SIGKILL, at
        check(tree, place, whole)


@pytest.mark.slow
@pytest.mark.timeout(7200)
def test_killed_at_every_file_operation(
    tree: dict[str, Any], whole: dict[str, str], operations: int, tmp_path: Path
) -> None:
    for at in range(1, operations + 1):
        place = tmp_path / str(at)
        assert run(tree, place, Faults(at)) == -signal.SIGKILL, at
        check(tree, place, whole)
    print(f"{operations} of {operations} operations")


@pytest.mark.slow
@pytest.mark.timeout(3600)
def test_killed_at_random_times(
    tree: dict[str, Any], whole: dict[str, str], tmp_path: Path
) -> None:
    begun = time.monotonic()
    run(tree, tmp_path / "timed")
    lasts, draw = time.monotonic() - begun, random.Random(0)
    killed = 0
    for number in range(100):
        place, after = tmp_path / str(number), draw.uniform(0, lasts)

        def alarmed(after: float = after) -> None:
            signal.signal(signal.SIGALRM, signal.SIG_DFL)
            signal.setitimer(signal.ITIMER_REAL, after)

        killed += run(tree, place, before=alarmed) == -signal.SIGALRM
        check(tree, place, whole)
    print(f"{killed} of 100 were killed before their end")
    assert killed > 50


@pytest.mark.slow
@pytest.mark.timeout(1200)
@pytest.mark.parametrize(
    "more",
    [
        ["sampling.batch_size=2"],
        ["smooth=median"],
        ["data.motion=cut", "keyframes=scene_cut", "keyframes.interval=2"],
        ["data.seeds=[1000000,1000001]"],
        ["store=null"],
        ["pictures=[keys,flow]"],
        ["+method=fatezero"],
        ["+method=pix2video"],
        ["metrics=[warp_error,flicker]", "propagation=patchmatch"],
    ],
    ids=lambda more: more[0],
)
def test_every_kind_of_run_goes_on(more: list[str], tmp_path: Path) -> None:
    method = any("method" in argument for argument in more)
    given = [a for a in ARGUMENTS if not (method and a.startswith("constraint"))]
    (tree,) = preflight([*given, *more], None).jobs
    assert run(tree, tmp_path / "whole") == 0, (tmp_path / "whole.log").read_text()
    whole, faults, log = contents(tmp_path / "whole"), Faults(), tmp_path / "count"

    def done() -> None:
        os.write(os.open(log, os.O_WRONLY | os.O_CREAT), str(faults.count).encode())

    run(tree, tmp_path / "counted", faults, done)
    for at in places(int(log.read_text()), 12):
        place = tmp_path / str(at)
        assert run(tree, place, Faults(at)) == -signal.SIGKILL, at
        check(tree, place, whole)


@pytest.mark.parametrize("error", [errno.ENOSPC, errno.EIO, errno.EROFS])
def test_a_write_that_fails_is_told_and_made_good(
    error: int, tree: dict[str, Any], whole: dict[str, str], operations: int, tmp_path: Path
) -> None:
    at, place = operations // 2 + error, tmp_path / "run"
    code = run(tree, place, Faults(at, error))
    assert code in (0, 5), place.with_suffix(".log").read_text()  # 0: a line of a log was lost
    check(tree, place, whole)


def test_a_writer_without_care_is_found_out(
    tree: dict[str, Any], whole: dict[str, str], tmp_path: Path
) -> None:
    """The same deaths, with files written in place: some are torn."""

    def careless() -> None:
        def put(path: Path, data: bytes, room: Path | None = None) -> None:
            path.parent.mkdir(parents=True, exist_ok=True)
            with path.open("wb") as file:
                file.write(data)

        files.put = files.write.put = put  # the latter for what the room itself writes by it

    faults, log = Faults(), tmp_path / "writes"

    def done() -> None:
        os.write(os.open(log, os.O_WRONLY | os.O_CREAT), json.dumps(faults.writes).encode())

    run(tree, tmp_path / "counted", faults, done, careless)
    writes, found = json.loads(log.read_text()), 0
    for number in places(len(writes), 12):
        at = writes[number - 1]
        run(tree, tmp_path / str(at), Faults(at), before=careless)
        found += bool(torn(contents(tmp_path / str(at)), whole) or damaged(tmp_path / str(at)))
        if found == 2:  # as many as are asked for: the other deaths would say nothing more
            return
    pytest.fail(f"{found} of twelve deaths in the middle of a write are seen")


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signal_stops_it_and_what_is_finished_is_kept(
    number: int, code: int, tree: dict[str, Any], whole: dict[str, str], tmp_path: Path
) -> None:
    finished = stopped_after_two(number)
    assert run(tree, tmp_path / "run", before=finished) == code
    work = [*(tmp_path / "run").rglob("state.json")]
    assert work, "a stage is under way"
    assert not [*(tmp_path / "run").rglob(f"{files.TEMPORARY}*")]
    check(tree, tmp_path / "run", whole)


def stopped_after_two(number: int) -> Callable[[], None]:
    """The second key frame is noted, then this process is sent a signal."""

    def install() -> None:
        noted, count = key_frames.StoredKeyFrames.finish, 0

        def finish(self: Any, *args: Any) -> None:
            nonlocal count
            noted(self, *args)
            count += 1
            if count == 2:
                os.kill(os.getpid(), number)

        key_frames.StoredKeyFrames.finish = finish  # type: ignore[method-assign, assignment]

    return install
