"""Clean latents changed by way of their pictures."""

from __future__ import annotations

from torch import Tensor

from rerender.contracts import Model


def change(model: Model, clean: Tensor, before: Tensor, after: Tensor) -> Tensor:
    """A clean latent ``[1,C,h,w]`` with what changed in its picture: ``x + E(after) - E(before)``.

    What the autoencoder loses cancels: a picture that stays as it is leaves the latent as it is.

    Args:
        model: whose autoencoder to use.
        clean: the latent.
        before: what it decodes to, ``[3,H,W]``.
        after: what it is to decode to, ``[3,H,W]``.
    """
    return clean + (model.encode(after) - model.encode(before)).to(clean)
