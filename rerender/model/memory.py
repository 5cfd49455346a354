"""What a run needs of a GPU's memory, reckoned from configurations before a weight is read."""

from __future__ import annotations

import logging
import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import torch

from rerender.contracts import MemoryUse
from rerender.errors import ResourceError
from rerender.model._located import Located, NetworkFiles
from rerender.model._tiling import Tiles

log = logging.getLogger(__name__)
_MIB = 2**20
LEAST_SHARE = 0.8
"""Of an estimate: measured peaks were 0.81 to 1.04 of it (experiments/bench/gpu/h100.json). A run
is refused where not even this share is free."""
VAE_MAPS = 5.5
"""Feature maps as large as the decoder's largest that are in memory at once: set by the first of
the figures in `MemoryEstimate`, which the others then check."""
UNET_MAPS = 10
"""The same of UNet and ControlNets, with the states of skip connections: reckoned."""


@dataclass(frozen=True)
class MemoryEstimate:
    """Bytes of a device that a run needs, by what they are for.

    With b bytes a number, H x W pixels, h x w cells of the latent, and B requests in a batch:

    - weights: b times the number of parameters, for each network in its own type.
    - hidden_states: what cross-frame attention keeps, ``b * branches * steps * key_frames * S``,
      where ``S = sum of N_l C_l`` over the self-attention layers l of the decoder, with N_l cells
      and C_l channels; ``key_frames = 3 + (B - 1) / 2``: anchor, previous and current one, and
      half of one for each further request, which gives back what it has read.
    - autoencoder: ``VAE_MAPS * b * H * W * C``, C the channels of the decoder's largest map.
    - evaluation: ``UNET_MAPS * b * branches * B * h * w * (C_0 + C_1)``, the channels where the
      last decoder block joins a skip connection.

    The last two are not needed at once. ``VAE_MAPS`` and the half for each further request were
    set by the peaks of torch's allocator at 512x512 and B = 1, 2 and 4 with Stable Diffusion 1.5
    and one ControlNet in float16 on an H100, without graphs (experiments/bench/cuda/
    h100_keys.json). Measured later (experiments/bench/gpu/h100.json), B = 1, 2, 4 and 8 with
    graphs at 512x512 and 512x896 were 0.89 to 1.04 of the sum; Stable Diffusion XL at 1024x1024
    0.99 of it called and 0.81 with graphs. What graphs keep between calls is in no such peak.

    Not in it are other constraints than cross-frame attention, networks of flow and of control
    maps, gradients, and what CUDA itself takes.
    """

    weights: int
    hidden_states: int
    autoencoder: int
    evaluation: int

    @property
    def total(self) -> int:
        """The peak in bytes."""
        return self.weights + self.hidden_states + max(self.autoencoder, self.evaluation)


def estimate(
    located: Located, use: MemoryUse, dtype: torch.dtype, tiles: Tiles | None
) -> MemoryEstimate:
    """What a run needs.

    Args:
        located: the networks.
        use: what is asked of them.
        dtype: what they compute in.
        tiles: how the autoencoder cuts pictures; None leaves them whole.

    Raises:
        WeightsError: a configuration is missing or damaged.
    """
    height, width = use.size
    vae, unet = located.vae.config(), located.unet.config()
    # As `StableDiffusion` does: that of Stable Diffusion XL leaves the range of float16.
    upcast = vae.get("force_upcast", "encoder_block_out_channels" not in vae)
    half = dtype == torch.float16 and len(located.text_encoders) > 1
    vae_dtype = torch.float32 if half and upcast else dtype
    scale = 2 ** (len(_widths(vae)) - 1)
    cells = math.ceil(height / scale) * math.ceil(width / scale)
    branches = 2 if use.guided else 1
    key_frames = 3 + (use.batch_size - 1) / 2 if use.keeps else 0
    states = dtype.itemsize * branches * use.steps * _states(unet, cells)
    cut = tiles is not None and tiles.cut(height, width)
    sides = [min(side, tiles.side) if tiles and cut else side for side in use.size]
    widest = _widths(vae)[min(1, len(_widths(vae)) - 1)]
    joined = sum(unet["block_out_channels"][:2])
    return MemoryEstimate(
        weights=sum(
            _size(network, vae_dtype if network is located.vae else dtype)
            for network in located.networks()
        ),
        hidden_states=round(key_frames * states),
        autoencoder=round(VAE_MAPS * vae_dtype.itemsize * sides[0] * sides[1] * widest),
        evaluation=UNET_MAPS * dtype.itemsize * branches * use.batch_size * cells * joined,
    )


