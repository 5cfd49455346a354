"""Cross-attention maps of the source, kept for the words that both prompts share."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import ClassVar

from torch import Tensor

from rerender.constraint._inversion_maps import CrossMemory, crossing
from rerender.constraint._stored_maps import Keep
from rerender.contracts import (
    AttentionMapEdit,
    Edits,
    InversionEdits,
    JointConstraint,
    JointEdits,
    Model,
)
from rerender.scene import Layer, Shot


@dataclass(frozen=True, kw_only=True)
class CrossMaps(JointConstraint):
    """Where a word of the source prompt was seen in the inversion, the same word of the prompt is
    seen in the editing (prompt-to-prompt, arXiv 2208.01626, section 3.2; FateZero, section 3.2;
    vid2vid-zero's cross-attention guidance). New words see for themselves.

    Attributes:
        keep: where the maps wait, in main "memory" or on "disk".
    """

    keep: Keep = "memory"

    needs_source: ClassVar[bool] = True

    def bind(self, shot: Shot, model: Model) -> Sequence[JointEdits]:
        memory = CrossMemory(shot, model, self.keep)

        def replacing(ordinal: int, step: int) -> AttentionMapEdit:
            def edit(layer: Layer, maps: Tensor) -> Tensor:
                edited = maps.clone()
                edited[-1, ..., memory.theirs] = memory.recall(ordinal, step, layer, maps)
                return edited

            return AttentionMapEdit(crossing, edit)

        return [
            JointEdits(
                Edits(maps=partial(replacing, ordinal)),
                inversion=InversionEdits(maps=partial(memory.recording, ordinal)),
            )
            for ordinal in range(len(shot))
        ]
