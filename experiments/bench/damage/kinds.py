"""What is damaged, which command is given it, and what must come of it."""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from random import Random
from typing import Any

import torch

from eval import score as eval_folder
from experiments import report, tables
from experiments.bench.damage import mutations as ways
from experiments.bench.damage import seeds as seeds
from rerender import propagate_keys, run
from rerender.codec import open_video
from rerender.datasets import fetch
from rerender.errors import RerenderError
from rerender.jobs.run_job import run_job
from rerender.jobs.worker import ScheduledJob, attempt, read
from rerender.run_folder import VIDEO
from rerender.video import sha256_file

Command = Callable[[], int]
Judge = Callable[[], str]
VARYING = ("record.jsonl", "run.log", "metrics.json", "manifest.json", "lock", "state.json")
SAME, COUNT = "", "wrong count"


@dataclass(frozen=True)
class MutantTrial:
    """One damaged input.

    Attributes:
        what: the file that was damaged.
        command: gives the exit code.
        judge: after an exit code of 0: "" where all is right, else what is wrong.
    """

    what: str
    command: Command
    judge: Judge = lambda: SAME


@dataclass(frozen=True)
class FileKind:
    """A kind of input.

    Attributes:
        share: parts of all mutants.
        make: makes a trial in an empty working folder, from the folder of seeds.
    """

    share: int
    make: Callable[[Path, Random], MutantTrial]


@lru_cache(maxsize=16)
def _tree(arguments: tuple[str, ...]) -> dict[str, Any]:
    return seeds.tree_of(arguments)


def _job(*arguments: str, keep: bool = False, **model: str) -> Command:
    """A job as the command does it, from a configuration that is composed once."""

    def command() -> int:
        tree = dict(_tree(arguments))
        tree["model"] = {**tree["model"], **model}
        place = Path.cwd()
        job = ScheduledJob(0, tree, "damage", "", "", place / "job", place, keep)
        with attempt(job) as folder:
            run_job(tree, folder, "", keep=keep)
        return int(read(place / "job/status.json")["code"])

    return command


def _frames(path: str, count: int) -> Judge:
    def judge() -> str:
        try:
            found = len(open_video(Path(path)))
        except RerenderError as error:
            return f"no video ({error})"
        return SAME if found == count else f"{COUNT}: {found} of {count} frames"

    return judge


def _write(path: str, data: bytes) -> str:
    Path(path).parent.mkdir(parents=True, exist_ok=True)
    Path(path).write_bytes(data)
    return path


def _video(suffix: str) -> Callable[[Path, Random], MutantTrial]:
    def make(source: Path, dice: Random) -> MutantTrial:
        whole = (source / f"videos/video.{suffix}").read_bytes()
        name = _write(f"input.{suffix}", ways.damaged(whole, dice))
        if dice.random() < 0.25:
            settings = ["data=video", f"data.path={name}", *seeds.PLAIN]
            return MutantTrial(
                name, _job(*seeds.RUN, *settings), _frames("out/video.mp4", seeds.FRAMES)
            )
        return MutantTrial(
            name, _propagated(source / "keys", name), _frames("out.mp4", seeds.FRAMES)
        )

    return make


def _propagated(keys: Path, video: str) -> Command:
    given = ["--keys", str(keys), "--video", video, "--out", "out.mp4", "--one-shot"]
    return lambda: propagate_keys.main([*given, "--ahead", "1", "propagation=hold"])


def _pictures(suffix: str) -> Callable[[Path, Random], MutantTrial]:
    def make(source: Path, dice: Random) -> MutantTrial:
        shutil.copytree(source / f"pictures-{suffix}", "input")
        name = f"input/{dice.randrange(3):04d}.{suffix}"
        _write(name, ways.damaged(Path(name).read_bytes(), dice))
        settings = ["data=folder", "data.path=input", *seeds.PLAIN]
        return MutantTrial(name, _job(*seeds.RUN, *settings), _frames("out/video.mp4", 3))

    return make


NAMES = (  # of key frames, with the number of the frame
    *("{}.png", "-{}.png", "{}.5.png", "1e{}.png", "{}.PNG", "x.png", "{:06d}_00001_.png"),
    *("９.png", "frame-{:04d}.png", "{:030d}.png", "a{}b{}.png", "{} (1).png", ".{}.png"),
    *("99.png", "²{}.png"),
)