def free_memory(device: torch.device) -> int | None:
    """Bytes of a device that are free or already this process's own, which gives up the model
    before it loads another; None where the device does not say."""
    if device.type != "cuda":
        return None
    return torch.cuda.mem_get_info(device)[0] + torch.cuda.memory_reserved(device)


def refuse(needed: MemoryEstimate, free: int, use: MemoryUse, dtype: torch.dtype) -> None:
    """Refuse what does not fit, with the keys that make it smaller; what may just fit is warned of.

    Raises:
        ResourceError: more than is free is needed, even at `LEAST_SHARE` of the estimate.
    """
    if needed.total <= free:
        return
    cures = []
    if needed.weights <= free:
        cures.append(f"lower data.size (frames are {use.size[1]}x{use.size[0]} pixels)")
        if needed.autoencoder > needed.evaluation:
            cures.append("set model.vae_tiling=on")
        if needed.hidden_states:
            cures.append("set sampling.keep_device=cpu")
        if use.batch_size > 1:
            cures.append(f"lower sampling.batch_size ({use.batch_size})")
    if dtype == torch.float32:
        cures.append("set model.dtype=float16")
    cures.append("compute with model.device=cpu")
    parts = (
        f"weights {needed.weights / _MIB:.0f}, hidden states {needed.hidden_states / _MIB:.0f}, "
        f"autoencoder or evaluation {max(needed.autoencoder, needed.evaluation) / _MIB:.0f}"
    )
    told = (
        f"about {needed.total / _MIB:.0f} MiB of GPU memory are needed ({parts}), "
        f"{free / _MIB:.0f} MiB are free"
    )
    if LEAST_SHARE * needed.total <= free:
        log.warning("model.device: %s; if it runs out: %s", told, ", or ".join(cures))
        return
    raise ResourceError("model.device", told, ", or ".join(cures))


def _size(network: NetworkFiles, dtype: torch.dtype) -> int:
    """Bytes of its parameters, and of buffers as they are."""
    from rerender.model._loading import without_weights

    built = without_weights(network, network.config())
    numbers = sum(parameter.numel() for parameter in built.parameters())
    return int(numbers * dtype.itemsize + sum(_bytes(built.buffers())))


def _bytes(buffers: Iterable[torch.Tensor]) -> Iterable[int]:
    return (buffer.numel() * buffer.element_size() for buffer in buffers)


def _widths(vae: Mapping[str, Any]) -> list[int]:
    """Channels of an autoencoder's levels, the finest first."""
    return list(vae.get("encoder_block_out_channels") or vae["block_out_channels"])


def _states(unet: Mapping[str, Any], cells: int) -> int:
    """Numbers in the hidden states of all self-attention layers of the decoder, for one image."""
    channels = unet["block_out_channels"]
    count = len(channels)

    def levels(key: str, default: int) -> list[Any]:
        value = unet.get(key) or default
        return list(value) if isinstance(value, list | tuple) else [value] * count

    layers, depths = levels("layers_per_block", 2), levels("transformer_layers_per_block", 1)
    kinds = list(reversed(unet["up_block_types"]))
    return sum(
        (layers[level] + 1) * depths[level] * channels[level] * math.ceil(cells / 4**level)
        for level in range(count)
        if "CrossAttn" in kinds[level]
    )
