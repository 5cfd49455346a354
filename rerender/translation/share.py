"""Which cells of a key frame belong to constraints that follow the flow, and which to the others.

Where a joint constraint gives key frames a share s (``[1,1,h,w]`` of latent cells, 0..1), an edit
that follows the flow counts for s and any other joint edit for o, which is 1 - s if not given:

    x^0 <- s * follow(x^0) + (1 - s) * x^0,      answer = (1 - o) * own answer + o * processor's

Constraints that refer to earlier key frames follow the flow, and joint ones that say so.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cache
from typing import NamedTuple

import torch.nn.functional as F
from torch import Tensor

from rerender.contracts import (
    AttentionProcessor,
    CleanJointly,
    FeatureEdit,
    Features,
    HiddenStates,
    JointEdits,
    SelfAttention,
)
from rerender.scene import DecoderBlock


class Shares(NamedTuple):
    """How far edits count in each key frame that says so, by its ordinal.

    Attributes:
        flow: edits that follow the flow.
        other: other joint edits.
    """

    flow: Mapping[int, Tensor]
    other: Mapping[int, Tensor]


def blend(share: Tensor, one: Tensor, other: Tensor) -> Tensor:
    """``s * one + (1 - s) * other``; where s is 0 or 1 everywhere, one of the two unchanged."""
    if bool((share == 0).all()):
        return other
    if bool((share == 1).all()):
        return one
    weight = share.to(one)
    return weight * one + (1 - weight) * other


def shares_of(edits: Sequence[Sequence[JointEdits]]) -> Shares:
    """What joint constraints say of every key frame of a shot; the last word counts."""
    flow: dict[int, Tensor] = {}
    other: dict[int, Tensor] = {}
    for ordinal, edit in ((o, edit) for each in edits for o, edit in enumerate(each)):
        if edit.share is not None:
            flow[ordinal] = edit.share
            other[ordinal] = 1 - edit.share if edit.other_share is None else edit.other_share
    return Shares(flow, other)


def shared(edits: Sequence[JointEdits], shares: Shares, follows_flow: bool) -> Sequence[JointEdits]:
    """The edits of one constraint, where they count."""
    own = shares.flow if follows_flow else shares.other
    if not own:
        return edits

    # Who has the same hooks belongs together: each hook is wrapped once, for all key frames.
    @cache
    def process(hook: AttentionProcessor) -> AttentionProcessor:
        return _process(own, hook)

    @cache
    def edit(hook: FeatureEdit) -> FeatureEdit:
        return _edit(own, hook)

    @cache
    def clean(hook: CleanJointly) -> CleanJointly:
        return _clean(own, hook)

    return [
        each._replace(
            processor=process(each.processor) if each.processor else None,
            features=edit(each.features) if each.features else None,
            clean_jointly=clean(each.clean_jointly) if each.clean_jointly else None,
        )
        for each in edits
    ]


def _process(shares: Mapping[int, Tensor], process: AttentionProcessor) -> AttentionProcessor:
    def act(
        attention: SelfAttention,
        hidden_states: HiddenStates,
        contexts: HiddenStates,
        step: int,
    ) -> HiddenStates:
        # The processor knows nothing of what others made of contexts: that is their share.
        found = process(attention, hidden_states, hidden_states, step)
        answers: dict[int, Tensor] = {}
        for ordinal, own in hidden_states.items():
            share = tokens(shares[ordinal], own.shape[1])
            if bool((share == 1).all()):
                answers[ordinal] = found[ordinal]
            else:
                stock = attention(own, contexts[ordinal])
                answers[ordinal] = blend(share, found[ordinal], stock)
        return answers

    return act


def _edit(shares: Mapping[int, Tensor], edit: FeatureEdit) -> FeatureEdit:
    def act(block: DecoderBlock, features: Features, step: int) -> Features:
        found = edit(block, features, step)
        answers: dict[int, Tensor] = {}
        for ordinal, each in features.items():
            answers[ordinal] = each
            if found[ordinal] is not each:
                rows, columns = each.shape[-2:]
                share = F.adaptive_avg_pool2d(shares[ordinal], (rows, columns))
                answers[ordinal] = blend(share, found[ordinal], each)
        return answers

    return act


def _clean(shares: Mapping[int, Tensor], edit: CleanJointly) -> CleanJointly:
    def act(step: int, latents: Features) -> Features:
        found = edit(step, latents)
        return {o: blend(shares[o], found[o], each) for o, each in latents.items()}

    return act


def tokens(share: Tensor, count: int) -> Tensor:
    """The share of each of ``count`` tokens, ``[1,N,1]``, of a share of latent cells."""
    height, width = share.shape[-2:]
    side = (height * width / count) ** 0.5
    pooled = F.adaptive_avg_pool2d(share, (round(height / side), round(width / side)))
    return pooled.flatten(2).transpose(1, 2)
