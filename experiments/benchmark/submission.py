"""A submission: results checked against the benchmark, copied and sealed; and read back."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from scipy.optimize import linear_sum_assignment
from torch import Tensor

from eval import references
from eval.results import Outcome, of_method
from experiments.benchmark.manifest import CLIPS, Benchmark, BenchmarkClip
from experiments.benchmark.tasks import RATE, EditTask, pixels
from experiments.experiment import is_floor
from rerender import files
from rerender.errors import ConfigError, InputError
from rerender.fitting import resize
from rerender.run_folder import read_json, sums
from rerender.video import Video, sha256_of

SUBMISSION, FORMAT = "submission.json", "rerender-submission/1"
_NAME = re.compile(r"[^\x00-\x1f\x7f]{1,80}")
_SECOND = 1 / 1000  # by how much a time may be off
_SMALL = 32  # side of the frames that are compared for swaps
_CLOSER = 0.5  # swapped clips have less than this share of their error where they belong
_CURE = "make it again: python -m experiments.benchmark submit"


@dataclass(frozen=True)
class Submission:
    """The results of one method.

    Attributes:
        folder: where they lie.
        method: its name.
        description: what its makers say of it.
        videos: by clip.
    """

    folder: Path
    method: str
    description: str
    videos: Mapping[str, Video]


def submit(
    benchmark: Benchmark,
    results: Path,
    target: Path,
    method: str,
    description: str,
    tasks: Mapping[str, EditTask],
) -> Submission:
    """Check the results of a method, copy them and seal the copy.

    Args:
        benchmark: what they are results of.
        results: ``CLIP.mp4`` or ``CLIP/000000.png``, or a run folder of ours.
        target: folder of the submission, empty or not there.
        method: its name in the leaderboard.
        description: one line on the method.
        tasks: tasks whose truth is known here, by clip.

    Raises:
        InputError: a source, or a result, is not what the protocol asks for.
        ConfigError: the name cannot be used, or the target holds something.
    """
    _require_name(method, "--method")
    if files.children(target):
        raise ConfigError(target, "is not empty", "name a new folder for the submission")
    if target.resolve().is_relative_to(results.resolve()):
        raise ConfigError(target, "lies in the results", "name a folder elsewhere")
    sources = check_sources(benchmark)
    outcomes = by_clip(of_method(results), benchmark, results)
    for outcome in outcomes.values():
        outcome.check()
    check_results(outcomes, benchmark, tasks)
    for name, outcome in outcomes.items():
        single = outcome.path.is_file()
        for file in outcome.files():
            place = Path(f"{name}{file.suffix.lower()}") if single else Path(name, file.name)
            files.copy(file, target / place)
    facts = {
        "format": FORMAT,
        "benchmark": benchmark.id,
        "method": method,
        "description": description,
        "sources": sources,
        "files": sums(target, _files(target)),
    }
    files.put_json(target / SUBMISSION, facts)
    return read(benchmark, target, tasks)


def read(benchmark: Benchmark, folder: Path, tasks: Mapping[str, EditTask]) -> Submission:
    """A submission, checked as if nobody had checked it before.

    Raises:
        InputError: it is of another benchmark, was changed after it was sealed, or its results are
            not what the protocol asks for.
    """
    path = folder / SUBMISSION
    found = read_json(path)
    kinds: dict[str, type] = {"method": str, "description": str, "sources": dict, "files": dict}
    if found.get("format") != FORMAT or not all(
        isinstance(found.get(name), kind) for name, kind in kinds.items()
    ):
        raise InputError(path, "is no submission", _CURE)
    if found.get("benchmark") != benchmark.id:
        problem = f"is of another benchmark ({str(found.get('benchmark'))[:40]!r})"
        raise InputError(path, problem, f"this one is {benchmark.id}")
    expected = {entry.name: entry.sha256 for entry in benchmark.entries}
    if wrong := [name for name, sha in expected.items() if found["sources"].get(name) != sha]:
        raise InputError(path, f"was made from another source of {wrong[0]}", _CURE)
    present = sums(folder, _files(folder))
    for name in sorted({*present, *found["files"]}):
        if present.get(name) != found["files"].get(name):
            kind = "changed" if name in present and name in found["files"] else "added or removed"
            raise InputError(folder / name, f"was {kind} after it was submitted", _CURE)
    _require_name(found["method"], path)
    outcomes = by_clip(of_method(folder), benchmark, folder)
    videos = check_results(outcomes, benchmark, tasks)
    return Submission(folder, found["method"], found["description"], videos)


def _require_name(method: str, where: object) -> None:
    if not _NAME.fullmatch(method) or not method.strip():
        raise ConfigError(where, f"no name for a method: {method[:80]!r}", "give up to 80 letters")
    if is_floor(method):
        raise ConfigError(where, f"{method!r} is the name of a floor", "choose another name")


def _files(folder: Path) -> list[Path]:
    """Every file of a submission but its seal; links are refused."""
    found = sorted(folder.rglob("*"))
    if links := [path for path in found if path.is_symlink()]:
        raise InputError(links[0], "is a link", "put the file itself there")
    return [path for path in found if path.is_file() and path != folder / SUBMISSION]


def check_sources(benchmark: Benchmark) -> dict[str, str]:
    """The sha256 of every source, from its files.

    Raises:
        InputError: one is not that of the benchmark.
    """
    for entry in benchmark.entries:
        video = benchmark.source(entry)
        total = hashlib.sha256()
        for index in range(len(video)):
            total.update(pixels(video[index]))
        if total.hexdigest() != entry.sha256:
            where = benchmark.folder / CLIPS / entry.name
            raise InputError(where, "was changed: it is not the source", "take a fresh copy")
    return {entry.name: entry.sha256 for entry in benchmark.entries}


def by_clip(outcomes: Sequence[Outcome], benchmark: Benchmark, folder: Path) -> dict[str, Outcome]:
    """One result for each clip of the benchmark.

    Raises:
        InputError: one is missing, unknown or there twice.
    """
    known = [entry.name for entry in benchmark.entries]
    found: dict[str, Outcome] = {}
    for outcome in outcomes:
        name = outcome.clip or (known[0] if len(known) == 1 else outcome.path.parent.name)
        if name not in known:
            raise InputError(outcome.path, "is of no clip of the benchmark", "take it away")
        if name in found:
            cure = "give one result for each clip, of one seed"
            raise InputError(outcome.path, f"is a second result for {name}", cure)
        found[name] = outcome
    if missing := [name for name in known if name not in found]:
        problem = f"lacks {len(missing)} of {len(known)} clips ({', '.join(missing[:3])})"
        raise InputError(folder, problem, "give one result for each clip")
    return {name: found[name] for name in known}


def check_results(
    outcomes: Mapping[str, Outcome], benchmark: Benchmark, tasks: Mapping[str, EditTask]
) -> dict[str, Video]:
    """The videos of a method, by clip.

    Raises:
        InputError: one has another length, size or rate; two are the same; or clips are swapped.
    """
    videos: dict[str, Video] = {}
    seen: dict[str, str] = {}
    for entry in benchmark.entries:
        outcome = outcomes[entry.name]
        video = outcome.open(benchmark.source(entry))
        _check(outcome.path, video, entry)
        content = sha256_of(*(pixels(video[index]) for index in range(len(video))))
        other = seen.setdefault(content, entry.name)
        if other != entry.name:
            cure = "give each clip its own result"
            raise InputError(outcome.path, f"is the same video as that of {other}", cure)
        videos[entry.name] = video
    for group in swapped(videos, tasks):
        problem = f"clips are swapped: each is much nearer to the truth of another ({group})"
        raise InputError(outcomes[group[0]].path.parent, problem, "put each under its own name")
    return videos


def _check(path: Path, video: Video, entry: BenchmarkClip) -> None:
    if len(video) != entry.frames:
        problem = f"has {len(video)} frames, the source has {entry.frames}"
        raise InputError(path, problem, "give as many")
    height, width = video.size
    if (height, width) != (entry.size, entry.size):
        problem = f"is {width}x{height}, the source is {entry.size}x{entry.size}"
        raise InputError(path, problem, "give the size of the source")
    times = [float(time - video.timestamps[0]) for time in video.timestamps]
    if any(abs(time - index / RATE) > _SECOND for index, time in enumerate(times)):
        rate = (len(times) - 1) / times[-1]
        problem = f"is not at {RATE} frames per second, received {rate:.5g}"
        raise InputError(path, problem, "give the times of the source")


def swapped(videos: Mapping[str, Video], tasks: Mapping[str, EditTask]) -> list[list[str]]:
    """Groups of clips whose results belong to each other.

    Results are assigned to true translations so that the squared error, of frames of 32 x 32
    pixels, is least. Where that is not each one's own, the clips are swapped if less than half of
    the error is left and the outlines are more like those of the other sources than of their own.
    One of the two alone happens to poor methods: a result that is the source may be nearer to
    another truth, but its outlines are its own.

    Args:
        videos: results by clip.
        tasks: tasks whose truth is known; others are not looked at.
    """
    known = [name for name in videos if name in tasks]
    if len(known) < 2:
        return []
    results = [_small(videos[name]) for name in known]
    truths, sources = zip(*(_expected(tasks[name]) for name in known), strict=True)
    vectors = torch.stack([result.flatten() for result in results])
    cost: NDArray[np.float64] = torch.cdist(vectors, torch.stack(truths)).numpy() ** 2
    alike = (torch.stack([_outlines(each) for each in results]) @ torch.stack(sources).T).numpy()
    _, assigned = linear_sum_assignment(cost)
    groups, seen = [], set()
    for first in range(len(known)):
        cycle, place = [], first
        while place not in seen:
            seen.add(place)
            cycle.append(place)
            place = int(assigned[place])
        other = [(place, int(assigned[place])) for place in cycle]
        own = [(place, place) for place in cycle]
        closer = _over(cost, other) < _CLOSER * _over(cost, own)
        if len(cycle) > 1 and closer and _over(alike, other) > _over(alike, own):
            groups.append([known[place] for place in cycle])
    return groups


def _over(table: NDArray[np.float64], pairs: Sequence[tuple[int, int]]) -> float:
    return float(sum(table[pair] for pair in pairs))


@cache
def _expected(task: EditTask) -> tuple[Tensor, Tensor]:
    """The true translation of a task as one vector, and the outlines of its source; the same for
    every submission."""
    clip = task.clip()
    truth = references.translation(clip)
    assert truth is not None, clip.prompt
    return _small(truth).flatten(), _outlines(_small(clip.video))


def _small(video: Video) -> Tensor:
    """All frames, ``[T,3,32,32]``."""
    frames = [resize(video[index], (_SMALL, _SMALL)) for index in range(len(video))]
    return torch.stack(frames).double()


def _outlines(frames: Tensor) -> Tensor:
    """Length of the brightness gradient of ``[T,3,h,w]``, a little blurred, as one vector of mean 0
    and length 1: products of two are their correlation."""
    grey = frames.mean(1, keepdim=True)
    right, down = grey.diff(dim=3), grey.diff(dim=2)
    steep = (F.pad(right, (0, 1)).square() + F.pad(down, (0, 0, 0, 1)).square()).sqrt()
    vector = F.avg_pool2d(steep, 3, 1, 1).flatten()
    vector = vector - vector.mean()
    unit: Tensor = vector / vector.norm().clamp_min(1e-12)
    return unit
