"""FreeU as the original system applies it (Si et al. 2023, arXiv 2309.11497).

The diffusers method ``enable_freeu`` is not the same: it scales by a constant and chooses blocks by
position. Here the first half of the backbone channels is scaled by a map that follows the mean
activation, and low frequencies of the skip connection are scaled in the Fourier domain.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from rerender.errors import ConfigError


@dataclass(frozen=True)
class FreeU:
    """Strengths of FreeU (Si et al. 2023); all ones leave the network unchanged.

    Attributes:
        b1: backbone factor in decoder blocks fed by the widest signal (1280 channels in SD 1.5).
        b2: backbone factor in those fed by the second widest (640 channels).
        s1: factor of the skip connection's low frequencies, widest signal.
        s2: the same, second widest.
    """

    b1: float = 1.0
    b2: float = 1.0
    s1: float = 1.0
    s2: float = 1.0

    def __post_init__(self) -> None:
        for key in ("b1", "b2", "s1", "s2"):
            if not 0.0 <= getattr(self, key) <= 4.0:
                raise ConfigError(
                    f"model.freeu.{key}",
                    f"a FreeU factor lies in 0..4, received {getattr(self, key)}",
                    "1 switches it off; usual values are 1.1, 1.2, 1.0, 0.2",
                )

    def install(self, unet: Any) -> None:
        """Hook the decoder of a ``UNet2DConditionModel``."""
        widths = sorted(set(unet.config.block_out_channels))[::-1]
        strengths = dict(zip(widths, ((self.b1, self.s1), (self.b2, self.s2)), strict=False))
        for resnet, width in _decoder_resnets(unet):
            if width in strengths:
                resnet.register_forward_pre_hook(_hook(width, *strengths[width]))


def _decoder_resnets(unet: Any) -> list[tuple[Any, int]]:
    """Every decoder residual block with the number of channels of its backbone input."""
    found = []
    width = unet.config.block_out_channels[-1]
    for block in unet.up_blocks:
        for resnet in block.resnets:
            found.append((resnet, width))
            width = resnet.out_channels
    return found


def _hook(width: int, backbone: float, skip: float) -> Callable[..., tuple[Any, ...]]:
    def scale(module: Any, inputs: tuple[Any, ...]) -> tuple[Any, ...]:
        hidden, residual = inputs[0][:, :width], inputs[0][:, width:]
        joined = torch.cat([scale_backbone(hidden, backbone), scale_skip(residual, skip)], 1)
        return (joined, *inputs[1:])

    return scale


def scale_backbone(hidden: Tensor, factor: float) -> Tensor:
    """Scale the first half of the channels of ``[B,C,h,w]`` by ``1 + (factor-1) n``, n being the
    min-max normalised channel mean of each sample."""
    mean = hidden.mean(1, keepdim=True)
    low, high = mean.amin((2, 3), keepdim=True), mean.amax((2, 3), keepdim=True)
    amount = 1 + (factor - 1) * (mean - low) / (high - low).clamp_min(1e-12)
    half = hidden.shape[1] // 2
    return torch.cat([hidden[:, :half] * amount, hidden[:, half:]], 1)


def scale_skip(residual: Tensor, factor: float) -> Tensor:
    """Scale the four lowest centred frequencies of ``[B,C,h,w]``."""
    spectrum = torch.fft.fftshift(torch.fft.fftn(residual.float(), dim=(-2, -1)), dim=(-2, -1))
    row, column = residual.shape[-2] // 2, residual.shape[-1] // 2
    mask = torch.ones_like(spectrum.real)
    mask[..., row - 1 : row + 1, column - 1 : column + 1] = factor
    spectrum = torch.fft.ifftshift(spectrum * mask, dim=(-2, -1))
    filtered: Tensor = torch.fft.ifftn(spectrum, dim=(-2, -1)).real
    return filtered.to(residual.dtype)
