"""Attention processors that let the requests of a batch edit hidden states and attention maps.

Attention of a stock UNet is left as it is until a request of the batch asks for something. Keys and
values of self-attention are made of the hidden states that ``attend`` and ``joint`` return
(Rerender §4.1, eq. 6, of which ordinary self-attention is the case h' = h); a joint processor
answers in place of the layer. Softmax maps of self-
and cross-attention (prompt-to-prompt, arXiv 2208.01626) exist only in layers that ``maps`` wants.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import torch
import torch.nn.functional as F
from torch import Tensor

from rerender.contracts import AttentionMapEdit, JointAttention, NoiseRequest, SelfAttention
from rerender.scene import Layer

if TYPE_CHECKING:
    from collections.abc import Iterator

_PATH = re.compile(r"(down|mid|up)_block(?:s\.(\d+))?\..*attn(1|2)\.processor$")


class Attention:
    """Self- and cross-attention of one network, open to be asked about.

    Args:
        unet: a ``UNet2DConditionModel``; its self-attention processors are replaced, those of
            cross-attention are wrapped.
    """

    def __init__(self, unet: Any) -> None:
        self._requests: Sequence[NoiseRequest] = ()
        stock = unet.attn_processors
        every = _layers(stock)
        self.layers = [layer for layer in every if not layer.cross]
        ours: dict[str, Any] = {
            layer.name: _Cross(layer, self, stock[layer.name])
            if layer.cross
            else _Self(layer, self)
            for layer in every
        }
        unet.set_attn_processor({**stock, **ours})

    @contextmanager
    def asking(self, requests: Sequence[NoiseRequest]) -> Iterator[None]:
        """The ``i``-th of the equal parts of a batch belongs to ``requests[i]``."""
        self._requests = requests
        try:
            yield
        finally:
            self._requests = ()

    def contexts(self, layer: Layer, hidden_states: Tensor) -> list[Tensor]:
        """What each part of a batch ``[P*B,N,C]`` attends to: P tensors ``[B,M,C]``."""
        if not self._requests:
            return [hidden_states]
        contexts = [
            request.attend(layer, part) if request.attend else part
            for request, part in zip(self._requests, self._parts(hidden_states), strict=True)
        ]
        for members in self.joint():
            by_ordinal = {members[index].ordinal: contexts[index] for index in members}
            joint = next(iter(members.values()))
            for attend_jointly in joint.attend_jointly:
                by_ordinal = dict(attend_jointly(layer, by_ordinal, joint.step))
            for index, member in members.items():
                contexts[index] = by_ordinal[member.ordinal]
        return contexts

    def processed(
        self, attention: SelfAttention, hidden_states: Tensor, contexts: Sequence[Tensor]
    ) -> dict[int, Tensor]:
        """What joint processors answer, ``[B,N,C]``, by the number of the part of the batch."""
        answers: dict[int, Tensor] = {}
        for members in self.joint():
            joint = next(iter(members.values()))
            if joint.processor is None:
                continue
            parts = self._parts(hidden_states)
            own = {member.ordinal: parts[index] for index, member in members.items()}
            seen = {member.ordinal: contexts[index] for index, member in members.items()}
            found = joint.processor(attention, own, seen, joint.step)
            answers.update((index, found[member.ordinal]) for index, member in members.items())
        return answers

    def maps(self, layer: Layer, hidden_states: Tensor) -> list[AttentionMapEdit | None]:
        """For each part of a batch ``[P*B,N,C]``, who wants the maps of the layer."""
        cells = hidden_states.shape[1]
        asked = [request.maps for request in self._requests]
        return [maps if maps and maps.wants(layer, cells) else None for maps in asked]

    def count(self) -> int:
        """How many requests share the batch."""
        return max(len(self._requests), 1)

    def _parts(self, hidden_states: Tensor) -> Sequence[Tensor]:
        return hidden_states.chunk(self.count())

    def joint(self) -> list[dict[int, JointAttention]]:
        """Parts that see each other, by their number: those with the same step and edits."""
        found: dict[Any, dict[int, JointAttention]] = {}
        for index, request in enumerate(self._requests):
            if request.joint is not None:
                found.setdefault(request.joint[1:], {})[index] = request.joint
        return list(found.values())


class _Self:
    """Scaled dot-product self-attention whose keys and values may come from other hidden states."""

    def __init__(self, layer: Layer, attention: Attention) -> None:
        self.layer, self.attention = layer, attention

    def __call__(
        self,
        attn: Any,
        hidden_states: Tensor,
        encoder_hidden_states: Tensor | None = None,
        attention_mask: Tensor | None = None,
        temb: Tensor | None = None,
    ) -> Tensor:
        contexts = self.attention.contexts(self.layer, hidden_states)
        answers = self.attention.processed(_Pieces(self.layer, attn), hidden_states, contexts)
        if answers:
            parts = hidden_states.chunk(len(contexts))
            own = {
                i: _projected(attn, _heads(attn, parts[i], contexts[i]))
                for i in range(len(contexts))
                if i not in answers
            }
            return torch.cat([(answers | own)[index] for index in range(len(contexts))])
        maps = self.attention.maps(self.layer, hidden_states)
        if any(maps):
            attended = _mapped(attn, self.layer, hidden_states, contexts, maps)
        else:
            attended = _attention(attn, hidden_states, contexts)
        return _projected(attn, attended)


class _Pieces(SelfAttention):
    """A diffusers self-attention layer in pieces."""

    def __init__(self, layer: Layer, attn: Any) -> None:
        self.layer, self._attn = layer, attn

    def queries(self, hidden_states: Tensor) -> Tensor:
        made: Tensor = self._attn.to_q(hidden_states)
        return made

    def keys(self, context: Tensor) -> Tensor:
        made: Tensor = self._attn.to_k(context)
        return made

    def values(self, context: Tensor) -> Tensor:
        made: Tensor = self._attn.to_v(context)
        return made

    def attend(
        self,
        query: Tensor,
        key: Tensor,
        value: Tensor,
        scale: float = 1.0,
        visible: Tensor | None = None,
    ) -> Tensor:
        q, k, v = (
            x.reshape(*x.shape[:2], self._attn.heads, -1).transpose(1, 2)
            for x in (query, key, value)
        )
        mask = None if visible is None else visible[:, None]
        scaled = scale * float(self._attn.scale)
        mixed = F.scaled_dot_product_attention(q, k, v, attn_mask=mask, scale=scaled)
        return mixed.transpose(1, 2).flatten(2).to(query.dtype)

    def project(self, attended: Tensor) -> Tensor:
        return _projected(self._attn, attended)


class _Cross:
    """The stock cross-attention, unless somebody wants its maps."""

    def __init__(self, layer: Layer, attention: Attention, stock: Any) -> None:
        self.layer, self.attention, self.stock = layer, attention, stock

    def __call__(
        self,
        attn: Any,
        hidden_states: Tensor,
        encoder_hidden_states: Any = None,
        attention_mask: Tensor | None = None,
        temb: Tensor | None = None,
    ) -> Tensor:
        maps = self.attention.maps(self.layer, hidden_states)
        if not any(maps):
            answer: Tensor = self.stock(
                attn, hidden_states, encoder_hidden_states, attention_mask, temb
            )
            return answer
        words: Tensor = encoder_hidden_states
        pictures: Sequence[Tensor] = ()
        if isinstance(encoder_hidden_states, tuple):  # with IP-Adapters
            words, pictures = encoder_hidden_states
        attended = _mapped(attn, self.layer, hidden_states, words.chunk(len(maps)), maps)
        for number, tokens in enumerate(pictures):
            attended = attended + self._shown(attn, hidden_states, number, tokens)
        return _projected(attn, attended)

    def _shown(self, attn: Any, hidden_states: Tensor, number: int, tokens: Tensor) -> Tensor:
        """What an IP-Adapter adds: attention ``[B,N,C]`` to the tokens of its pictures
        ``[B,I,T,D]``, by keys and values of its own."""
        seen = tokens.flatten(1, 2)
        made = (self.stock.to_k_ip[number](seen), self.stock.to_v_ip[number](seen))
        query, key, value = (
            x.reshape(*x.shape[:2], attn.heads, -1).transpose(1, 2)
            for x in (attn.to_q(hidden_states), *made)
        )
        mixed = F.scaled_dot_product_attention(query, key, value).transpose(1, 2).flatten(2)
        scale: float = self.stock.scale[number]
        return scale * mixed.to(hidden_states.dtype)


def _projected(attn: Any, attended: Tensor) -> Tensor:
    projected: Tensor = attn.to_out[1](attn.to_out[0](attended))
    return projected


def _attention(attn: Any, hidden_states: Tensor, contexts: Sequence[Tensor]) -> Tensor:
    """Multi-head attention of ``[P*B,N,C]`` over P contexts, in one call where lengths agree."""
    if len(contexts) > 1 and all(context is contexts[0] for context in contexts):
        return _shared(attn, hidden_states, contexts[0], len(contexts))
    if len({context.shape[1] for context in contexts}) == 1:
        return _heads(attn, hidden_states, torch.cat(list(contexts)))
    parts = hidden_states.chunk(len(contexts))
    # Parts of a batch may attend to one or to two frames: each length is a call of its own.
    return torch.cat([_heads(attn, *pair) for pair in zip(parts, contexts, strict=True)])


def _shared(attn: Any, hidden_states: Tensor, context: Tensor, parts: int) -> Tensor:
    """All parts attend to one and the same context: keys and values are made once."""
    branches, cells = context.shape[0], hidden_states.shape[1]
    joined = hidden_states.reshape(parts, branches, cells, -1).transpose(0, 1).flatten(1, 2)
    mixed = _heads(attn, joined, context)
    return mixed.reshape(branches, parts, cells, -1).transpose(0, 1).flatten(0, 1)


def _heads(attn: Any, hidden_states: Tensor, context: Tensor) -> Tensor:
    query, key, value = _split(attn, hidden_states, context)
    mixed = F.scaled_dot_product_attention(query, key, value)
    return mixed.transpose(1, 2).flatten(2).to(hidden_states.dtype)


def _split(attn: Any, hidden_states: Tensor, context: Tensor) -> list[Tensor]:
    """Queries, keys and values, ``[B,heads,N or M,d]`` each."""
    projected = (attn.to_q(hidden_states), attn.to_k(context), attn.to_v(context))
    return [x.reshape(*x.shape[:2], attn.heads, -1).transpose(1, 2) for x in projected]


def _mapped(
    attn: Any,
    layer: Layer,
    hidden_states: Tensor,
    contexts: Sequence[Tensor],
    maps: Sequence[AttentionMapEdit | None],
) -> Tensor:
    """Attention part by part, through explicit softmax maps where they are wanted."""
    parts = hidden_states.chunk(len(maps))
    rows = zip(parts, contexts, maps, strict=True)
    return torch.cat(
        [
            _explicit(attn, layer, part, context, asked) if asked else _heads(attn, part, context)
            for part, context, asked in rows
        ]
    )


def _explicit(
    attn: Any, layer: Layer, hidden_states: Tensor, context: Tensor, maps: AttentionMapEdit
) -> Tensor:
    query, key, value = _split(attn, hidden_states, context)
    # Scaled first: in half precision the product itself could overflow.
    scores = (query * float(attn.scale)) @ key.transpose(-1, -2)
    weights = maps.edit(layer, scores.float().softmax(-1))
    mixed = weights.to(value) @ value
    return mixed.transpose(1, 2).flatten(2).to(hidden_states.dtype)


def _layers(processors: dict[str, Any]) -> list[Layer]:
    """Attention layers in the order they run: encoder, bottleneck, decoder."""
    found = [(m, name) for name in processors if (m := _PATH.match(name))]
    order = {"down": 0, "mid": 1, "up": 2}
    found.sort(key=lambda item: (order[item[0][1]], int(item[0][2] or 0)))
    blocks = {place: sorted({int(m[2] or 0) for m, _ in found if m[1] == place}) for place in order}
    return [
        Layer(name, place, _level(place, int(m[2] or 0), blocks[place]), m[3] == "2")  # type: ignore[arg-type]
        for m, name in found
        for place in [m[1]]
    ]


def _level(place: str, block: int, blocks: Sequence[int]) -> int:
    """0 for the coarsest block with attention: the first of a decoder, the last of an encoder."""
    rank = list(blocks).index(block)
    return rank if place == "up" else len(blocks) - 1 - rank