def _keys(source: Path, dice: Random) -> MutantTrial:
    shutil.copytree(source / "keys", "keys")
    index = dice.choice(range(0, seeds.FRAMES, seeds.KEY_EVERY))
    name = Path(f"keys/{index:06d}.png")
    if dice.random() < 0.3:
        name = name.rename(name.with_name(dice.choice(NAMES).format(index, index)))
    else:
        _write(str(name), ways.damaged(name.read_bytes(), dice))
    command = _propagated(Path("keys"), str(source / "videos/video.mp4"))
    return MutantTrial(str(name), command, _frames("out.mp4", seeds.FRAMES))


def _prompts(source: Path, dice: Random) -> MutantTrial:
    shutil.copytree(source / "clips", "clips")
    name = _write("prompts.csv", ways.misspelt((source / "prompts.csv").read_bytes(), dice))
    settings = ["prompt=null", "data=folder", "data.path=clips", f"data.prompts={name}"]

    def judge() -> str:
        found = len(list(Path("out").glob("*/video.mp4")))
        return SAME if found == 2 else f"{COUNT}: {found} of 2 clips"

    return MutantTrial(name, _job(*seeds.RUN, *settings, *seeds.PLAIN), judge)


def _experiment(source: Path, dice: Random) -> MutantTrial:
    way = dice.choice((ways.misspelt, ways.revalued))
    whole = (source / "conf/exp/mine.yaml").read_bytes()
    name = _write("conf/exp/mine.yaml", way(whole, dice))
    given = ["+exp=mine", "--config-dir", "conf", "--dry"]
    return MutantTrial(name, lambda: run.main(given))


def _data_set(source: Path, dice: Random) -> MutantTrial:
    way = dice.choice((ways.misspelt, ways.revalued))
    name = _write("set.yaml", way((source / "set.yaml").read_bytes(), dice))
    return MutantTrial(name, _fetched(name, source / "archive.zip"))


def _fetched(manifest: str, archive: Path) -> Command:
    return lambda: fetch.main(
        [f"data={manifest}", f"archive={archive}", "out=set", "licence=accept"]
    )


def _archive(suffix: str) -> Callable[[Path, Random], MutantTrial]:
    def make(source: Path, dice: Random) -> MutantTrial:
        whole = (source / f"archive.{suffix}").read_bytes()
        name = _write(f"archive.{suffix}", ways.damaged(whole, dice))

        def judge() -> str:
            found = len([path for path in Path("set/clips").glob("*") if path.is_dir()])
            return SAME if found == 2 else f"{COUNT}: {found} of 2 clips"

        return MutantTrial(name, _fetched(str(source / "set.yaml"), Path(name)), judge)

    return make


def _checkpoint(suffix: str) -> Callable[[Path, Random], MutantTrial]:
    def make(source: Path, dice: Random) -> MutantTrial:
        place = Path(f"weights-{dice.randrange(10**9)}")  # models are remembered by their path
        shutil.copytree(source / "weights", place, copy_function=os.link)
        name = dice.choice(sorted(place.rglob(f"*.{suffix}")))
        whole = name.read_bytes()
        name.unlink()
        textual = suffix == "json" and dice.random() < 0.3
        way = ways.misspelt if textual else ways.revalued if suffix == "json" else ways.damaged
        _write(str(name), way(whole, dice))
        command = _job(*seeds.CHECKPOINT, path=str(place))
        where = name.relative_to(place).as_posix()
        return MutantTrial(f"weights/{where}", command, _frames("out/video.mp4", 3))

    return make


def _store(home: str) -> Callable[[Path, Random], MutantTrial]:
    def make(source: Path, dice: Random) -> MutantTrial:
        _copied(source / home)
        shutil.rmtree("out", ignore_errors=True)
        name = _hurt(Path(".store"), dice, ("lock",))
        command = _job(*seeds.RUN, *seeds.FILM)
        return MutantTrial(name, command, _like(source / "finished/out"))

    return make


def _run(source: Path, dice: Random) -> MutantTrial:
    _copied(source / "finished")
    name = _hurt(Path("out"), dice, ("lock", "record.jsonl", "run.log"))
    command = _job(*seeds.RUN, *seeds.FILM, keep=True)
    return MutantTrial(name, command, _like(source / "finished/out"))


def _results(source: Path, dice: Random) -> MutantTrial:
    _copied(source / "finished")
    name = _hurt(Path("out"), dice, ("lock",))
    main: Callable[[Sequence[str]], int]
    main = dice.choice((eval_folder.main, tables.main, report.main))
    return MutantTrial(f"{name} ({main.__module__})", lambda: main(["out"]))


def _copied(home: Path) -> None:
    for entry in home.iterdir():
        if entry.is_dir():
            shutil.copytree(entry, entry.name)
        else:
            shutil.copyfile(entry, entry.name)


