"""The clips of a study, what was made of them, and the videos that people are shown."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from eval.metrics.weights import digest
from eval.references import Made
from eval.results import Outcome, discover
from eval.runs.sources import Sources
from experiments.media import Media
from experiments.study.bradley_terry import connected
from rerender.errors import ConfigError, InputError, RerenderError
from rerender.fitting import resize
from rerender.video import Video

log = logging.getLogger(__name__)

_BLOCK = 12  # blocks along the short side of a damaged video


@dataclass
class Material:
    """The clips of a study and what was made of them.

    Attributes:
        methods: names, in order.
        clips: name and prompt of each clip.
        sources: the source of each clip, which sets size and times; the first result where the
            source is not known.
        known: whether that is the source.
        found: ``found[clip][method]``: the result.
    """

    methods: list[str] = field(default_factory=list)
    clips: list[dict[str, str]] = field(default_factory=list)
    sources: list[Video] = field(default_factory=list)
    known: list[bool] = field(default_factory=list)
    found: list[dict[str, Outcome]] = field(default_factory=list)

    def shown(self) -> list[list[bool]]:
        """``[clip][method]``, whether there is such a video."""
        return [[method in made for method in self.methods] for made in self.found]


@dataclass(frozen=True)
class Beginning(Made):
    """The first ``frames`` frames of a video that is `Made`."""

    frames: int

    @property
    def timestamps(self) -> Sequence[Fraction]:
        return self.like.timestamps[: self.frames]

    @property
    def end(self) -> Fraction:
        whole = self.frames == len(self.like)
        return self.like.end if whole else self.like.timestamps[self.frames]


def gather(
    root: Path, methods: Sequence[str] = (), tree: Mapping[str, Any] | None = None
) -> Material:
    """Clips and results of a folder, of each method and clip the result of the lowest seed.

    Raises:
        InputError: there is nothing to compare, or a result is damaged.
        ConfigError: an unknown method is named.
    """
    outcomes = discover(root)
    sources = Sources(tree, outcomes)
    names = sorted({outcome.method for outcome in outcomes})
    unknown = [name for name in methods if name not in names]
    if unknown:
        raise ConfigError("--methods", f"no method {unknown[0]!r}", f"there are {', '.join(names)}")
    material = Material(sorted(set(methods)) or names)
    numbers: dict[str, int] = {}
    for outcome in sorted(outcomes, key=lambda o: (o.method, -1 if o.seed is None else o.seed)):
        if outcome.method not in material.methods:
            continue
        outcome.check()
        try:
            clip = sources.find(outcome)[1]
            name, prompt, video, known = clip.name, clip.prompt, clip.video, True
        except RerenderError:
            name, prompt, video, known = outcome.clip or root.name, "", outcome.alone(), False
        if name not in numbers:
            numbers[name] = len(material.clips)
            material.clips.append({"name": name, "prompt": prompt})
            material.sources.append(video)
            material.known.append(known)
            material.found.append({})
        material.found[numbers[name]].setdefault(outcome.method, outcome)
    _require_comparable(root, material)
    return material


def _require_comparable(root: Path, material: Material) -> None:
    counts = np.array(material.shown() or [[False]], float)
    if len(material.methods) < 2 or not connected(counts.T @ counts):
        said = ", ".join(material.methods) or "none"
        problem = f"holds no two methods that are connected by clips which both made ({said})"
        raise InputError(root, problem, "lay out results as METHOD/CLIP.mp4, at least two methods")


def encode_all(
    material: Material,
    checked: set[tuple[int, str]],
    media: Media,
    secret: str,
    with_source: bool,
) -> dict[tuple[int, str], str]:
    """Encode every video of a study.

    Args:
        material: the clips and what was made of them.
        checked: clips and methods of which there is an attention check.
        media: where the files go.
        secret: part of every name, so that no name tells what it shows.
        with_source: the sources too.

    Returns:
        Addresses by clip and method; "source" for sources and "!METHOD" for the damaged ones of
        attention checks.
    """
    films = {}
    for number, (clip, source) in enumerate(zip(material.clips, material.sources, strict=True)):
        opened = {name: outcome.open(source) for name, outcome in material.found[number].items()}
        frames = min(len(source), *(len(video) for video in opened.values()))
        for name, video in {"source": source, **opened}.items():
            if len(video) > frames:
                log.warning(
                    "%s of %s: %d of its %d frames are shown, which all have",
                    name, clip["name"], frames, len(video),
                )  # fmt: skip
        for name, video in opened.items():
            content = [digest(file) for file in material.found[number][name].files()]
            for mark, made in (("", _fitted(video, source)), ("!", _damaged(video, source))):
                if mark and (number, name) not in checked:
                    continue
                key = f"{secret} {frames} {mark}{source.size} {source.timestamps} {content}"
                film = Beginning(source, made, frames)
                films[number, f"{mark}{name}"] = media.film(film, (), key)
        if with_source and material.known[number]:
            film = Beginning(source, source.__getitem__, frames)
            films[number, "source"] = media.film(film, (), f"{secret} source {source.digest()}")
    return films


def _fitted(video: Video, source: Video) -> Any:
    """Frames of a result at the size of its source."""
    return lambda index: resize(video[index], source.size).clamp(0, 1)


def _damaged(video: Video, source: Video) -> Any:
    """Frames in coarse blocks whose brightness jumps: worse under every question."""
    height, width = source.size
    block = max(1, min(height, width) // _BLOCK)

    def make(index: int) -> Tensor:
        image = resize(video[index], source.size)[None]
        small = F.adaptive_avg_pool2d(image, (max(1, height // block), max(1, width // block)))
        gain = 0.45 if index % 2 else 1.3
        return (F.interpolate(small, (height, width))[0] * gain).clamp(0, 1).to(torch.float32)

    return make
