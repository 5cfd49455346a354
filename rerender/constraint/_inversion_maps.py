"""Cross-attention maps of an inversion, kept for those constraints that compare with them."""

from __future__ import annotations

import torch
from torch import Tensor

from rerender.constraint._stored_maps import Keep, StoredMaps
from rerender.constraint._words import common
from rerender.contracts import AttentionMapEdit, Model
from rerender.scene import Layer, Shot


class CrossMemory:
    """Where the words of the source prompt were seen, for the key frames of one shot.

    Attributes:
        theirs: places ``[W]`` in the prompt of the words that the source prompt has too.

    Args:
        shot: the key frames and the two prompts.
        model: knows their tokens.
        keep: where the maps wait.
    """

    def __init__(self, shot: Shot, model: Model, keep: Keep) -> None:
        source, target = model.token_ids(shot.clip.source_prompt), model.token_ids(shot.clip.prompt)
        pairs = common(source, target)
        self._ours, self.theirs = (
            torch.tensor(places, dtype=torch.long, device=model.device)
            for places in ([pair[which] for pair in pairs] for which in (0, 1))
        )
        self._stored = StoredMaps(keep)

    def recording(self, ordinal: int, step: int) -> AttentionMapEdit:
        """Keep the maps of a step of the inversion."""

        def edit(layer: Layer, maps: Tensor) -> Tensor:
            self._stored.put((ordinal, step, layer.name), maps[-1])
            return maps

        return AttentionMapEdit(crossing, edit)

    def recall(self, ordinal: int, step: int, layer: Layer, like: Tensor) -> Tensor:
        """The maps ``[heads,N,W]`` of the W common words, in the prompt's order."""
        return self._stored.get((ordinal, step, layer.name), like)[..., self._ours]


def crossing(layer: Layer, cells: int) -> bool:
    """Whether a layer attends to the prompt."""
    return layer.cross
