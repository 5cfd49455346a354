"""Spatial-temporal self-attention: keys and values also come from other key frames of the shot."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import torch

from rerender.contracts import (
    AttendJointly,
    HiddenStates,
    InversionEdits,
    JointConstraint,
    JointEdits,
    Model,
)
from rerender.scene import Layer, Shot


@dataclass(frozen=True, kw_only=True)
class SpatioTemporal(JointConstraint):
    """Every self-attention layer looks at several key frames of the same step at once.

    Attributes:
        frames: "all" key frames of the shot, in both directions of time (dense attention of
            vid2vid-zero, arXiv 2303.17599, section III-C); or a key frame's own and the "middle"
            one (FateZero, arXiv 2303.09535, section 3.4).
        inversion: whether an inverting start looks at them too.
    """

    frames: Literal["all", "middle"] = "all"
    inversion: bool = True

    def pivots(self, shot: Shot, step: int) -> Sequence[int]:
        return range(len(shot)) if self.frames == "all" else (len(shot) // 2,)

    def bind(self, shot: Shot, model: Model) -> Sequence[JointEdits]:
        attend = _everyone if self.frames == "all" else _beside(*self.pivots(shot, 0))
        inversion = InversionEdits(attend_jointly=attend if self.inversion else None)
        return [JointEdits(attend_jointly=attend, inversion=inversion)] * len(shot)


def _everyone(layer: Layer, hidden_states: HiddenStates, step: int) -> HiddenStates:
    """Those of all, the same object for each: keys and values are then made once."""
    return dict.fromkeys(hidden_states, torch.cat([*hidden_states.values()], 1))


def _beside(pivot: int) -> AttendJointly:
    """One's own hidden states and those of the pivot (which attends to itself once, not twice)."""

    def attend(layer: Layer, hidden_states: HiddenStates, step: int) -> HiddenStates:
        return {
            ordinal: own if ordinal == pivot else torch.cat([own, hidden_states[pivot]], 1)
            for ordinal, own in hidden_states.items()
        }

    return attend
