"""Anchor's style kept: whether later frames look like the first key frame, as CLIP sees it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal

import torch
from torch import Tensor

from eval.contracts import Batch, Curve, Gauge, Trial
from eval.metrics.clip import ClipMetric, Judge, numbers
from rerender.demo.captions import STYLES
from rerender.errors import ConfigError
from rerender.kinds import Word


@dataclass(frozen=True, kw_only=True)
class AnchorStyle(ClipMetric):
    """Whether a result's frames keep the style of its anchor, its first frame.

    ``share``: the share of later frames whose style is the anchor's, 0..1. The style of a frame is
    ``argmax_s cos(I(y_t), T(source prompt, s))`` over the named styles ``s`` (zero-shot
    classification, Radford et al. 2021), with ``T(s)`` alone where the clip has no source prompt.

    ``cosine``: the mean cosine ``cos(I(y_t), I(y_0))`` of a later frame and the anchor, -1..1. It
    sees more than style: content that comes or goes lowers it too, in the source as well.

    The first frame is undefined. On clips of key frames alone (``data.every``) every frame is a key
    frame; on whole videos the frames between them count too.

    Attributes:
        measure: "share" or "cosine".
        styles: words to choose from, at least two; "cosine" does not look at them.

    Raises:
        ConfigError: another measure, or fewer than two styles, or one twice.
    """

    version: ClassVar[str] = "1"
    direction: ClassVar[Literal["lower", "higher"]] = "higher"

    measure: Literal["share", "cosine"] = "share"
    styles: tuple[Word, ...] = STYLES

    def __post_init__(self) -> None:
        if self.measure not in ("share", "cosine"):
            problem = f"must be share or cosine, received {self.measure!r}"
            raise ConfigError("metrics.anchor_style.measure", problem, "name one of the two")
        if len(self.styles) < 2 or len(set(self.styles)) < len(self.styles):
            problem = f"needs two or more, each once, received {list(self.styles)}"
            raise ConfigError("metrics.anchor_style.styles", problem, "correct the list")

    @property
    def name(self) -> str:
        """anchor_style or anchor_cosine, with _demo where the demo CLIP is the judge."""
        name = super().name
        return name.replace("style", "cosine") if self.measure == "cosine" else name

    def gauge(self, judge: Judge, trial: Trial) -> Gauge:
        names = [", ".join(filter(None, [trial.clip.source_prompt, s])) for s in self.styles]
        texts = judge.texts(names) if self.measure == "share" else None
        anchor: list[Tensor] = []

        def alike(seen: Tensor) -> Tensor:
            if texts is None:
                return seen.double() @ anchor[0].double()
            return ((seen @ texts.T).argmax(1) == (anchor[0] @ texts.T).argmax()).double()

        def gauge(batch: Batch) -> Curve:
            seen = self.results(judge, batch)
            anchor[:] = anchor or [seen[0]]  # the first batch begins with the first frame
            first = batch.first.index
            curve = numbers(torch.atleast_1d(alike(seen)))
            pairs = zip(batch.moments, curve, strict=True)
            return [None if moment.index == first else value for moment, value in pairs]

        return gauge
