"""Self-attention maps of the source, kept where no word is edited (FateZero, arXiv 2303.09535)."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import Annotated, ClassVar

import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor

from rerender.constraint._stored_maps import Keep, StoredMaps
from rerender.constraint._words import given_up
from rerender.contracts import (
    AttentionMapEdit,
    Edits,
    InversionEdits,
    JointConstraint,
    JointEdits,
    Model,
)
from rerender.errors import ConfigError
from rerender.scene import Layer, Shot


@dataclass(frozen=True, kw_only=True)
class SelfMaps(JointConstraint):
    """The layout of the inversion's self-attention takes the place of the editing's, except where
    a word was seen that the prompt gives up (FateZero, section 3.3, attention map blending).

    Attributes:
        threshold: a cell belongs to such a word if the word's cross-attention map, averaged over
            heads and layers of the step and divided by its maximum, exceeds this (the paper's tau).
        max_query_tokens: layers with more are left alone: their maps would be too large.
        keep: where the maps wait, in main "memory" or on "disk".
    """

    threshold: Annotated[float, Field(ge=0, le=1)] = 0.3
    max_query_tokens: Annotated[int, Field(ge=1)] = 1024
    keep: Keep = "memory"

    needs_source: ClassVar[bool] = True
    replaces_attention: ClassVar[bool] = True

    def bind(self, shot: Shot, model: Model) -> Sequence[JointEdits]:
        source, target = model.token_ids(shot.clip.source_prompt), model.token_ids(shot.clip.prompt)
        height, width = (side // model.vae_scale_factor for side in shot.clip.video.size)
        memory = _Memory(self, given_up(source, target), (height, width))
        return [
            JointEdits(
                Edits(maps=partial(memory.blending, ordinal)),
                inversion=InversionEdits(maps=partial(memory.recording, ordinal)),
            )
            for ordinal in range(len(shot))
        ]


class _Memory:
    """The maps of one shot.

    Args:
        settings: the constraint.
        words: places in the source prompt of the words that are given up.
        size: (height, width) of the latents.
    """

    def __init__(self, settings: SelfMaps, words: Sequence[int], size: tuple[int, int]) -> None:
        self.settings, self.words, self.size = settings, list(words), size
        self.stored = StoredMaps(settings.keep)
        self.seen: dict[tuple[int, int], dict[str, Tensor]] = {}

    def recording(self, ordinal: int, step: int) -> AttentionMapEdit:
        """Keep the self-attention maps of a step of the inversion, and where the words were."""

        def wants(layer: Layer, cells: int) -> bool:
            return cells <= self.settings.max_query_tokens and (not layer.cross or bool(self.words))

        def edit(layer: Layer, maps: Tensor) -> Tensor:
            if layer.cross:
                found = maps[-1][..., self.words].detach().sum(-1).mean(0)
                self.seen.setdefault((ordinal, step), {})[layer.name] = found
            else:
                self.stored.put((ordinal, step, layer.name), maps[-1])
            return maps

        return AttentionMapEdit(wants, edit)

    def blending(self, ordinal: int, step: int) -> AttentionMapEdit:
        """Give the positive branch the kept maps, its own ones where the words were."""

        def wants(layer: Layer, cells: int) -> bool:
            return cells <= self.settings.max_query_tokens and not layer.cross

        def edit(layer: Layer, maps: Tensor) -> Tensor:
            kept = self.stored.get((ordinal, step, layer.name), maps)
            _same(kept, maps)
            mask = self.mask(ordinal, step, maps.shape[-2]).to(maps)[:, None]
            return torch.cat([maps[:-1], (mask * maps[-1] + (1 - mask) * kept)[None]])

        return AttentionMapEdit(wants, edit)

    def mask(self, ordinal: int, step: int, cells: int) -> Tensor:
        """1 for the query tokens ``[N]`` where an edited word was seen, else 0."""
        seen = self.seen.get((ordinal, step))
        if not seen:
            return torch.zeros(cells)
        finest = self.grid(max(found.numel() for found in seen.values()))
        maps = [found.view(1, 1, *self.grid(found.numel())) for found in seen.values()]
        resized = [F.interpolate(m, finest, mode="bilinear", align_corners=False) for m in maps]
        total = torch.cat(resized).mean(0, keepdim=True)
        hard = (total > self.settings.threshold * total.max()).float()
        return F.adaptive_max_pool2d(hard, self.grid(cells)).flatten()

    def grid(self, cells: int) -> tuple[int, int]:
        """(rows, columns) of a layer with so many query tokens."""
        height, width = self.size
        step = math.sqrt(height * width / cells)
        return round(height / step), round(width / step)


def _same(kept: Tensor, maps: Tensor) -> None:
    """Refuse maps over other keys.

    Raises:
        ConfigError: the inversion attended to other key frames than the editing does.
    """
    if kept.shape[-1] != maps.shape[-1]:
        raise ConfigError(
            "constraint.self_maps",
            f"the inversion attended to {kept.shape[-1]} tokens, the editing to {maps.shape[-1]}",
            "let other constraints act alike in both: constraint.spatio_temporal.inversion=true",
        )
