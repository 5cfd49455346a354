"""One clip over several devices: the bytes of one process, whoever dies on the way."""

from __future__ import annotations

import json
import logging
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import Future
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from rerender import files, propagate_keys
from rerender.codec import encode
from rerender.config.compose import preflight
from rerender.config.device import check_devices
from rerender.config.job import Job
from rerender.config.paths import ROOT
from rerender.contracts import Workers
from rerender.errors import ConfigError, InputError, ResourceError
from rerender.fitting import resize
from rerender.jobs import device_pool
from rerender.jobs.clip_workers import ClipSegments, Told
from rerender.jobs.device_messages import raised, receive, refusal, send
from rerender.jobs.device_pool import DevicePool, DeviceTask
from rerender.jobs.progress import Progress
from rerender.jobs.run_job import run_job
from rerender.propagate import propagate
from rerender.propagation.hold import Hold
from rerender.run import main
from rerender.scene import Trace, Translation, Watch
from rerender.translation.divided import divided
from rerender.translation.references import ResumePoint
from rerender.video import Clip, KeyFrame, MemoryVideo, Segment
from tests.faults import contents
from tests.propagation.scenes import moving

# Three shots, in which all four constraints act.
CLIP = [
    "model=tiny",
    "tracker=none",
    "sampling.strength=1.0",
    "data.size=32",
    "data.frames=12",
    "keyframes=manual",
    "keyframes.indices=[2]",
    "keyframes.cuts=[4,8]",
    "sampling.steps=10",
    "metrics=[integrity]",
]
TWO = "devices=[cpu,cpu]"


def composed(*more: str) -> dict[str, Any]:
    (found,) = preflight([*CLIP, *more], None).jobs
    return dict(found)


# -- the run ---------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def alone(tmp_path_factory: pytest.TempPathFactory) -> Mapping[str, str]:
    """What one process leaves."""
    place = tmp_path_factory.mktemp("alone")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(place)
        run_job(composed("store=null"), Path("out"), "")
    return results(place)


def results(place: Path) -> dict[str, str]:
    """Pictures, video and scores; config.yaml says how they came about."""
    found = contents(place)
    return {name: found[name] for name in found if not name.endswith("config.yaml")}


class Killer(Progress):
    """Kills a process when some evaluations are done.

    Args:
        processes: the first of them is killed.
    """

    def __init__(self, processes: Sequence[subprocess.Popen[bytes]]) -> None:
        super().__init__(bars=False)
        self._processes, self._killed = processes, False

    def advance(self, stage: str, done: int, total: int, note: str = "") -> None:
        super().advance(stage, done, total, note)
        if stage == "translate" and done >= 4 and not self._killed:
            self._killed = True
            self._processes[0].kill()


@pytest.fixture
def processes(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[subprocess.Popen[bytes]]]:
    """Those that are started for devices; none is left."""
    found: list[subprocess.Popen[bytes]] = []
    start = device_pool.started

    def started(handle: int) -> subprocess.Popen[bytes]:
        found.append(start(handle))
        return found[-1]

    monkeypatch.setattr(device_pool, "started", started)
    yield found
    assert all(each.returncode is not None for each in found)


def same(place: Path, alone: Mapping[str, str]) -> None:
    assert results(place) == {name.partition("/")[2]: sum_ for name, sum_ in alone.items()}


