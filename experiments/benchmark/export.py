"""The benchmark as files that any program reads: pictures, csv, JSON, Middlebury flow."""

from __future__ import annotations

import csv
import io
import secrets
from pathlib import Path

from experiments.benchmark import flo, protocol
from experiments.benchmark.manifest import (
    CLIPS,
    MANIFEST,
    PROMPTS,
    README,
    Benchmark,
    BenchmarkClip,
    BenchmarkKey,
    read_key,
)
from experiments.benchmark.tasks import EditTask, hidden, public
from experiments.escape import csv_cell
from rerender import files
from rerender.demo.world import HELD_OUT
from rerender.errors import ConfigError
from rerender.run_folder import read_json
from rerender.scene import Watch

TRUTH, MASKS, LAYERS, FLOW = "truth", "masks", "layers", "flow"


def export(
    folder: Path,
    key_path: Path,
    count: int,
    hidden_count: int,
    frames: int,
    size: int,
    watch: Watch | None = None,
) -> Benchmark:
    """Write a benchmark; with the same key the same files again.

    Args:
        folder: where it goes, to be published as it is.
        key_path: file of the organiser's key, outside of it: read where it is there, else made.
        count: public clips, whose truth goes with them.
        hidden_count: hidden clips, of which sources and prompts alone go.
        frames, size: length of every clip, and side of its square frames in pixels.
        watch: told of the progress under the stage "export".

    Raises:
        ConfigError: a number out of range, the key would lie in the folder, or another benchmark
            does.
        InputError: the key is none.
    """
    _require(folder, key_path, count, hidden_count, frames, size)
    key = _key(key_path, hidden_count, frames, size)
    tasks = public(count, frames, size)
    entries = [BenchmarkClip.of(task) for task in tasks]
    entries += [BenchmarkClip.of(task, key.nonces[name]) for name, task in key.tasks.items()]
    benchmark = Benchmark(folder, tuple(entries))
    if (folder / MANIFEST).is_file() and read_json(folder / MANIFEST).get("id") != benchmark.id:
        raise ConfigError(folder, "another benchmark is here", "choose another folder")
    if hidden_count:
        files.put_json(key_path, key.facts(benchmark))
    every = [*tasks, *key.tasks.values()]
    for number, task in enumerate(every):
        _put_source(folder, task)
        if number < len(tasks):
            _put_truth(folder, task)
        (watch or Watch()).advance("export", number + 1, len(every), task.name)
    files.put(folder / PROMPTS, _prompts(entries).encode())
    files.put(folder / README, protocol.text(benchmark).encode())
    files.put_json(folder / MANIFEST, benchmark.facts())
    return benchmark


def _require(
    folder: Path, key_path: Path, count: int, hidden_count: int, frames: int, size: int
) -> None:
    ranges = {
        "--public": (count, 1, 500),
        "--hidden": (hidden_count, 0, 500),
        "--frames": (frames, 2, 999),
        "--size": (size, 32, 1024),
    }
    for name, (value, least, most) in ranges.items():
        if not least <= value <= most:
            raise ConfigError(name, f"must be {least} to {most}, received {value}", "change it")
    if size % 8:
        raise ConfigError("--size", f"must be a multiple of 8, received {size}", "try 128")
    for name in (CLIPS, TRUTH, MASKS, LAYERS, FLOW):
        files.unlinked(folder, folder / name)
    if key_path.resolve().is_relative_to(folder.resolve()):
        raise ConfigError("--key", "would be published with the benchmark", "put it elsewhere")


def _key(path: Path, count: int, frames: int, size: int) -> BenchmarkKey:
    """The key that is there, or a new one whose seeds nobody can guess."""
    if path.is_file():
        key = read_key(path)
        found = {(task.frames, task.size) for task in key.tasks.values()}
        if len(key.tasks) != count or found - {(frames, size)}:
            problem = "is of a benchmark with other hidden clips"
            raise ConfigError(path, problem, "move it away, or ask for the same numbers")
        return key
    seeds = [HELD_OUT + secrets.randbelow(2**62) for _ in range(count)]
    tasks = {task.name: task for task in hidden(seeds, frames, size)}
    return BenchmarkKey(tasks, {name: secrets.token_hex(16) for name in tasks})


def _put_source(folder: Path, task: EditTask) -> None:
    world = task.world
    for index in range(task.frames):
        place = folder / CLIPS / task.name / f"{index:06d}.png"
        files.put(place, files.png(world.frame(index)))


def _put_truth(folder: Path, task: EditTask) -> None:
    """True translation, masks, layers, and the flow between neighbours in both directions."""
    world, truth = task.world, task.clip().truth
    assert truth is not None
    for index in range(task.frames):
        name = f"{task.name}/{index:06d}"
        image = truth.translation(index)
        assert image is not None
        files.put(folder / TRUTH / f"{name}.png", files.png(image))
        files.put(folder / MASKS / f"{name}.png", files.png(task.editable(index)))
        files.put(folder / LAYERS / f"{name}.png", files.png(world.layers(index)[None]))
        for direction, other in (("backward", index - 1), ("forward", index + 1)):
            if 0 <= other < task.frames:
                flow = world.flow(index, other)
                place = folder / FLOW / task.name / f"{direction}-{index:06d}"
                files.put(place.with_suffix(".flo"), flo.dump(flow.offset))
                files.put(place.with_suffix(".png"), files.png(flow.occluded[0]))


def _prompts(entries: list[BenchmarkClip]) -> str:
    """The table that ``data=folder data.prompts=…`` reads."""
    out = io.StringIO()
    writer = csv.writer(out)
    writer.writerow(["name", "prompt", "source_prompt"])
    for entry in entries:
        writer.writerow([csv_cell(entry.name), entry.prompt, entry.source_prompt])
    return out.getvalue()
