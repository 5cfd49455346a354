"""What networks that see the source take as channels besides the noisy latent."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor


def source_latent(latent: Tensor, config: Mapping[str, Any], guided: bool) -> Tensor:
    """The channels of InstructPix2Pix (Brooks et al. 2023, arXiv 2211.09800).

    Args:
        latent: the source's, scaled, ``[1,C,h,w]``.
        config: of the autoencoder; its scaling factor is left out here as it was in training.
        guided: whether there are three branches, of which the first sees zeros.

    Returns:
        ``[1 or 3,C,h,w]``.
    """
    seen = latent / config["scaling_factor"] + (config.get("shift_factor") or 0.0)
    return torch.cat([torch.zeros_like(seen), seen, seen]) if guided else seen


def masked_source(
    encode: Callable[[Tensor], Tensor], source: Tensor, repainted: Tensor | None
) -> Tensor:
    """The channels of inpainting: the mask in latent cells, then the latent of the source that is
    grey where the mask is.

    Args:
        encode: makes a scaled latent ``[1,C,h,w]`` of a picture.
        source: ``[3,H,W]`` in 0..1.
        repainted: the mask ``[1,H,W]`` in 0..1, hard at 0.5; None is everywhere.

    Returns:
        ``[1,1+C,h,w]``.
    """
    mask = torch.ones_like(source[:1]) if repainted is None else (repainted >= 0.5).to(source)
    covered = encode(torch.where(mask == 1, 0.5, source))  # the middle of the range
    cells = F.interpolate(mask[None].to(covered), covered.shape[-2:])
    return torch.cat([cells, covered], 1)
