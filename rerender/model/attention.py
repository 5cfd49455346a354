"""The one attention processor: it shows a layer's tokens and asks what to attend to.

Self-attention of a stock UNet is left as it is until a query brings an ``attend`` function. Then
queries come from the layer's own tokens while keys and values are made of the tokens returned
(Rerender §4.1, eq. 6, of which ordinary self-attention is the case "own tokens").
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import torch
import torch.nn.functional as F
from torch import Tensor

from rerender.scene import Layer

if TYPE_CHECKING:
    from collections.abc import Iterator

Attend = Callable[[Layer, Tensor], Tensor]

_PATH = re.compile(r"(down|mid|up)_block(?:s\.(\d+))?\..*attn1\.processor$")


class Attention:
    """Self-attention of one network, open to be asked about.

    Args:
        unet: a ``UNet2DConditionModel``; its self-attention processors are replaced, its
            cross-attention processors are kept.
    """

    def __init__(self, unet: Any) -> None:
        self._attends: Sequence[Attend | None] = ()
        self.layers = _layers(unet.attn_processors)
        named = {layer.name: layer for layer in self.layers}
        unet.set_attn_processor(
            {
                name: _Processor(named[name], self) if name in named else processor
                for name, processor in unet.attn_processors.items()
            }
        )

    @contextmanager
    def asking(self, attends: Sequence[Attend | None]) -> Iterator[None]:
        """Ask ``attends[i]`` what the ``i``-th of the equal parts of a batch attends to."""
        self._attends = attends
        try:
            yield
        finally:
            self._attends = ()

    def contexts(self, layer: Layer, tokens: Tensor) -> list[Tensor]:
        """What each part of a batch ``[P*B,N,C]`` attends to: P tensors ``[B,M,C]``."""
        parts = tokens.chunk(max(len(self._attends), 1))
        return [
            attend(layer, part) if attend else part
            for attend, part in zip(self._attends or (None,), parts, strict=True)
        ]


class _Processor:
    """Scaled dot-product self-attention whose keys and values may come from other tokens."""

    def __init__(self, layer: Layer, room: Attention) -> None:
        self.layer, self.room = layer, room

    def __call__(
        self,
        attn: Any,
        hidden_states: Tensor,
        encoder_hidden_states: Tensor | None = None,
        attention_mask: Tensor | None = None,
        temb: Tensor | None = None,
    ) -> Tensor:
        contexts = self.room.contexts(self.layer, hidden_states)
        attended = _attention(attn, hidden_states, contexts)
        projected: Tensor = attn.to_out[1](attn.to_out[0](attended))
        return projected


def _attention(attn: Any, tokens: Tensor, contexts: Sequence[Tensor]) -> Tensor:
    """Multi-head attention of ``[P*B,N,C]`` over P contexts, in one call where lengths agree."""
    if len({context.shape[1] for context in contexts}) == 1:
        return _heads(attn, tokens, torch.cat(list(contexts)))
    parts = tokens.chunk(len(contexts))
    # Parts of a batch may look at one or at two frames: each length is a call of its own.
    return torch.cat([_heads(attn, *pair) for pair in zip(parts, contexts, strict=True)])


def _heads(attn: Any, tokens: Tensor, context: Tensor) -> Tensor:
    query, key, value = attn.to_q(tokens), attn.to_k(context), attn.to_v(context)
    split = [x.unflatten(-1, (attn.heads, -1)).transpose(1, 2) for x in (query, key, value)]
    mixed = F.scaled_dot_product_attention(*split)
    return mixed.transpose(1, 2).flatten(2).to(query.dtype)


def _layers(processors: dict[str, Any]) -> list[Layer]:
    """Self-attention layers in the order they run: encoder, bottleneck, decoder."""
    found = [(m, name) for name in processors if (m := _PATH.match(name))]
    order = {"down": 0, "mid": 1, "up": 2}
    found.sort(key=lambda item: (order[item[0][1]], int(item[0][2] or 0)))
    blocks = {place: sorted({int(m[2] or 0) for m, _ in found if m[1] == place}) for place in order}
    return [
        Layer(name, place, _level(place, int(m[2] or 0), blocks[place]))  # type: ignore[arg-type]
        for m, name in found
        for place in [m[1]]
    ]


def _level(place: str, block: int, blocks: Sequence[int]) -> int:
    """0 for the coarsest block with attention: the first of a decoder, the last of an encoder."""
    rank = list(blocks).index(block)
    return rank if place == "up" else len(blocks) - 1 - rank
