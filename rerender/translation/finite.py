"""A key frame whose numbers ran away ends the run, before anything is kept of it."""

from __future__ import annotations

import torch
from torch import Tensor

from rerender.contracts import Model
from rerender.errors import ConfigError


def finite(image: Tensor, index: int, model: Model) -> Tensor:
    """A decoded picture as it is. It is looked at where it is read back anyway, once a key frame.

    Args:
        image: ``[3,H,W]`` on the processor.
        index: the key frame.
        model: what made it.

    Raises:
        ConfigError: a value is infinite or not a number.
    """
    # A sum is finite if all of its parts are, and is found in a tenth of the time.
    if bool(image.sum().isfinite()) or bool(torch.isfinite(image).all()):
        return image
    name = str(model.dtype).removeprefix("torch.")
    problem = f"key frame {index} has values that are not finite, computed in {name}"
    if model.dtype == torch.float16:
        cure = "say model.dtype=bfloat16 or float32, or model.vae=one that bears float16"
    elif model.dtype == torch.bfloat16:
        cure = "say model.dtype=float32"
    else:
        cure = "the weights, or a constraint's strength, are at fault: try constraint=[]"
    raise ConfigError("model.dtype", problem, cure)
