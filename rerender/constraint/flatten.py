"""Attention along the source's motion (FLATTEN, Cong et al. 2024, arXiv 2310.05922)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, ClassVar

import torch
from pydantic import Field

from rerender.constraint._source_states import SourceStates
from rerender.constraint._stored_maps import Keep
from rerender.constraint._trajectories import attend_along, trajectories
from rerender.contracts import (
    HiddenStates,
    InversionEdits,
    JointConstraint,
    JointEdits,
    Model,
    SelfAttention,
)
from rerender.scene import Layer, Shot


@dataclass(frozen=True, kw_only=True)
class Flatten(JointConstraint):
    """Every self-attention layer looks at the tokens of all key frames, and what it answers is
    averaged along the paths that the source's optical flow leads each token (section 4.2), with
    the layer's own similarities as weights:

        out = softmax(q k_path^T / sqrt(d)) dense_path,   dense = softmax(q k_all^T / sqrt(d)) v_all

    In the first steps keys and values of the decoder come from the source's inversion.

    Attributes:
        inject: share of the executed steps with the inversion's keys and values; 0 for none.
        keep: where they wait, in main "memory" or on "disk".
    """

    inject: Annotated[float, Field(ge=0, le=1)] = 0.2
    keep: Keep = "memory"

    needs_source: ClassVar[bool] = True
    replaces_attention: ClassVar[bool] = True

    def pivots(self, shot: Shot, step: int) -> Sequence[int]:
        return range(len(shot))

    def bind(self, shot: Shot, model: Model) -> Sequence[JointEdits]:
        steps, paths = round(self.inject * shot.steps), trajectories(shot)

        def injects(layer: Layer, ordinal: int, step: int) -> bool:
            return step < steps and layer.place == "up"

        states = SourceStates(injects, self.keep)

        def process(
            attention: SelfAttention,
            hidden_states: HiddenStates,
            contexts: HiddenStates,
            step: int,
        ) -> HiddenStates:
            layer = attention.layer
            seen = {
                ordinal: states.recall(layer, ordinal, step, own)
                if injects(layer, ordinal, step)
                else own
                for ordinal, own in contexts.items()
            }
            queries = {o: attention.queries(own) for o, own in hidden_states.items()}
            keys = {o: attention.keys(own) for o, own in seen.items()}
            key = torch.cat([*keys.values()], 1)
            value = attention.values(torch.cat([*seen.values()], 1))
            dense = {o: attention.attend(query, key, value) for o, query in queries.items()}
            cells = next(iter(dense.values())).shape[1]
            along = attend_along(attention, paths(cells), queries, keys, dense)
            return {ordinal: attention.project(each) for ordinal, each in along.items()}

        inversion = InversionEdits(processor=states.record if steps else None)
        return [JointEdits(processor=process, inversion=inversion)] * len(shot)
