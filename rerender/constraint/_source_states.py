"""Hidden states of the source's inversion, kept for those constraints that look at them again."""

from __future__ import annotations

from collections.abc import Callable

from torch import Tensor

from rerender.constraint._stored_maps import Keep, StoredMaps
from rerender.contracts import HiddenStates, SelfAttention
from rerender.scene import Layer


class SourceStates:
    """What entered self-attention layers while a shot was inverted.

    Args:
        wants: ``wants(layer, ordinal, step)``: whether they are kept.
        keep: where they wait, in half precision.
    """

    def __init__(self, wants: Callable[[Layer, int, int], bool], keep: Keep) -> None:
        self.wants, self._states = wants, StoredMaps(keep)

    def record(
        self,
        attention: SelfAttention,
        hidden_states: HiddenStates,
        contexts: HiddenStates,
        step: int,
    ) -> HiddenStates:
        """An attention processor of the inversion: the layer's own answer, and a note of what
        entered it."""
        for ordinal, own in hidden_states.items():
            if self.wants(attention.layer, ordinal, step):
                self._states.put((attention.layer.name, ordinal, step), own[-1:])
        return {
            ordinal: attention(own, contexts[ordinal]) for ordinal, own in hidden_states.items()
        }

    def recall(self, layer: Layer, ordinal: int, step: int, like: Tensor) -> Tensor:
        """What entered a layer, for each branch of ``like [B,N,C]``."""
        kept = self._states.get((layer.name, ordinal, step), like)
        return kept.expand(like.shape[0], -1, -1)
