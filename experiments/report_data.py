"""What a results folder holds, collected for the report page."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from eval import references, score_files, stats
from eval.metrics.weights import digest
from eval.references import SOURCE, TRUTH
from eval.results import Outcome, discover
from eval.runs.sources import Sources
from eval.score_files import Score
from experiments.costs import SECONDS, costs
from experiments.credits import credits
from experiments.drift import drifts
from experiments.experiment import Experiment, read, unfinished
from experiments.media import Media
from experiments.repro_command import command
from rerender.errors import InputError, RerenderError
from rerender.exits import failure
from rerender.files import children
from rerender.run_folder import CONFIG, known_score_file, read_facts
from rerender.video import Clip, Video

_COMMANDS = 60  # runs for which the command is worked out


@dataclass
class Study:
    """Everything that the page shows.

    Attributes:
        scores: rows of the score file.
        costs: what runs took, as rows for the table.
        drifts: how fast results change along their clips, as rows for the table.
        credits: whose clips they are.
        clips: for the script: name, prompt, times, end.
        entries: for the script: one finished video each.
        runs: name, command, configuration and warnings of each run.
        failed: name and reason of what has no video.
        seconds: method -> seconds per frame, where runs say so.
    """

    scores: list[Score]
    costs: list[Score] = field(default_factory=list)
    drifts: list[Score] = field(default_factory=list)
    credits: list[str] = field(default_factory=list)
    clips: list[dict[str, Any]] = field(default_factory=list)
    entries: list[dict[str, Any]] = field(default_factory=list)
    runs: list[dict[str, Any]] = field(default_factory=list)
    failed: list[dict[str, str]] = field(default_factory=list)
    seconds: dict[str, float] = field(default_factory=dict)


def gather(root: Path, media: Media, tree: Mapping[str, Any] | None = None) -> Study:
    """Collect a results folder; runs that are missing or broken are listed, never raised.

    Args:
        root: the results folder.
        media: where the page's files go.
        tree: configuration that says what the clips are; None for the runs' own.

    Raises:
        InputError, ConfigError: what it says of its experiment is damaged or refused.
    """
    scores = score_files.read(known_score_file(root))
    study = Study(scores, costs(root), drifts(scores, root), credits(root))
    study.failed += [{"name": n, "reason": why} for n, why in unfinished(root).items()]
    outcomes = _found(root, study)
    sources = Sources(tree, outcomes)
    for _, clip in sources.every():
        _add_floors(study, media, clip)
    for outcome in outcomes:
        try:
            outcome.check()
            _add_outcome(study, media, outcome, _clip_of(sources, outcome))
        except (RerenderError, FileNotFoundError) as error:  # its run may be made again meanwhile
            reason = failure(error).message
            study.failed.append({"name": _title(outcome), "reason": reason})
    about = read(root)
    # The first ones are shown at once: rather every method than every seed of the first method.
    study.entries.sort(
        key=lambda e: (
            not e["floor"],
            -1 if e["seed"] is None else e["seed"],
            about.place(e["method"]),
        )
    )
    _label(study.entries, about)
    _describe(study, outcomes)
    return study


def _found(root: Path, study: Study) -> list[Outcome]:
    try:
        return discover(root)
    except InputError as error:
        study.failed.append({"name": root.name, "reason": str(error)})
        return []


def _add_floors(study: Study, media: Media, clip: Clip) -> None:
    study.clips.append(_clip(clip.name, clip.prompt, clip.video))
    made = ((SOURCE, references.source(clip)), (TRUTH, references.translation(clip)))
    for name, video in made:
        if video is not None:
            key = f"{name} {clip.name} {clip.prompt} {len(video)} {video.size} {_print(video)}"
            study.entries.append(_entry(study, media, (name, clip.name, None), video, [], key))


def _print(video: Video) -> str:
    """A mark of a video's content: its first, middle and last frame."""
    marks = [video[i].double().sum().item() for i in (0, len(video) // 2, len(video) - 1)]
    return json.dumps(marks)


def _clip_of(sources: Sources, outcome: Outcome) -> Clip | None:
    """The clip an outcome was made of; None where that is not known any more."""
    try:
        return sources.find(outcome)[1]
    except RerenderError:
        return None


def _add_outcome(study: Study, media: Media, outcome: Outcome, clip: Clip | None) -> None:
    files = outcome.files()
    video = outcome.open(clip.video) if clip is not None else outcome.alone()
    name = clip.name if clip is not None else outcome.clip or outcome.path.parent.name
    if all(known["name"] != name for known in study.clips):
        study.clips.append(_clip(name, "", video))
    key = " ".join(digest(file) for file in files)
    who = (outcome.method, name, outcome.seed)
    entry = _entry(study, media, who, video, files, key)
    study.entries.append({**entry, "maps": _maps(outcome, media)})


def _entry(
    study: Study,
    media: Media,
    who: tuple[str, str, int | None],
    video: Video,
    files: Sequence[Path],
    key: str,
) -> dict[str, Any]:
    method, clip, seed = who
    strip, sheet = media.looks(video, key)
    return {
        "method": method,
        "clip": clip,
        "seed": seed,
        "floor": method in (SOURCE, TRUTH),
        "file": media.film(video, files, key),
        "slice": strip,
        "sheet": sheet,
        "small": max(video.size) < 320,
        "curves": {
            row.metric: list(row.curve)
            for row in study.scores
            if (row.method, row.clip, row.seed) == who and any(v is not None for v in row.curve)
        },
        "maps": {},
    }


def _maps(outcome: Outcome, media: Media) -> dict[str, list[tuple[int, str]]]:
    """Pictures that a run kept beside its video: name -> (frame, address)."""
    if outcome.config is None:
        return {}
    found = {}
    for folder in children(outcome.path.parent):
        kept = [file for file in children(folder) if file.suffix == ".png"]
        kept = [file for file in kept if file.stem.isdecimal()]
        if kept:
            found[folder.name] = [(int(file.stem), media.picture(file)) for file in kept]
    return found


def _clip(name: str, prompt: str, video: Video) -> dict[str, Any]:
    start = video.timestamps[0]
    times = [round(float(time - start), 6) for time in video.timestamps]
    return {"name": name, "prompt": prompt, "times": times, "end": float(video.end - start)}


def _label(entries: Sequence[dict[str, Any]], about: Experiment) -> None:
    """Names on the page: those of the tables, with the seed where a method has several."""
    seeds = defaultdict(set)
    for entry in entries:
        seeds[entry["method"], entry["clip"]].add(entry["seed"])
    for entry in entries:
        several = len(seeds[entry["method"], entry["clip"]]) > 1
        seed = f", seed {entry['seed']}" if several else ""
        entry["label"] = f"{about.printed(entry['method'])}{seed}"


def _describe(study: Study, outcomes: Sequence[Outcome]) -> None:
    """How each run is repeated, and how long it took."""
    seen = set()
    for outcome in outcomes:
        folder = next((p for p in outcome.path.parents if (p / CONFIG).is_file()), None)
        if outcome.config is None or folder is None or folder in seen:
            continue
        seen.add(folder)
        text = yaml.safe_dump(outcome.config, sort_keys=False, allow_unicode=True)
        name = f"{folder.name} ({outcome.method})" if folder.name != outcome.method else folder.name
        # Composing a configuration takes about half a second, too long for hundreds of runs.
        said = command(outcome.config) if len(study.runs) < _COMMANDS else None
        facts = _facts(folder)
        warnings = [str(warning) for warning in facts.get("warnings", ())]
        study.runs.append({"name": name, "command": said, "config": text, "warnings": warnings})
    timed = [row for row in study.costs if row.metric == SECONDS]
    study.seconds = {s.method: s.mean for s in stats.summarise(timed)}


def _facts(run: Path) -> dict[str, Any]:
    """What a finished run says of itself; nothing where it does not say."""
    with suppress(InputError):
        return read_facts(run)
    return {}


def _title(outcome: Outcome) -> str:
    return " ".join(filter(None, [outcome.method, outcome.clip]))