def _hurt(place: Path, dice: Random, spared: Sequence[str]) -> str:
    """Damage one of the files below a folder, or take it away; small texts more often."""
    files = sorted(path for path in place.rglob("*") if path.is_file())
    wanted = [path for path in files if path.name not in spared and path.name[:5] != ".tmp-"]
    path = dice.choice(wanted)
    data = path.read_bytes()
    if dice.random() < 0.1:
        path.unlink()
    elif path.suffix in (".json", ".yaml") and dice.random() < 0.6:
        _write(str(path), ways.revalued(data, dice))
    elif path.suffix in (".json", ".jsonl", ".yaml"):
        _write(str(path), ways.misspelt(data, dice))
    else:
        _write(str(path), ways.damaged(data, dice))
    return str(path)


def _like(whole: Path) -> Judge:
    """The run folder holds the same files with the same bytes as the one that was not damaged."""

    def judge() -> str:
        there, expected = _sums(Path("out")), _sums(whole)
        other = sorted(name for name in expected if there.get(name) != expected[name])
        if VIDEO in other:
            differs = video_difference(Path("out") / VIDEO, whole / VIDEO)
            also = [name for name in other if name != VIDEO]
            return f"another video: {differs}; differing besides: {', '.join(also) or 'nothing'}"
        return f"damage stays in {other[0]}" if other else SAME

    return judge


def video_difference(made: Path, expected: Path) -> str:
    """How a video differs from the one expected: in which frames, and by how much at most."""
    try:
        ours, whole = open_video(made), open_video(expected)
    except RerenderError as error:
        return str(error)
    if (len(ours), ours.size) != (len(whole), whole.size):
        return f"{len(ours)} frames of {ours.size}, not {len(whole)} of {whole.size}"
    apart = [float((ours[index] - whole[index]).abs().max()) * 255 for index in range(len(whole))]
    differing = [index for index, most in enumerate(apart) if most]
    if not differing:
        return "the same frames, coded otherwise"
    frames = f"frames {', '.join(map(str, differing))} of {len(whole)} differ"
    return f"{frames}, by {max(apart):.2f} levels at most, on {torch.get_num_threads()} threads"


def _sums(place: Path) -> dict[str, str]:
    return {
        path.relative_to(place).as_posix(): sha256_file(path)
        for path in sorted(place.rglob("*"))
        if path.is_file() and path.name not in VARYING
    }


KINDS: dict[str, FileKind] = {
    **{f"video {suffix}": FileKind(10, _video(suffix)) for suffix in seeds.CONTAINERS},
    **{f"picture {suffix}": FileKind(5, _pictures(suffix)) for suffix in seeds.PICTURES},
    "key frames": FileKind(12, _keys),
    "prompt table": FileKind(10, _prompts),
    "experiment yaml": FileKind(12, _experiment),
    "data set yaml": FileKind(6, _data_set),
    **{f"archive {suffix}": FileKind(6, _archive(suffix)) for suffix in ("zip", "tar", "tar.gz")},
    "checkpoint safetensors": FileKind(8, _checkpoint("safetensors")),
    "checkpoint json": FileKind(12, _checkpoint("json")),
    "store, finished": FileKind(6, _store("finished")),
    "store, stopped": FileKind(6, _store("stopped")),
    "run folder": FileKind(8, _run),
    "results folder": FileKind(8, _results),
}


def warm(source: Path) -> int:
    """Import and load what trials need, by the commands on whole files; 0 where all are taken."""
    film = shutil.copyfile(source / "videos/video.mp4", "input.mp4")
    shutil.copytree(source / "conf", "conf")
    shutil.copytree(source / "finished/out", "results")
    settings = ["data=video", f"data.path={film}", *seeds.PLAIN]
    commands: dict[str, Command] = {
        "checkpoint": _job(*seeds.CHECKPOINT, path=str(source / "weights")),
        "run": _job(*seeds.RUN, *settings),
        "propagate": _propagated(source / "keys", film),
        "experiment": lambda: run.main(["+exp=mine", "--config-dir", "conf", "--dry"]),
        "fetch": _fetched(str(source / "set.yaml"), source / "archive.zip"),
        "score": lambda: eval_folder.main(["results"]),
        "tables": lambda: tables.main(["results"]),
    }
    for name, command in commands.items():
        shutil.rmtree("out", ignore_errors=True)
        if code := command():
            sys.stderr.write(f"{name}: whole files are not taken, code {code}\n")
            return code
    for name in seeds.CONTAINERS:
        if len(open_video(source / f"videos/video.{name}")) != seeds.FRAMES:
            sys.stderr.write(f"the whole {name} has not {seeds.FRAMES} frames\n")
            return 1
    return 0
