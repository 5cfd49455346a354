"""Cross-attention guidance by an energy (pix2pix-zero, Parmar et al. 2023, arXiv 2302.03027)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import Annotated, ClassVar

from pydantic import Field
from torch import Tensor

from rerender.constraint._inversion_maps import CrossMemory, crossing
from rerender.constraint._stored_maps import Keep
from rerender.contracts import (
    AttentionMapEdit,
    Edits,
    Guidance,
    InversionEdits,
    JointConstraint,
    JointEdits,
    Model,
)
from rerender.scene import Layer, Shot, State


@dataclass(frozen=True, kw_only=True)
class CrossGuidance(JointConstraint):
    """The latent that leaves a step moves towards one in which the words that both prompts share
    are seen where the inversion saw them: down the gradient, taken through the network, of the
    squared distance between the cross-attention maps, summed over cells, words and layers and
    averaged over heads (section 3.2, where the latent that enters the step moves, and the network
    looks again).

    Attributes:
        step_size: how far it moves along the negative gradient.
        keep: where the maps wait, in main "memory" or on "disk".
    """

    step_size: Annotated[float, Field(gt=0, le=100)] = 0.1
    keep: Keep = "memory"

    needs_source: ClassVar[bool] = True
    edits_noisy: ClassVar[bool] = True

    def bind(self, shot: Shot, model: Model) -> Sequence[JointEdits]:
        memory = CrossMemory(shot, model, self.keep)
        return [
            JointEdits(
                self._edits(memory, ordinal),
                inversion=InversionEdits(maps=partial(memory.recording, ordinal)),
            )
            for ordinal in range(len(shot))
        ]

    def _edits(self, memory: CrossMemory, ordinal: int) -> Edits:
        apart: dict[str, Tensor] = {}

        def comparing(step: int) -> AttentionMapEdit:
            def edit(layer: Layer, maps: Tensor) -> Tensor:
                kept = memory.recall(ordinal, step, layer, maps)
                difference = maps[-1][..., memory.theirs] - kept
                apart[layer.name] = difference.square().mean(0).sum()
                return maps

            return AttentionMapEdit(crossing, edit)

        def loss(state: State, clean: Tensor) -> Tensor:
            total = sum(apart.values(), state.noisy.new_zeros(()))
            apart.clear()
            return total

        return Edits(maps=comparing, guidance=Guidance(loss, self.step_size))
