"""What results cost: seconds for each frame and peak memory, as rows beside the scores."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any

from eval.results import Outcome, discover
from eval.score_files import Score
from rerender.errors import InputError
from rerender.run_folder import CONFIG, read_facts

SECONDS = "seconds_per_frame"
log = logging.getLogger(__name__)


def costs(root: Path) -> list[Score]:
    """A row for each clip of each run of ours that says what it took.

    ``seconds_per_frame`` is what computing translation, propagation and encoding took when they
    were made, spread over all frames of the clip: seconds of the processor over all threads, or of
    the accelerator where one computes, without loading, compiling and scoring. ``peak_memory`` is
    the most memory held meanwhile, of the GPU where one computes, else of the process with all it
    has loaded.
    """
    rows = []
    for outcome, folder in runs(root):
        for clip in _clips(folder):
            rows += list(_rows(clip, outcome.method, outcome.seed))
    return rows


def runs(root: Path) -> Iterator[tuple[Outcome, Path]]:
    """Each run of ours below a folder of results, once: one of its results, and its folder."""
    seen = set()
    with suppress(InputError):
        for outcome in discover(root):
            folder = next((p for p in outcome.path.parents if (p / CONFIG).is_file()), None)
            if outcome.config is None or folder is None or folder in seen:
                continue
            seen.add(folder)
            yield outcome, folder


def _clips(folder: Path) -> list[Mapping[str, Any]]:
    """What a finished run says of its clips; one that does not say is named and left out."""
    try:
        found = read_facts(folder)["clips"]
    except InputError as error:
        log.warning("%s: %s; its costs are left out", error.where, error.problem)
        return []
    return [clip for clip in found if clip["frames"] and clip["clip"]]


def _rows(clip: Mapping[str, Any], method: str, seed: int | None) -> Iterator[Score]:
    frames, name = int(clip["frames"]), str(clip["clip"])
    kind, source = (str(clip.get(key) or "") for key in ("kind", "source_clip"))
    row = partial(Score, name, method, seed, kind=kind, source_clip=source)
    spent = clip.get("seconds")
    if isinstance(spent, Mapping):
        seconds = sum(float(each) for each in spent.values()) / frames
        yield row(SECONDS, "1", seconds, frames, unit="s")
    if clip.get("peak_memory") is not None:
        most = float(clip["peak_memory"])
        yield row("peak_memory", "1", most, frames, unit="MiB")
