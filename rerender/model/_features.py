"""Hooks on a decoder that let the requests of a batch edit its features.

What enters a decoder block (FRESCO, arXiv 2403.12962, section 4.1) and what leaves a residual block
(plug-and-play features, arXiv 2211.12572) are shown to whoever asks; else nothing is touched.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from rerender.scene import DecoderBlock

if TYPE_CHECKING:
    from collections.abc import Callable

    from rerender.model.attention import Attention


class DecoderFeatures:
    """Features of one network's decoder, open to be asked about.

    Args:
        unet: a ``UNet2DConditionModel``; forward hooks are registered on it.
        attention: knows which requests share the present batch.
    """

    def __init__(self, unet: Any, attention: Attention) -> None:
        self._attention = attention
        self.blocks: list[DecoderBlock] = []
        for level, up in enumerate(unet.up_blocks):
            entering = DecoderBlock(f"up_blocks.{level}", level)
            up.register_forward_pre_hook(self._entering(entering), with_kwargs=True)
            self.blocks.append(entering)
            for number, resnet in enumerate(up.resnets):
                leaving = DecoderBlock(f"up_blocks.{level}.resnets.{number}", level, number)
                resnet.register_forward_hook(self._leaving(leaving))
                self.blocks.append(leaving)

    def _entering(self, block: DecoderBlock) -> Callable[..., Any]:
        def hook(module: Any, inputs: tuple[Any, ...], named: dict[str, Any]) -> Any:
            if inputs:
                return (self._edited(block, inputs[0]), *inputs[1:]), named
            return inputs, {**named, "hidden_states": self._edited(block, named["hidden_states"])}

        return hook

    def _leaving(self, block: DecoderBlock) -> Callable[..., Any]:
        def hook(module: Any, inputs: tuple[Any, ...], output: Tensor) -> Tensor:
            return self._edited(block, output)

        return hook

    def _edited(self, block: DecoderBlock, features: Tensor) -> Tensor:
        asking = [m for m in self._attention.joint() if next(iter(m.values())).features]
        if not asking:
            return features
        parts = list(features.chunk(self._attention.count()))
        for members in asking:
            joint = next(iter(members.values()))
            by_ordinal = {member.ordinal: parts[index] for index, member in members.items()}
            for edit in joint.features:
                by_ordinal = dict(edit(block, by_ordinal, joint.step))
            for index, member in members.items():
                parts[index] = by_ordinal[member.ordinal]
        return torch.cat(parts)
