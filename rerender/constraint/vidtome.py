"""Merging of tokens across key frames (VidToMe, Li et al. 2024, arXiv 2312.10656)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, ClassVar

import torch
from pydantic import Field
from torch import Tensor

from rerender.constraint._token_merging import match
from rerender.contracts import HiddenStates, JointConstraint, JointEdits, Model, SelfAttention
from rerender.scene import Shot

Share = Annotated[float, Field(ge=0, le=1)]


@dataclass(frozen=True, kw_only=True)
class VidToMe(JointConstraint):
    """Before a self-attention layer, tokens of a chunk's key frames are merged into their most
    similar ones of one of them, drawn anew in every step (section 3.2, local merging), and with
    those that earlier chunks left (section 3.3, global merging); chunks come in an order that is
    drawn anew too. The layer sees the merged tokens of the whole chunk; each key frame then takes
    its tokens' answers, merged ones the same.

    Attributes:
        chunk: key frames in a chunk.
        local_ratio: share of the other key frames' tokens that is merged; 0 merges nothing, and
            every key frame attends to itself.
        global_ratio: share of a chunk's tokens that is merged with those of earlier chunks; 0
            leaves chunks to themselves.
    """

    chunk: Annotated[int, Field(ge=1)] = 4
    local_ratio: Share = 0.9
    global_ratio: Share = 0.8

    replaces_attention: ClassVar[bool] = True

    def pivots(self, shot: Shot, step: int) -> Sequence[int]:
        return range(len(shot))

    def bind(self, shot: Shot, model: Model) -> Sequence[JointEdits]:
        if self.local_ratio == 0:
            return [JointEdits()] * len(shot)

        def process(
            attention: SelfAttention,
            hidden_states: HiddenStates,
            contexts: HiddenStates,
            step: int,
        ) -> HiddenStates:
            # All layers of a step see the same draw.
            draw = shot.random("vidtome", step)
            firsts = range(0, len(shot), self.chunk)
            chunks = [range(f, min(f + self.chunk, len(shot))) for f in firsts]
            order = torch.randperm(len(chunks), generator=draw)
            earlier: Tensor | None = None
            answers: dict[int, Tensor] = {}
            for number in order.tolist():
                members = chunks[number]
                target = int(torch.randint(len(members), (), generator=draw))
                found, earlier = self._answers(
                    attention, [hidden_states[m] for m in members], target, earlier
                )
                answers.update(zip(members, found, strict=True))
            return answers

        return [JointEdits(processor=process)] * len(shot)

    def _answers(
        self, attention: SelfAttention, tokens: list[Tensor], target: int, earlier: Tensor | None
    ) -> tuple[list[Tensor], Tensor | None]:
        """A chunk's answers ``[B,N,C]`` and the tokens that later chunks are merged with."""
        others = [each for index, each in enumerate(tokens) if index != target]
        if others:
            source, destination = torch.cat(others, 1), tokens[target]
            local = match(source, destination, self.local_ratio)
            merged = local.merge(source, destination)
        else:
            merged = tokens[target]
        if earlier is None or self.global_ratio == 0:
            joined, answer = merged, attention(merged, merged)
        else:
            across = match(merged, earlier, self.global_ratio)
            joined = across.merge(merged, earlier)
            answer, _ = across.unmerge(attention(joined, joined))
        if not others:
            return [answer], joined
        rest, own = local.unmerge(answer)
        answers = list(rest.chunk(len(others), 1))
        answers.insert(target, own)
        return answers, joined
