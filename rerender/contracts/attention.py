"""What joint constraints change inside the network: self-attention, features, whole pictures."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

from torch import Tensor

from rerender.scene import DecoderBlock, Layer

HiddenStates = Mapping[int, Tensor]
"""Hidden states ``[B,N,C]`` of the key frames of a shot, by their ordinal in it."""


AttendJointly = Callable[[Layer, HiddenStates, int], HiddenStates]
"""``attend_jointly(layer, hidden_states, step)``: what each of the key frames attends to,
``[B,M,C]``. It is given the key frames that share a batch: its constraint's pivots always, the
others or a part of them."""


class SelfAttention(ABC):
    """A self-attention layer of the network, open to be used in pieces. Its own answer is
    ``project(attend(queries(h), keys(c), values(c)))``.

    Attributes:
        layer: which one.
    """

    layer: Layer

    @abstractmethod
    def queries(self, hidden_states: Tensor) -> Tensor:
        """``[B,N,C]`` -> ``[B,N,D]``, the heads side by side in D."""

    @abstractmethod
    def keys(self, context: Tensor) -> Tensor:
        """``[B,M,C]`` -> ``[B,M,D]``."""

    @abstractmethod
    def values(self, context: Tensor) -> Tensor:
        """``[B,M,C]`` -> ``[B,M,D]``."""

    @abstractmethod
    def attend(
        self,
        query: Tensor,
        key: Tensor,
        value: Tensor,
        scale: float = 1.0,
        visible: Tensor | None = None,
    ) -> Tensor:
        """``softmax(scale * q k^T / sqrt(d)) v`` head by head.

        Args:
            query: ``[B,N,D]``.
            key, value: ``[B,M,D]``.
            scale: factor of the logits; below 1 attention is softer.
            visible: ``[B,N,M]``, false where a query does not see a key; None shows all.

        Returns:
            ``[B,N,D]``.
        """

    @abstractmethod
    def project(self, attended: Tensor) -> Tensor:
        """The output projection, ``[B,N,D]`` -> ``[B,N,C]``."""

    def __call__(self, hidden_states: Tensor, context: Tensor) -> Tensor:
        """The layer's own answer: queries of ``[B,N,C]``, keys and values of ``[B,M,C]``."""
        return self.project(
            self.attend(self.queries(hidden_states), self.keys(context), self.values(context))
        )


AttentionProcessor = Callable[[SelfAttention, HiddenStates, HiddenStates, int], HiddenStates]
"""``process(attention, hidden_states, contexts, step)``: what a self-attention layer answers for
each of the key frames that share a batch, ``[B,N,C]``, in place of ``attention(own, context)``.
Hidden states are what enters the layer, contexts what keys and values would be made of."""

Features = Mapping[int, Tensor]
"""Features or latents ``[B,C,h,w]`` of the key frames of a shot, by their ordinal in it."""

FeatureEdit = Callable[[DecoderBlock, Features, int], Features]
"""``edit(block, features, step)``: the features that go on from a place of the decoder, for each of
the key frames that share a batch. Gradients of what it computes belong to it; where a request is
traced, they also flow through it to the noisy latents."""


class Grid(NamedTuple):
    """Key frames that are denoised as one picture.

    Attributes:
        rows, columns: how many lie below and beside each other.
        cells: their ordinals, row by row; the prediction of the first cell of an ordinal counts.
    """

    rows: int
    columns: int
    cells: tuple[int, ...]


Canvas = Callable[[int], Sequence[Grid]]
"""``canvas(step)``: the pictures that are made of all key frames of a shot in that step."""
