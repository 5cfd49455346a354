"""Networks whose feature maps lie in memory pixel by pixel, as convolutions of a GPU want them.

It takes more than to turn the weights: what stands between the convolutions of stock networks
turns maps back (GroupNorm on a GPU, and the copy at the end of a transformer).
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from diffusers.models.resnet import ResnetBlock2D
from diffusers.models.transformers.transformer_2d import Transformer2DModel
from torch import Tensor, nn

from rerender.model._group_norm import group_norm


class ChannelsLastGroupNorm(nn.GroupNorm):
    """``nn.GroupNorm`` that leaves feature maps in channels_last as they lie. Gradients, other
    shapes and other layouts are torch's.

    Attributes:
        silu: whether SiLU of it is taken.
    """

    silu: bool

    def forward(self, input: Tensor) -> Tensor:
        """``[B,C,...]`` -> ``[B,C,...]``."""
        ours = (
            input.is_cuda
            and input.dim() == 4
            and not torch.is_grad_enabled()
            and input.is_contiguous(memory_format=torch.channels_last)
        )
        if not ours:
            normal = super().forward(input)
            return F.silu(normal) if self.silu else normal
        return group_norm(input, self.num_groups, self.weight, self.bias, self.eps, self.silu)


class _OfEmbeddings(nn.Module):
    """SiLU of the time embeddings ``[B,E]`` of a residual block; its feature maps ``[B,C,h,w]``
    pass, since its norms have taken theirs."""

    def forward(self, input: Tensor) -> Tensor:
        return input if input.dim() == 4 else F.silu(input)


class _ChannelsLastTransformer(Transformer2DModel):  # type: ignore[misc]
    """Tokens ``[B,hw,C]`` are feature maps in channels_last already: they are not copied."""

    def _get_output_for_continuous_inputs(
        self,
        hidden_states: Tensor,
        residual: Tensor,
        batch_size: int,
        height: int,
        width: int,
        inner_dim: int,
    ) -> Tensor:
        if self.use_linear_projection:
            hidden_states = self.proj_out(hidden_states)
        maps = hidden_states.reshape(batch_size, height, width, -1).permute(0, 3, 1, 2)
        if not self.use_linear_projection:
            maps = self.proj_out(maps)
        output: Tensor = maps + residual
        return output


def to_channels_last(network: nn.Module) -> None:
    """Turn a network's weights to channels_last, and let what it is made of keep to that."""
    network.to(memory_format=torch.channels_last)
    for module in network.modules():
        if type(module) is nn.GroupNorm and module.affine:
            module.__class__ = ChannelsLastGroupNorm
            module.silu = False  # type: ignore[assignment]
        if type(module) is Transformer2DModel:
            module.__class__ = _ChannelsLastTransformer
    for block in network.modules():
        if isinstance(block, ResnetBlock2D):
            _join_silu(block)


def _join_silu(block: Any) -> None:
    """Let a residual block's norms take the SiLU that follows them."""
    norms = (block.norm1, block.norm2)
    if block.time_embedding_norm != "default" or type(block.nonlinearity) is not nn.SiLU:
        return
    if all(isinstance(norm, ChannelsLastGroupNorm) for norm in norms):
        for norm in norms:
            norm.silu = True
        block.nonlinearity = _OfEmbeddings()
