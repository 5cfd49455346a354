"""What an exported benchmark says of itself (benchmark.json), and the organiser's key."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from experiments.benchmark.tasks import RATE, EditTask
from rerender.data.pictures import Pictures
from rerender.errors import InputError
from rerender.run_folder import read_json
from rerender.video import Video

MANIFEST, FORMAT, KEY_FORMAT = "benchmark.json", "rerender-benchmark/1", "rerender-benchmark-key/1"
CLIPS, PROMPTS, README = "clips", "prompts.csv", "README.md"
_KINDS = {"name": str, "kind": str, "hidden": bool, "prompt": str, "source_prompt": str}
_KINDS |= {"frames": int, "size": int, "sha256": str}


@dataclass(frozen=True)
class BenchmarkClip:
    """One clip of an exported benchmark.

    Attributes:
        name, kind, prompt, source_prompt: as of its task.
        frames, size: length, and side of the square frames in pixels.
        sha256: of its source's 8-bit RGB pixels, frame after frame.
        hidden: whether its truth is kept back.
        seed, motion: of its world; None while hidden.
        commitment: of a hidden task, which fixes it without telling it.
    """

    name: str
    kind: str
    prompt: str
    source_prompt: str
    frames: int
    size: int
    sha256: str
    hidden: bool = False
    seed: int | None = None
    motion: str | None = None
    commitment: str | None = None

    @classmethod
    def of(cls, task: EditTask, nonce: str | None = None) -> BenchmarkClip:
        """The entry of a task; hidden where there is a nonce."""
        said = (task.name, task.kind, task.prompt, task.world.caption)
        entry = cls(*said, task.frames, task.size, task.source())
        if nonce is not None:
            return replace(entry, hidden=True, commitment=task.commitment(nonce))
        return replace(entry, seed=task.seed, motion=task.motion)

    def task(self) -> EditTask | None:
        """The task of a clip that is public."""
        if self.hidden or self.seed is None or self.motion is None:
            return None
        return EditTask(self.name, self.kind, self.seed, self.motion, self.frames, self.size)


@dataclass(frozen=True)
class Benchmark:
    """An exported benchmark.

    Attributes:
        folder: where it lies.
        entries: its clips, in order.
    """

    folder: Path
    entries: tuple[BenchmarkClip, ...]

    @property
    def id(self) -> str:
        """A hash of everything that it asks for."""
        text = json.dumps([asdict(entry) for entry in self.entries], sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()[:16]

    def facts(self) -> dict[str, Any]:
        """What stands in its benchmark.json."""
        clips = [asdict(entry) for entry in self.entries]
        return {"format": FORMAT, "id": self.id, "rate": RATE, "clips": clips}

    def source(self, entry: BenchmarkClip) -> Video:
        """The source of a clip, from its files."""
        return Pictures.of(self.folder / CLIPS / entry.name, RATE)


def read(folder: Path) -> Benchmark:
    """An exported benchmark.

    Raises:
        InputError: there is none, or its benchmark.json was changed.
    """
    path, cure = folder / MANIFEST, "export it again, or take the published one"
    found = read_json(path)
    try:
        clips = [dict(clip) for clip in found["clips"]]
        for clip in clips:
            if not all(isinstance(clip[name], kind) for name, kind in _KINDS.items()):
                raise ValueError("a value of another kind")
        benchmark = Benchmark(folder, tuple(BenchmarkClip(**clip) for clip in clips))
        whole = found["format"] == FORMAT and found["id"] == benchmark.id and clips
    except (KeyError, TypeError, ValueError) as error:
        raise InputError(path, f"is no benchmark ({error})", cure) from error
    if not whole:
        raise InputError(path, "was changed: it does not fit its id", cure)
    for entry in benchmark.entries:
        if Path(entry.name).name != entry.name or entry.name.startswith("."):
            raise InputError(path, f"a clip cannot be called {entry.name[:40]!r}", cure)
    return benchmark


@dataclass(frozen=True)
class BenchmarkKey:
    """What only the organiser knows: the hidden tasks and the nonces of their commitments."""

    tasks: Mapping[str, EditTask]
    nonces: Mapping[str, str]

    def facts(self, benchmark: Benchmark) -> dict[str, Any]:
        """What stands in the key's file."""
        hidden = [{**asdict(task), "nonce": self.nonces[name]} for name, task in self.tasks.items()]
        return {"format": KEY_FORMAT, "id": benchmark.id, "hidden": hidden}


def read_key(path: Path) -> BenchmarkKey:
    """A key; whether it fits a benchmark is seen by `tasks_of`.

    Raises:
        InputError: it is none.
    """
    found = read_json(path)
    try:
        if found["format"] != KEY_FORMAT:
            raise ValueError(str(found["format"])[:40])
        nonces = {str(one["name"]): str(one.pop("nonce")) for one in found["hidden"]}
        return BenchmarkKey({one["name"]: EditTask(**one) for one in found["hidden"]}, nonces)
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        cure = "name the file that the export has written beside the benchmark"
        raise InputError(path, f"is no key of a benchmark ({error})", cure) from error


def tasks_of(benchmark: Benchmark, key: BenchmarkKey | None) -> dict[str, EditTask]:
    """The tasks whose truth is known here: the public ones, with a key the hidden ones too.

    Raises:
        InputError: a task does not give the source or the commitment that the benchmark states:
            the key is of another benchmark, or this program draws another world.
    """
    tasks: dict[str, EditTask] = {}
    for entry in benchmark.entries:
        task = entry.task()
        if entry.hidden and key is not None:
            task = key.tasks.get(entry.name)
            nonce = key.nonces.get(entry.name, "")
            if task is None or task.commitment(nonce) != entry.commitment:
                problem = f"its key does not fit {entry.name}: it is of another benchmark"
                raise InputError(benchmark.folder, problem, "name the right one: --key FILE")
        if task is not None:
            if task.source() != entry.sha256:
                problem = f"the world of {entry.name} is another one in this version"
                raise InputError(benchmark.folder, problem, "take the version that exported it")
            tasks[entry.name] = task
    return tasks
