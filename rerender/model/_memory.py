"""How much memory of a device a model needs, reckoned before it is loaded.

What is reckoned are tensors at the moment when most of them exist, as torch's allocator counts
them (``torch.cuda.max_memory_allocated``): neither what CUDA itself takes nor the gaps of the
allocator, nor the pool of captured graphs, nor LoRAs beside the weights, image encoders of
IP-Adapters, networks of flow and constraints, and gradients.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from rerender.contracts import MemoryDemand
from rerender.errors import ResourceError
from rerender.model._described import BACKBONE
from rerender.model._located import NetworkFiles

if TYPE_CHECKING:
    import torch

log = logging.getLogger(__name__)

MIB = 2**20
LEAST_SHARE = 0.85  # of an estimate that must be free: measured peaks were 0.88 to 1.05 of it
# Maps of the decoder's largest size that exist at once: in its finest residual block input, norm,
# output and what is added, and called in the stock order the copies that convolutions turn.
_CALLED_MAPS, _REPLAYED_MAPS = 6, 3


@dataclass(frozen=True)
class MemoryEstimate:
    """Bytes that exist at once, by what they are.

    Attributes:
        denoising: weights of the UNet and of the ControlNets.
        text: weights of the text encoders.
        vae: weights of the autoencoder.
        kept: hidden states for later key frames, and those that an evaluation reads and leaves.
        evaluation: feature maps of an evaluation.
        decoding: feature maps of the autoencoder.
        low: whether only networks at work are on the device.
    """

    denoising: int
    text: int
    vae: int
    kept: int
    evaluation: int
    decoding: int
    low: bool

    @property
    def weights(self) -> int:
        """Bytes of all weights."""
        return self.denoising + self.text + self.vae

    @property
    def total(self) -> int:
        """Bytes at the peak::

        full  weights + kept + max(evaluation, decoding)
        low   denoising + kept + max(evaluation, vae + decoding, text)
        """
        if self.low:
            at_work = max(self.evaluation, self.vae + self.decoding, self.text)
            return self.denoising + self.kept + at_work
        return self.weights + self.kept + max(self.evaluation, self.decoding)


@dataclass(frozen=True)
class NetworkSizes:
    """What of a checkpoint decides its memory.

    Attributes:
        parameters: numbers of weights of the UNet, ControlNets, text encoders, autoencoder.
        unet: configuration of the UNet.
        vae: configuration of the autoencoder.
        branches: evaluations of guidance: 2, or 3 of InstructPix2Pix.
    """

    parameters: tuple[int, int, int, int]
    unet: Mapping[str, Any]
    vae: Mapping[str, Any]
    branches: int = 2


def estimate(
    sizes: NetworkSizes,
    demand: MemoryDemand,
    itemsize: int,
    vae_itemsize: int,
    replayed: bool,
    low: bool,
    tile: int | None = None,
) -> MemoryEstimate:
    """Bytes that a model needs at once.

    Of a picture of W x H pixels (a tile of it where the autoencoder is tiled), with b branches of
    guidance, B key frames in a batch and S bytes a number::

        weights     S n                                n numbers of a network
        decoding    M S' max_i c_(i+1) W H / 4^i       M = 6 maps, 3 replayed; c_i channels of the
                                                       autoencoder's level i, S' bytes
        states      b S sum_l w_l h_l c_l              of one step: decoder self-attention layers l
        kept        K states (3 + (B - 1) / 2)         K steps: the anchor, the previous key frame,
                                                       its own, and half of one for each lane more,
                                                       since lanes are at other steps
                    + 3 B states                       buffers, where replayed or kept elsewhere
        evaluation  b B S max_i w_i h_i (2 s_i + 8 c_i)  s_i channels of all skip connections there;
                                                       8 c of the feed-forward network (GEGLU)

    M, the half, the 2 and the 8 were chosen in view of 12 peaks measured on an H100 (Stable
    Diffusion 1.5 with a ControlNet, 512x512 and 512x896, batches of 1 to 8), with which the sum
    agrees within 6 % in 11 and 10.2 % in one. Not in view were Stable Diffusion XL's at 1024x1024,
    0.97 of the sum called and 0.88 of it replayed (experiments/bench/gpu/h100.json).

    Args:
        sizes: of the networks.
        demand: of the run.
        itemsize: bytes of a number of the networks.
        vae_itemsize: bytes of a number of the autoencoder.
        replayed: whether evaluations are replayed as CUDA graphs.
        low: whether only networks at work are on the device; the autoencoder is not replayed then.
        tile: longest side that the autoencoder computes, pixels; None computes pictures whole.
    """
    unet, nets, text, vae = sizes.parameters
    branches = sizes.branches if demand.guided else 1
    width, height = demand.width, demand.height
    factor = 2 ** (len(_vae_channels(sizes.vae)) - 1)
    cells = (width // factor) * (height // factor)
    if tile is not None:
        width, height = min(width, tile), min(height, tile)
    maps = _REPLAYED_MAPS if replayed and not low else _CALLED_MAPS
    states = branches * _states(sizes.unet, cells)
    buffers = 3 * demand.batch_size if replayed or demand.kept_elsewhere else 0
    kept_states = 0.0 if demand.kept_elsewhere else 3 + (demand.batch_size - 1) / 2
    kept_itemsize = demand.kept_itemsize or itemsize
    kept = demand.kept_steps * kept_states * kept_itemsize
    if demand.kept_steps:
        kept += buffers * itemsize
    return MemoryEstimate(
        denoising=(unet + nets) * itemsize,
        text=text * itemsize,
        vae=vae * vae_itemsize,
        kept=int(kept * states),
        evaluation=branches * demand.batch_size * itemsize * _evaluation(sizes.unet, cells),
        decoding=maps * vae_itemsize * _largest_map(sizes.vae, width * height),
        low=low,
    )


def parameters(network: NetworkFiles) -> int:
    """How many weights a network has, its buffers of floating point included, told from its
    configuration alone."""
    from rerender.model._loading import without_weights

    built = without_weights(network, network.config())
    found = [*built.parameters(), *built.buffers()]
    return sum(each.numel() for each in found if each.is_floating_point())


def sizes_of(
    unet: NetworkFiles,
    controlnets: Sequence[NetworkFiles],
    text_encoders: Sequence[NetworkFiles],
    vae: NetworkFiles,
    branches: int,
) -> NetworkSizes:
    """What of the networks of a checkpoint decides its memory."""
    groups = ((unet,), controlnets, text_encoders, (vae,))
    counted = tuple(sum(map(parameters, group)) for group in groups)
    return NetworkSizes(counted, unet.config(), vae.config(), branches)  # type: ignore[arg-type]


def free_memory(device: torch.device) -> int | None:
    """Bytes that this process can still take on a device, or has there and can take anew; None
    where torch cannot tell."""
    import torch

    if device.type != "cuda":
        return None
    free, _ = torch.cuda.mem_get_info(device)
    return int(free) + int(torch.cuda.memory_reserved(device))


def chosen(
    asked: Literal["auto", "full", "low"], reckon: Callable[[bool], MemoryEstimate], free: int
) -> Literal["full", "low"]:
    """The level of ``model.memory`` that fits; what may just fit is tried, with a warning.

    Args:
        asked: what is configured.
        reckon: the estimate, of low where true.
        free: bytes that can be taken.

    Raises:
        ResourceError: none that is asked for fits, even at ``LEAST_SHARE`` of its estimate.
    """
    needed = {low: reckon(low).total for low in (False, True)}
    if asked != "low" and needed[False] <= free:
        return "full"
    if asked != "full" and needed[True] <= free:
        if asked == "auto":
            log.warning(
                "model.memory: about %d MiB are needed on the device and %d are free, so that "
                "networks are there only while they work (low, %d MiB), which is slower",
                needed[False] // MIB,
                free // MIB,
                needed[True] // MIB,
            )
        return "low"
    least = needed[asked != "full"]
    cure = "lower data.size or sampling.batch_size, keep hidden states elsewhere "
    cure += "(sampling.keep_device=cpu), or take model.dtype=float16"
    if asked == "full":
        cure += ", model.vae_tiling=on or model.memory=low"
    problem = f"about {least // MIB} MiB of the device are needed, {free // MIB} MiB are free"
    if LEAST_SHARE * least <= free:
        log.warning("model.memory: %s; if it runs out: %s", problem, cure)
        return "full" if asked == "full" else "low"
    raise ResourceError("model.memory", f"{problem} (model.memory={asked})", cure)


def _vae_channels(config: Mapping[str, Any]) -> Sequence[int]:
    found: Sequence[int] | None = config.get("encoder_block_out_channels")
    return found or config.get("block_out_channels") or [64]


def _largest_map(config: Mapping[str, Any], pixels: int) -> int:
    """Numbers of the decoder's largest feature map. The finest level takes what the next coarser
    one has been enlarged to."""
    channels = _vae_channels(config)
    entering = [*channels[1:], channels[-1]]
    maps: list[int] = [count * pixels // 4**level for level, count in enumerate(entering)]
    return max(maps)


def _levels(config: Mapping[str, Any], key: str, usual: Any = None) -> list[Any]:
    """A value for each level, the finest first."""
    value = config.get(key, BACKBONE.get(key, usual))
    count = len(config.get("block_out_channels", BACKBONE["block_out_channels"]))
    return list(value) if isinstance(value, (list, tuple)) else [value] * count


def _states(config: Mapping[str, Any], cells: int) -> int:
    """Numbers of the hidden states of decoder self-attention, of one picture in one step."""
    channels = _levels(config, "block_out_channels")
    layers = _levels(config, "layers_per_block")
    deep = _levels(config, "transformer_layers_per_block", 1)
    attend = [name.startswith("CrossAttn") for name in _levels(config, "up_block_types")[::-1]]
    found: int = sum(
        (layers[i] + 1) * deep[i] * channels[i] * (cells // 4**i)
        for i in range(len(channels))
        if attend[i]
    )
    return found


def _evaluation(config: Mapping[str, Any], cells: int) -> int:
    """Numbers of the feature maps of an evaluation, of one picture."""
    channels = _levels(config, "block_out_channels")
    layers = _levels(config, "layers_per_block")
    skips = 0
    widest = 0
    for level, count in enumerate(channels):
        here = cells // 4**level
        entering = channels[max(level - 1, 0)]
        skips += (layers[level] * count + entering) * here
        widest = max(widest, 8 * count * here)
    return 2 * skips + widest
