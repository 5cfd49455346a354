"""Propagation of attention outputs from pivots (TokenFlow, Geyer et al. 2024, arXiv 2307.10373)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, ClassVar

import torch
from pydantic import Field
from torch import Tensor

from rerender.constraint._source_states import SourceStates
from rerender.constraint._stored_maps import Keep, StoredMaps
from rerender.constraint._takeover import beside, nearest, taken_over
from rerender.contracts import (
    Features,
    HiddenStates,
    InversionEdits,
    JointConstraint,
    JointEdits,
    Model,
    SelfAttention,
)
from rerender.scene import DecoderBlock, Layer, Shot

Share = Annotated[float, Field(ge=0, le=1)]


@dataclass(frozen=True, kw_only=True)
class TokenFlow(JointConstraint):
    """In every step one key frame of each group, drawn anew, is a pivot. Pivots attend to all
    pivots (section 4.1); the answer of a self-attention layer for any other key frame i is put
    together from those of the pivots before and after it (eq. 4-5):

        out_i[p] = w out_b[g_b(p)] + (1 - w) out_a[g_a(p)],   w = s(d_a / (d_a + d_b))

    g(p) is the nearest neighbour (cosine) of the source's token p among those of the source's
    pivot, at the same layer and step of its inversion, and d the distance in key frames; s is a
    sigmoid, scaled so that s(0) = 0 and s(1) = 1.

    With shares above 0 the features of plug-and-play diffusion (Tumanyan et al. 2023, arXiv
    2211.12572, section 4) are kept as well: in the first steps one residual block answers as it did
    in the inversion, and pivots attend with the inversion's queries and keys in the decoder.

    Attributes:
        group: key frames in a group; 1 makes every key frame a pivot.
        inject_features: share of the executed steps in which the residual block's output is kept.
        inject_attention: share of the executed steps in which queries and keys are kept.
        keep: where what is kept waits, in main "memory" or on "disk".
    """

    group: Annotated[int, Field(ge=1)] = 4
    inject_features: Share = 0.0
    inject_attention: Share = 0.0
    keep: Keep = "memory"

    needs_source: ClassVar[bool] = True
    replaces_attention: ClassVar[bool] = True

    def pivots(self, shot: Shot, step: int) -> Sequence[int]:
        first = range(0, len(shot), self.group)
        drawn = torch.randint(self.group, (len(first),), generator=shot.random("tokenflow", step))
        # The last group may be short.
        return [min(f + int(d), len(shot) - 1) for f, d in zip(first, drawn, strict=True)]

    def bind(self, shot: Shot, model: Model) -> Sequence[JointEdits]:
        flow = _Propagation(self, shot)
        features = flow.inject if self.inject_features else None
        recording = flow.record if self.inject_features else None
        edits = JointEdits(
            processor=flow.sample,
            features=features,
            inversion=InversionEdits(processor=flow.invert, features=recording),
        )
        return [edits] * len(shot)


class _Propagation:
    """What is remembered of the inversion of a shot, and what is made of it."""

    def __init__(self, settings: TokenFlow, shot: Shot) -> None:
        self.settings, self.shot = settings, shot
        self.neighbours: dict[tuple[str, int, int, int], Tensor] = {}
        self.states = SourceStates(self._injects, settings.keep)
        self.features = StoredMaps(settings.keep)

    def _injects(self, layer: Layer, ordinal: int, step: int) -> bool:
        """Whether a layer's queries and keys are kept: in the decoder, but its first layers."""
        steps = round(self.settings.inject_attention * self.shot.steps)
        return (
            step < steps
            and layer.place == "up"
            and layer.level > 0
            and ordinal in self.settings.pivots(self.shot, step)
        )

    def invert(
        self,
        attention: SelfAttention,
        hidden_states: HiddenStates,
        contexts: HiddenStates,
        step: int,
    ) -> HiddenStates:
        """The inversion's own answers, and notes of which tokens are alike."""
        pivots = self.settings.pivots(self.shot, step)
        for ordinal, own in hidden_states.items():
            if ordinal in pivots:
                continue
            for pivot, _ in beside(ordinal, pivots):
                found = nearest(own[-1], hidden_states[pivot][-1])
                self.neighbours[attention.layer.name, step, ordinal, pivot] = found.int()
        return self.states.record(attention, hidden_states, contexts, step)

    def sample(
        self,
        attention: SelfAttention,
        hidden_states: HiddenStates,
        contexts: HiddenStates,
        step: int,
    ) -> HiddenStates:
        """Pivots attend to all pivots, the others take over what pivots answered."""
        layer, answers = attention.layer, dict[int, Tensor]()
        pivots = sorted(set(self.settings.pivots(self.shot, step)))
        # Plug-and-play: where things are seen is the source's, what they look like is not.
        look = {
            p: self.states.recall(layer, p, step, hidden_states[p])
            if self._injects(layer, p, step)
            else None
            for p in pivots
        }
        sought = [contexts[p] if (kept := look[p]) is None else kept for p in pivots]
        key = attention.keys(torch.cat(sought, 1))
        value = attention.values(torch.cat([contexts[p] for p in pivots], 1))
        for pivot in pivots:
            kept = look[pivot]
            query = attention.queries(hidden_states[pivot] if kept is None else kept)
            answers[pivot] = attention.project(attention.attend(query, key, value))

        def neighbours(ordinal: int, pivot: int) -> Tensor:
            return self.neighbours[layer.name, step, ordinal, pivot]

        for ordinal in hidden_states:
            if ordinal in answers:
                continue
            answers[ordinal] = taken_over(ordinal, pivots, answers, neighbours)
        return answers

    def record(self, block: DecoderBlock, features: Features, step: int) -> Features:
        """Keep what leaves the residual block in the inversion."""
        if self._keeps(block, step):
            for ordinal, own in features.items():
                self.features.put((ordinal, step), own[-1:])
        return features

    def inject(self, block: DecoderBlock, features: Features, step: int) -> Features:
        """What leaves it in the editing is what left it in the inversion."""
        if not self._keeps(block, step):
            return features
        return {
            ordinal: self.features.get((ordinal, step), own).expand_as(own)
            for ordinal, own in features.items()
        }

    def _keeps(self, block: DecoderBlock, step: int) -> bool:
        """The second residual block of the second decoder block (the paper's layer 4)."""
        steps = round(self.settings.inject_features * self.shot.steps)
        return step < steps and (block.level, block.resnet) == (1, 1)
