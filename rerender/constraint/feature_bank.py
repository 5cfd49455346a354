"""A bank of earlier key frames' features (StreamV2V, Liang et al. 2025, arXiv 2405.15757)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, ClassVar, NamedTuple

import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor

from rerender.constraint._token_merging import gather, match
from rerender.contracts import HiddenStates, JointConstraint, JointEdits, Model, SelfAttention
from rerender.scene import Shot

Share = Annotated[float, Field(ge=0, le=1)]


class _Bank(NamedTuple):
    """Keys, values ``[B,N,D]`` and answers ``[B,N,C]`` of a layer, as many as a key frame has."""

    keys: Tensor
    values: Tensor
    answers: Tensor


@dataclass(frozen=True, kw_only=True)
class FeatureBank(JointConstraint):
    """Self-attention also looks at the keys and values of a bank (section 4.1), and answers of the
    decoder are mixed with the bank's most similar ones where these are similar enough (section
    4.2). The bank is that of earlier key frames; after every few of them a new one is merged into
    it, token by token with its most similar counterpart, so that it does not grow (section 4.3,
    dynamic merging). The first key frame of a shot finds it empty.

    Attributes:
        interval: key frames from one renewal of the bank to the next; 0 keeps it empty.
        strength: weight of the bank's answer where it is similar; 0 mixes nothing in.
        threshold: cosine similarity from which answers are mixed.
    """

    interval: Annotated[int, Field(ge=0)] = 4
    strength: Share = 0.8
    threshold: Share = 0.98

    replaces_attention: ClassVar[bool] = True

    def bind(self, shot: Shot, model: Model) -> Sequence[JointEdits]:
        if self.interval == 0:
            return [JointEdits()] * len(shot)
        # The bank after each renewal, for each layer; those of an earlier step are not read again.
        banks: dict[str, tuple[int, dict[int, _Bank]]] = {}

        def process(
            attention: SelfAttention,
            hidden_states: HiddenStates,
            contexts: HiddenStates,
            step: int,
        ) -> HiddenStates:
            name = attention.layer.name
            if name not in banks or banks[name][0] != step:
                banks[name] = step, {}
            renewed, answers = banks[name][1], dict[int, Tensor]()
            for ordinal in sorted(hidden_states):
                bank = renewed.get(max((o for o in renewed if o < ordinal), default=-1))
                own, answers[ordinal] = self._answer(
                    attention, hidden_states[ordinal], contexts[ordinal], bank
                )
                if ordinal % self.interval == 0 and ordinal not in renewed:
                    draw = shot.random(f"feature_bank/{ordinal}", step)
                    renewed[ordinal] = own if bank is None else _merged(bank, own, draw)
            return answers

        return [JointEdits(processor=process)] * len(shot)

    def _answer(
        self, attention: SelfAttention, hidden_states: Tensor, context: Tensor, bank: _Bank | None
    ) -> tuple[_Bank, Tensor]:
        query = attention.queries(hidden_states)
        key, value = attention.keys(context), attention.values(context)
        if bank is None:
            answer = attention.project(attention.attend(query, key, value))
            return _Bank(key, value, answer), answer
        keys, values = torch.cat([key, bank.keys], 1), torch.cat([value, bank.values], 1)
        answer = attention.project(attention.attend(query, keys, values))
        if self.strength and attention.layer.place == "up":
            own, theirs = F.normalize(answer, dim=-1), F.normalize(bank.answers, dim=-1)
            similarity, index = (own @ theirs.mT).max(-1)
            weight = self.strength * (similarity > self.threshold).to(answer)[..., None]
            answer = (1 - weight) * answer + weight * gather(bank.answers, index)
        return _Bank(key, value, answer), answer


def _merged(bank: _Bank, own: _Bank, draw: torch.Generator) -> _Bank:
    """A bank of the same size: a half of all tokens, drawn by lot, each the mean of itself and of
    those of the other half that are most like it (by their answers)."""
    total = torch.cat([bank.answers, own.answers], 1)
    order = torch.randperm(total.shape[1], generator=draw).to(total.device)
    stays, goes = order[: bank.answers.shape[1]], order[bank.answers.shape[1] :]
    joined = [torch.cat(pair, 1) for pair in zip(bank, own, strict=True)]
    merge = match(total[:, goes], total[:, stays], 1.0)
    return _Bank(*(merge.merge(each[:, goes], each[:, stays]) for each in joined))