def test_a_clip_over_two_processes_is_the_same_bytes(
    alone: Mapping[str, str],
    processes: list[subprocess.Popen[bytes]],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    run_job(composed(TWO), Path("out"), "")
    same(tmp_path / "out", alone)
    facts = json.loads((tmp_path / "out" / "metrics.json").read_text())
    assert facts["computing"]["translate"] > 0 and facts["computing"]["load"] > 0
    keys = list((tmp_path / ".store" / "keys").rglob("manifest.json"))
    assert len(keys) == 1, "the shots are part of it, and are not kept twice"

    # From the stage store it is taken by one process and by two alike, and none is started.
    run_job(composed(), Path("again/out"), "")
    same(tmp_path / "again" / "out", alone)
    run_job(composed(TWO), Path("more/out"), "")
    assert len(processes) == 2


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_a_process_that_is_killed_costs_nothing_but_time(
    alone: Mapping[str, str],
    processes: list[subprocess.Popen[bytes]],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    monkeypatch.chdir(tmp_path)
    run_job(composed(TWO, "store=null"), Path("out"), "", progress=Killer(processes))
    same(tmp_path / "out", alone)
    assert len(processes) == 3
    assert "was lost over the shot of frames" in caplog.text and "SIGKILL" in caplog.text
    facts = json.loads((tmp_path / "out" / "metrics.json").read_text())
    assert any("was lost over" in said for said in facts["warnings"])


@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.parametrize(
    "more",
    [
        ["data.output=source", "blend_source=0.2", "smooth=gaussian", "propagation=warp"],
        ["prompts=ranges.csv"],
        ["keyframes=uniform", "keyframes.interval=3", "keyframes.cuts=~", "sampling.batch_size=2"],
        ["constraint=[tokenflow]", "start=ddim_inversion", "source_prompt=a cat"],
    ],
    ids=["full-size", "ranges", "one-shot", "joint"],
)
def test_other_kinds_of_runs_are_the_same_bytes(
    more: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("ranges.csv").write_text("from,to,prompt,fade\n0,5,a dog,\n6,11,a boat,2\n")
    more = [each for each in more if not each.endswith("=~")]
    base = CLIP if "keyframes=uniform" not in more else [c for c in CLIP if "keyframes" not in c]
    trees = [dict(preflight([*base, *more, *extra], None).jobs[0]) for extra in ([], [TWO])]
    for tree, name in zip(trees, ("one", "two"), strict=True):
        run_job({**tree, "store": None}, Path(name, "out"), "")
    assert results(tmp_path / "one") == results(tmp_path / "two")


def command(place: Path, *arguments: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", "rerender.run", *CLIP, TWO, "out=out", *arguments],
        cwd=place,
        env={**os.environ, "PYTHONPATH": str(ROOT), "RERENDER_PROGRESS": "0"},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )


def children(pid: int) -> set[int]:
    found = set()
    for status in Path("/proc").glob("[0-9]*/status"):
        try:
            text = status.read_text()
        except OSError:
            continue
        if f"\nPPid:\t{pid}\n" in text and "\nState:\tZ" not in text:
            found.add(int(status.parent.name))
    return found


def lives(pid: int) -> bool:
    try:
        return "\nState:\tZ" not in Path(f"/proc/{pid}/status").read_text()
    except OSError:
        return False


def ends(run: subprocess.Popen[str], number: signal.Signals, theirs: set[int]) -> None:
    """A command that was stopped ends by its signal, and none of its processes works on."""
    run.communicate(timeout=60)
    assert run.returncode == (-number if number == signal.SIGKILL else 128 + number)
    end = time.monotonic() + 30
    while any(map(lives, theirs)) and time.monotonic() < end:
        time.sleep(0.1)
    assert not [pid for pid in theirs if lives(pid)], "none works on"


@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_a_command_that_is_stopped_ends_its_processes_and_goes_on(
    number: signal.Signals, alone: Mapping[str, str], tmp_path: Path
) -> None:
    run = command(tmp_path)
    assert run.stdout is not None
    said = ""
    while "translate: 6" not in said and "translate: 7" not in said:
        line = run.stdout.readline()
        assert line, said
        said += line
    theirs = children(run.pid)
    assert len(theirs) == 2
    if number == signal.SIGINT:
        os.killpg(run.pid, number)  # as a terminal does
    else:
        run.send_signal(number)
    ends(run, number, theirs)
    again = command(tmp_path)
    out, _ = again.communicate(timeout=250)
    assert again.returncode == 0, out
    assert (
        results(tmp_path / "out").items()
        == {name.partition("/")[2]: sum_ for name, sum_ in alone.items()}.items()
    )


# -- key frames made elsewhere ---------------------------------------------------------------------


def elsewhere(place: Path) -> list[str]:
    """A clip of 41 frames whose key frames miss its shape by a model's rounding."""
    video = moving(41, 48, 90)
    with files.writing(place / "a.mp4") as file:
        encode([video[index] for index in range(len(video))], video, file)
    for index in (3, 9, 20, 30, 39):
        image = 1 - resize(video[index], (48, 96))
        files.put(place / "keys" / f"{index}.png", files.png(image))
    return ["--keys", str(place / "keys"), "--video", str(place / "a.mp4")]


def test_segments_over_two_processes_are_the_same_bytes(
    processes: list[subprocess.Popen[bytes]], tmp_path: Path
) -> None:
    asked = [*elsewhere(tmp_path), "data.start=1", "data.frames=40", "mask=none"]
    assert propagate_keys.main([*asked, "--out", str(tmp_path / "one.mp4")]) == 0
    assert propagate_keys.main([*asked, TWO, "--out", str(tmp_path / "two.mp4")]) == 0
    assert (tmp_path / "one.mp4").read_bytes() == (tmp_path / "two.mp4").read_bytes()
    assert len(processes) == 2
    names = {path.name for path in tmp_path.iterdir()}
    assert names == {"a.mp4", "keys", "one.mp4", "two.mp4"}


@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_segments_that_are_stopped_leave_no_process_and_no_video(
    number: signal.Signals, tmp_path: Path
) -> None:
    asked = [*elsewhere(tmp_path), TWO, "--out", str(tmp_path / "out.mp4")]
    run = subprocess.Popen(
        [sys.executable, "-m", "rerender.propagate", *asked],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(ROOT), "RERENDER_PROGRESS": "0"},
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    assert run.stderr is not None
    said = ""
    while "propagate: 4" not in said:
        line = run.stderr.readline()
        assert line, said
        said += line
    theirs = children(run.pid)
    assert len(theirs) == 2
    run.send_signal(number)
    ends(run, number, theirs)
    assert not (tmp_path / "out.mp4").exists()
    assert propagate_keys.main(asked) == 0


def test_devices_of_the_other_command_are_checked_too(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    asked = [*elsewhere(tmp_path), "--out", str(tmp_path / "out.mp4")]
    assert propagate_keys.main([*asked, "devices=[cpu,cuda:7]"]) == 2
    assert "devices: there is no cuda:7 here" in capsys.readouterr().err


# -- what is refused -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("more", "says"),
    [
        (["devices=[cpu,auto]"], "devices: auto names none"),
        (["model=demo", "devices=[gpu]"], "is no device, received 'gpu'"),
        (["model=demo", "devices=[cpu,cuda:7]"], "devices: there is no cuda:7 here"),
        (["model=demo", "model.device=cuda:1", TWO], "devices: model.device=cuda:1 is none of"),
        (["devices=[cuda:0]"], "devices: this model computes on the processor"),
        (["pictures=[keys,flow]", TWO], "pictures: pictures of flow are kept by a run on one"),
        ([f"devices=[{','.join(['cpu'] * 65)}]"], "devices: "),
    ],
)
def test_devices_that_cannot_be_are_refused(
    more: list[str],
    says: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main([*CLIP, *more]) == 2
    assert says in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


def test_cards_of_two_kinds_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda name: f"Card {name[-1]}")
    job = Job.of(composed("model=demo", "devices=[cuda:0,cuda:1]"))
    with pytest.raises(ConfigError, match=r"different kinds \(Card 0, Card 1\)"):
        check_devices(job)
    check_devices(Job.of(composed("model=demo", "devices=[cuda:1,cuda:1]")))


def test_devices_are_no_part_of_a_run_s_identity() -> None:
    from rerender.config.job import key_of

    assert key_of(composed(TWO)) == key_of(composed())


# -- messages --------------------------------------------------------------------------------------


def test_tensors_and_errors_come_as_they_were_sent() -> None:
    from multiprocessing import Pipe

    ours, theirs = Pipe()
    tensors = [torch.rand(3, 2, 5), torch.rand(3, 4, 4).transpose(1, 2)]
    send(ours, {"part": "fill"}, tensors)
    message, found = receive(theirs)
    assert message == {"part": "fill"}
    assert all(torch.equal(one, other) for one, other in zip(tensors, found, strict=True))
    error = raised(refusal(InputError("a.mp4", "is torn", "mend it")))
    assert isinstance(error, InputError) and str(error) == "a.mp4: is torn; mend it"
    bug = raised({"code": 70, "said": ["rerender: ValueError at x.py:1"]})
    assert isinstance(bug, RuntimeError)
    ours.close()
    theirs.close()


# -- a pool of processes that are quicker than ours ------------------------------------------------

FILLER = """
import json, os, sys
from multiprocessing.connection import Connection
channel = Connection(int(sys.argv[1]))
def hear():
    message = json.loads(channel.recv_bytes())
    return message, [channel.recv_bytes() for _ in message["tensors"]]
def say(**message):
    channel.send_bytes(json.dumps({"tensors": [], **message}).encode())
setup, _ = hear()
while True:
    asked, images = hear()
    start, stop = asked["span"]
    {what}
    frames = [images[0]] * (stop - start)
    shape = [3, 4, 4]
    say(spent={"propagate": 1.0}, peak=start, tensors=[shape] * len(frames))
    for each in frames:
        channel.send_bytes(each)
"""


def pool(patch: pytest.MonkeyPatch, what: str = "pass") -> DevicePool:
    patch.setattr(device_pool, "PROGRAM", (sys.executable, "-c", FILLER.replace("{what}", what)))
    return DevicePool(["cpu", "cpu"], {})


def segment_workers(of: DevicePool, spent: dict[str, float] | None = None) -> ClipSegments:
    def credit(stage: str, seconds: float) -> None:
        if spent is not None:
            spent[stage] = spent.get(stage, 0.0) + seconds

    return ClipSegments(of, 0, credit)


def blank(count: int) -> MemoryVideo:
    return MemoryVideo([torch.zeros(3, 4, 4)] * count)


def key(index: int) -> Translation:
    image = torch.full((3, 4, 4), index / 100)
    return Translation(KeyFrame(index, image), Trace(image=image))


def test_frames_come_in_order_from_whichever_process_makes_them(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    video = blank(41)
    indices = [0, 3, 4, 11, 20, 29, 40]
    spent: dict[str, float] = {}
    with pool(monkeypatch) as processes:
        workers = segment_workers(processes, spent)
        made = propagate(video, map(key, indices), Hold(), None, workers=workers)  # type: ignore[arg-type]
        found = [round(float(image[0, 0, 0]) * 100) for image in made]
        workers.settle()
    assert found == [max(i for i in indices if i <= frame) for frame in range(41)]
    assert spent == {"propagate": 5.0}
    assert processes.peak == 30


def test_no_more_segments_are_under_way_than_processes_and_one() -> None:
    class Slow(Workers):
        count, given, most = 2, 0, 0

        def part(self, number: int) -> Workers:
            return self

        def translate(self, shots: Any, finished: int, watch: Watch) -> Iterator[Tensor]:
            return iter(())

        def fill(self, segment: Segment) -> Future[list[Tensor]]:
            outer, images = self, [torch.zeros(3, 4, 4)] * len(segment)
            self.given += 1
            self.most = max(self.most, self.given)

            class Taken(Future[list[Tensor]]):
                def result(self, timeout: float | None = None) -> list[Tensor]:
                    outer.given -= 1
                    return images

            return Taken()

    workers = Slow()
    list(propagate(blank(61), map(key, range(0, 61, 3)), Hold(), None, workers=workers))  # type: ignore[arg-type]
    assert workers.given == 0 and 2 <= workers.most <= 4


def test_a_process_that_dies_twice_over_a_part_is_named(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    dying = "if start == 5: os.kill(os.getpid(), 9)"
    with pool(monkeypatch, dying) as processes, caplog.at_level(logging.WARNING):
        workers = segment_workers(processes)
        video, (one, two) = blank(9), (key(0).key, key(4).key)
        good = workers.fill(Segment(video, 1, 4, one, two))
        bad = workers.fill(Segment(video, 5, 8, two, None))
        assert len(good.result(60)) == 3
        with pytest.raises(ResourceError, match=r"lost over frames 5 to 7, .* on cpu \(process "):
            bad.result(60)
    assert caplog.text.count("was lost over frames 5 to 7 (SIGKILL); it is done again") == 1


def test_an_error_of_a_process_is_the_run_s(monkeypatch: pytest.MonkeyPatch) -> None:
    refusing = "say(code=3, said=['clip', 'is torn', 'mend it']); continue"
    with pool(monkeypatch, refusing) as processes:
        segment = Segment(blank(9), 1, 4, key(0).key, None)
        with pytest.raises(InputError, match="clip: is torn; mend it"):
            segment_workers(processes).fill(segment).result(60)


def test_what_is_left_to_do_is_dropped_at_the_end(monkeypatch: pytest.MonkeyPatch) -> None:
    """A process that never answers is ended with the block."""
    with pool(monkeypatch, "import time; time.sleep(600)") as processes:
        monkeypatch.setattr(device_pool, "_LEAVE", 0.1)
        begun = segment_workers(processes).fill(Segment(blank(9), 1, 4, key(0).key, None))
        time.sleep(0.3)
    assert begun.done() and begun.exception() is not None


# -- shots -----------------------------------------------------------------------------------------


class Answers(Workers):
    """Key frames whose brightness is their number."""

    count = 2

    def __init__(self) -> None:
        self.asked: list[int] = []
        self.ended = False

    def part(self, number: int) -> Workers:
        return self

    def translate(
        self, shots: Sequence[Sequence[int]], finished: int, watch: Watch
    ) -> Iterator[Tensor]:
        for index in [index for shot in shots for index in shot][finished:]:
            self.asked.append(index)
            yield torch.full((3, 4, 4), index / 100)
        self.ended = True

    def fill(self, segment: Segment) -> Future[list[Tensor]]:
        raise AssertionError("no segment is given here")


class Kept(ResumePoint):
    """Two key frames are finished."""

    finished = 2

    def __init__(self, workers: Answers) -> None:
        self.kept: list[int] = []
        self.workers = workers

    def recall(self, index: int, shot: int) -> Translation:
        return Translation(KeyFrame(index, torch.zeros(3, 4, 4), shot=shot), Trace())

    def finish(self, translation: Translation, references: object) -> None:
        assert references is None
        self.kept.append(translation.key.index)

    def close(self) -> None:
        assert not self.workers.ended, "theirs are let go when they are kept here"


def test_what_is_finished_is_not_asked_for_again() -> None:
    workers = Answers()
    resume = Kept(workers)
    clip = Clip("scene", blank(12), "a cat")
    made = list(divided(clip, [[0], [1, 5], [6, 11]], workers, None, resume))
    assert [(each.key.index, each.key.shot) for each in made] == [
        (0, 0), (1, 1), (5, 1), (6, 2), (11, 2),
    ]  # fmt: skip
    assert workers.asked == resume.kept == [5, 6, 11]
    assert workers.ended


def test_progress_counts_shots_that_have_not_begun_by_their_key_frames() -> None:
    shots = [[0, 1], [2, 3, 4], [5]]
    parts = [DeviceTask({"shots": shots, "shot": n}, "") for n in range(3)]
    told = Told(parts, Watch())
    assert not told.news() and told.done() == (0, 0, "")
    parts[0].progress, parts[1].progress = (20, 20, "a"), (5, 40, "b")
    assert told.news() and told.done() == (25, 72, "b")
    told.tell()
    assert not told.news()
