"""Correspondences of the source, within and between frames (FRESCO, Yang et al. 2024, arXiv
2403.12962)."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Annotated, ClassVar

import torch
from pydantic import Field
from torch import Tensor

from rerender.constraint._correspondence import (
    Pair,
    optimised,
    similarities,
    with_statistics_of,
)
from rerender.constraint._decoded import change
from rerender.constraint._saliency import background
from rerender.constraint._takeover import nearest, taken_over
from rerender.constraint._trajectories import (
    attend_along,
    grid_of,
    hidden_cells,
    resized_flow,
    trajectories,
)
from rerender.contracts import (
    Features,
    HiddenStates,
    JointAttention,
    JointConstraint,
    JointEdits,
    Model,
    NoiseRequest,
    SelfAttention,
)
from rerender.scene import DecoderBlock, Layer, Shot

Share = Annotated[float, Field(ge=0, le=1)]


@dataclass(frozen=True, kw_only=True)
class Fresco(JointConstraint):
    """Key frames of a batch are tied by what corresponds in the source: within a frame (which
    regions are alike) and between frames (optical flow).

    Attention (section 4.2), in all decoder layers but the coarsest: queries are averaged over the
    cells that are alike in the source; keys and values are those of the batch's first key frame
    and of what is occluded from each one to the next; answers are averaged along the motion:

        q'  = softmax(s q_s k_s^T / sqrt(d)) q            (q_s, k_s: the source, no noise)
        o   = softmax(q' k_all^T / sqrt(d)) v_all
        out = softmax(s q k_path^T / sqrt(d)) o_path

    Features (section 4.1): what enters each decoder block is moved, by Adam, to where it agrees
    with itself along the flow and with the source's self-similarity (`_correspondence`), and gets
    its statistics back. Background: in a few late steps what is not salient is taken from the key
    frame before, along the flow.

    Attributes:
        batch: key frames in a batch; further batches also hold the first key frame and the last
            one of the batch before.
        group: key frames for each one that all this acts on, others in turn from step to step; the
            rest take over its attention outputs as in TokenFlow (the mixed synthesis of its
            successor, arXiv 2512.03905). 1 acts on all.
        softness: factor s of the logits.
        along_motion: share of the executed steps with averages along the motion.
        optimise: share of the executed steps in which features are optimised.
        iterations: of the optimisation; 0 leaves attention alone to act.
        rate: its learning rate, in standard deviations of the features.
        spatial_weight: weight of the source's self-similarity.
        smooth_start, smooth_stop: shares of the executed steps between which the background is
            smoothed; equal ones switch it off.
    """

    batch: Annotated[int, Field(ge=3)] = 8
    group: Annotated[int, Field(ge=1)] = 1
    softness: Annotated[float, Field(gt=0, le=10)] = 0.2
    along_motion: Share = 0.65
    optimise: Share = 0.75
    iterations: Annotated[int, Field(ge=0, le=1000)] = 20
    rate: Annotated[float, Field(gt=0, le=10)] = 0.05
    spatial_weight: Annotated[float, Field(ge=0)] = 50.0
    smooth_start: Share = 0.8
    smooth_stop: Share = 0.9

    replaces_attention: ClassVar[bool] = True

    def pivots(self, shot: Shot, step: int) -> Sequence[int]:
        return range(step % self.group, len(shot), self.group) or (len(shot) - 1,)

    def batches(self, shot: Shot) -> Sequence[Sequence[int]] | None:
        if self.group > 1:
            return None
        whole = range(len(shot))
        found = [[*whole[: self.batch]]]
        for first in range(self.batch, len(shot), self.batch - 2):
            found.append([0, first - 1, *whole[first : first + self.batch - 2]])
        return found

    def bind(self, shot: Shot, model: Model) -> Sequence[JointEdits]:
        ties = _Ties(self, shot, _Source.of(shot, model), model)
        first, last = (round(s * shot.steps) for s in (self.smooth_start, self.smooth_stop))

        def smooth(step: int, latents: Features) -> Features:
            return ties.smoothed(latents) if first <= step < last else latents

        edits = JointEdits(
            processor=ties.attend,
            features=ties.optimise if self.iterations and self.optimise else None,
            clean_jointly=smooth if first < last else None,
        )
        return [edits] * len(shot)


def acts_on(layer: Layer) -> bool:
    """Whether attention of a layer is changed."""
    return layer.place == "up" and layer.level > 0


class _Source:
    """What the network sees in the source's key frames, nearly free of noise.

    Attributes:
        hidden_states: ``[1,N,C]`` entering a self-attention layer, by its name and the ordinal.
        features: ``[1,C,h,w]`` entering a decoder block, by its name and the ordinal.
    """

    def __init__(self) -> None:
        self.hidden_states: dict[tuple[str, int], Tensor] = {}
        self.features: dict[tuple[str, int], Tensor] = {}

    @classmethod
    def of(cls, shot: Shot, model: Model) -> _Source:
        """One evaluation for each key frame, without ControlNets."""
        found = cls()
        for ordinal, index in enumerate(shot.indices):
            source, prompt = shot.clip.video[index], shot.clip.source_prompt
            condition = model.condition(prompt, "", (), guided=False, source=source)
            latent = model.encode(source)
            joint = JointAttention(
                ordinal, 0, (), processor=found._attend, features=(found._enter,)
            )
            model.predict_noise([NoiseRequest(latent, 1, condition, (), joint=joint)])
        return found

    def _attend(
        self,
        attention: SelfAttention,
        hidden_states: HiddenStates,
        contexts: HiddenStates,
        step: int,
    ) -> HiddenStates:
        for ordinal, own in hidden_states.items():
            if acts_on(attention.layer):
                self.hidden_states[attention.layer.name, ordinal] = own
        return {o: attention(own, contexts[o]) for o, own in hidden_states.items()}

    def _enter(self, block: DecoderBlock, features: Features, step: int) -> Features:
        for ordinal, own in features.items():
            if block.resnet is None:
                self.features[block.name, ordinal] = own
        return features


class _Ties:
    """What ties the key frames of one shot."""

    def __init__(self, settings: Fresco, shot: Shot, source: _Source, model: Model) -> None:
        self.settings, self.shot, self.source, self.model = settings, shot, source, model
        self.paths, self.flow = trajectories(shot), resized_flow(shot)
        self.hidden = hidden_cells(self.flow)

    def attend(
        self,
        attention: SelfAttention,
        hidden_states: HiddenStates,
        contexts: HiddenStates,
        step: int,
    ) -> HiddenStates:
        """Section 4.2, with the key frames of one batch."""
        layer, members = attention.layer, self._acting(hidden_states, step)
        if not acts_on(layer):
            return {o: attention(own, contexts[o]) for o, own in hidden_states.items()}
        settings = self.settings
        queries = {o: attention.queries(hidden_states[o]) for o in members}
        cells = queries[members[0]].shape[1]
        seen = [hidden_states[members[0]]]
        rows, columns = grid_of(self.shot.clip.video.size, cells)
        for before, ordinal in pairwise(members):
            hidden = self.hidden(ordinal, before, rows, columns)
            seen.append(hidden_states[ordinal][:, hidden])
        context = torch.cat(seen, 1)
        key, value = attention.keys(context), attention.values(context)
        answers: dict[int, Tensor] = {}
        for ordinal in members:
            source = self.source.hidden_states[layer.name, ordinal].to(hidden_states[ordinal])
            alike = [each(source) for each in (attention.queries, attention.keys)]
            shape = (queries[ordinal].shape[0], -1, -1)
            own, theirs = (each.expand(shape) for each in alike)
            guided = attention.attend(own, theirs, queries[ordinal], settings.softness)
            answers[ordinal] = attention.attend(guided, key, value)
        if step < round(settings.along_motion * self.shot.steps):
            keys = {o: attention.keys(hidden_states[o]) for o in members}
            paths = self.paths(cells)
            answers = attend_along(attention, paths, queries, keys, answers, settings.softness)
        found = {ordinal: attention.project(answers[ordinal]) for ordinal in members}

        def neighbours(ordinal: int, pivot: int) -> Tensor:
            pair = (self.source.hidden_states[layer.name, each][0] for each in (ordinal, pivot))
            return nearest(*pair)

        rest = [ordinal for ordinal in hidden_states if ordinal not in found]
        return found | {o: taken_over(o, members, found, neighbours) for o in rest}

    def _acting(self, members: Iterable[int], step: int) -> list[int]:
        """The key frames of a batch that are tied to each other; the rest takes over."""
        if self.settings.group == 1:
            return sorted(members)
        pivots = {*self.settings.pivots(self.shot, step)}
        return sorted(ordinal for ordinal in members if ordinal in pivots)

    def optimise(self, block: DecoderBlock, features: Features, step: int) -> Features:
        """Section 4.1, with the key frames of one batch; guidance branches are kept apart."""
        if block.resnet is not None or step >= round(self.settings.optimise * self.shot.steps):
            return features
        members = self._acting(features, step)
        stacked = torch.stack([features[o] for o in members], 1)  # [B,G,C,h,w]
        rows, columns = stacked.shape[-2:]
        pairs = self._pairs(members, rows, columns)
        wanted = torch.cat([self.source.features[block.name, o] for o in members])
        alike = similarities(wanted.to(stacked).float())
        moved = []
        for branch in stacked:
            better, _ = optimised(
                branch,
                pairs,
                alike,
                self.settings.iterations,
                self.settings.rate,
                self.settings.spatial_weight,
            )
            moved.append(with_statistics_of(better, branch))
        found = {o: torch.stack([each[i] for each in moved]) for i, o in enumerate(members)}
        return {**features, **found}

    def _pairs(self, members: Sequence[int], rows: int, columns: int) -> list[Pair]:
        """Neighbours in a batch, the last and the first one too, in both directions."""
        count = len(members)
        if count < 2:
            return []
        links = {tuple(sorted((i, (i + 1) % count))) for i in range(count)}
        both = [pair for a, b in sorted(links) for pair in ((a, b), (b, a))]
        return [(a, b, self.flow(members[a], members[b], rows, columns)) for a, b in both]

    def smoothed(self, latents: Features) -> Features:
        """Clean latents whose background follows that of the key frame before."""
        pictures = {o: self.model.decode(latents[o]) for o in sorted(latents)}
        found, shown = dict(latents), dict(pictures)
        for ordinal in sorted(latents)[1:]:
            flow = self.shot.flow(ordinal, ordinal - 1)
            still = background(self.shot.clip.video[self.shot.indices[ordinal]])
            visible = (1 - flow.occluded[0]).to(shown[ordinal])
            weight = still.to(visible) * visible
            moved = flow.warp(shown[ordinal - 1], outside="border")
            shown[ordinal] = weight * moved + (1 - weight) * shown[ordinal]
            before, after = pictures[ordinal], shown[ordinal]
            found[ordinal] = change(self.model, latents[ordinal], before, after)
        return found
