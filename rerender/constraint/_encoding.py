"""Fidelity-oriented image encoding (Rerender §4.1, eq. 8-9): x* = x + lambda * (x - E(D(x)))."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor

from rerender.contracts import Model


def encode_faithfully(
    model: Model, image: Tensor, compensation: float = 1.0, threshold: float = 0.125
) -> Tensor:
    """A latent that decodes closer to ``image`` than the autoencoder's own.

    What one more round trip through the autoencoder loses is added back beforehand,
    ``x* = x + e * compensation * (x - E(D(x)))``; not where that decodes to something wrong.

    Args:
        model: whose autoencoder to use.
        image: ``[3,H,W]`` in 0..1.
        compensation: the paper's lambda; 0 is plain encoding.
        threshold: mean absolute error, on the 0..1 scale, above which a pixel forbids
            compensation of the latent cells around it (0.25 on the paper's -1..1 scale).

    Returns:
        ``[1,C,h,w]``.
    """
    plain = model.encode(image)
    if compensation == 0:
        return plain
    lost = plain - model.encode(model.decode(plain))
    raised = plain + compensation * lost
    error = (model.decode(raised) - image.to(plain.device)).abs().mean(0, keepdim=True)
    wrong = (error > threshold).to(plain)[None]
    cells = F.interpolate(wrong, plain.shape[-2:], mode="bilinear", align_corners=False)
    forbidden = F.max_pool2d((cells > 0).to(plain), 3, stride=1, padding=1)
    return plain + (1 - forbidden) * compensation * lost
