"""Cross-attention maps of the source, kept for the words that both prompts share."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import ClassVar

from torch import Tensor

from rerender.constraint.shelf import Keep, Shelf
from rerender.constraint.words import common
from rerender.contracts import Act, Edits, Joint, Maps, Model
from rerender.scene import Layer, Shot


@dataclass(frozen=True, kw_only=True)
class CrossMaps(Joint):
    """Where a word of the source prompt was seen in the inversion, the same word of the prompt is
    seen in the editing (prompt-to-prompt, arXiv 2208.01626, section 3.2; FateZero, eq. 4;
    vid2vid-zero's cross-attention guidance). New words see for themselves.

    Attributes:
        keep: where the maps wait, in main "memory" or on "disk".
    """

    keep: Keep = "memory"

    needs_source: ClassVar[bool] = True

    def unite(self, shot: Shot, model: Model) -> Sequence[Act]:
        source, target = model.tokens(shot.clip.source_prompt), model.tokens(shot.clip.prompt)
        memory = _Memory(common(source, target), Shelf(self.keep))
        return [
            Act(
                Edits(maps=partial(memory.replacing, ordinal)),
                Edits(maps=partial(memory.recording, ordinal)),
            )
            for ordinal in range(len(shot))
        ]


class _Memory:
    """The maps of one shot.

    Args:
        pairs: places of words, in the source prompt and in the prompt.
        shelf: where the maps are kept.
    """

    def __init__(self, pairs: Sequence[tuple[int, int]], shelf: Shelf) -> None:
        self.shelf = shelf
        self.ours, self.theirs = [ours for ours, _ in pairs], [theirs for _, theirs in pairs]

    def recording(self, ordinal: int, step: int) -> Maps:
        """Keep the maps of a step of the inversion."""

        def edit(layer: Layer, maps: Tensor) -> Tensor:
            self.shelf.put((ordinal, step, layer.name), maps[-1])
            return maps

        return Maps(_cross, edit)

    def replacing(self, ordinal: int, step: int) -> Maps:
        """Give the positive branch the kept maps of the words that both prompts have."""

        def edit(layer: Layer, maps: Tensor) -> Tensor:
            kept, edited = self.shelf.get((ordinal, step, layer.name), maps), maps.clone()
            edited[-1, ..., self.theirs] = kept[..., self.ours]
            return edited

        return Maps(_cross, edit)


def _cross(layer: Layer, cells: int) -> bool:
    return layer.cross
