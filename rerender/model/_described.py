"""Configurations of networks, each checked by itself: class, sizes, and every key."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeGuard

from rerender.errors import WeightsError
from rerender.model._keys import CONTROLNET, T2I, TINY_VAE, UNET, UNION, VAE
from rerender.model._located import NetworkFiles

FAMILY = "take a Stable Diffusion 1, 2 or XL checkpoint"
_DOWN = ("CrossAttnDownBlock2D", "DownBlock2D")
_UP = ("CrossAttnUpBlock2D", "UpBlock2D")


@dataclass(frozen=True)
class Described:
    """A network's configuration with the defaults of its class for keys that are not there.

    Attributes:
        file: where it stands.
        config: what it says.
        defaults: of the keys that are compared here.
    """

    file: Path
    config: Mapping[str, Any]
    defaults: Mapping[str, Any] = field(default_factory=dict)

    def get(self, key: str) -> Any:
        return self.config.get(key, self.defaults.get(key))

    def levels(self, key: str) -> tuple[Any, ...]:
        """A value for each level, where one may stand for all."""
        found, levels = self.get(key), len(self.get("block_out_channels"))
        return tuple(found) if isinstance(found, list) else (found,) * levels


BACKBONE: Mapping[str, Any] = {
    "in_channels": 4,
    "out_channels": 4,
    "block_out_channels": [320, 640, 1280, 1280],
    "layers_per_block": 2,
    "down_block_types": [_DOWN[0], _DOWN[0], _DOWN[0], _DOWN[1]],
    "up_block_types": [_UP[1], _UP[0], _UP[0], _UP[0]],
    "cross_attention_dim": 1280,
    "attention_head_dim": 8,
    "conditioning_embedding_out_channels": [16, 32, 96, 256],
}
UNION_BACKBONE: Mapping[str, Any] = {
    **{key: BACKBONE[key] for key in BACKBONE if not key.startswith(("out_", "up_"))},
    "conditioning_embedding_out_channels": [48, 96, 192, 384],
    "num_control_type": 6,
}
T2I_ADAPTER: Mapping[str, Any] = {
    "in_channels": 3,
    "channels": [320, 640, 1280, 1280],
    "num_res_blocks": 2,
    "downscale_factor": 8,
    "adapter_type": "full_adapter",
}
AUTOENCODER: Mapping[str, Any] = {
    "block_out_channels": [64],
    "latent_channels": 4,
    "down_block_types": ["DownEncoderBlock2D"],
    "up_block_types": ["UpDecoderBlock2D"],
}
TINY_AUTOENCODER: Mapping[str, Any] = {
    "encoder_block_out_channels": [64, 64, 64, 64],
    "latent_channels": 4,
    "scaling_factor": 1.0,
}
_COUNTS = (
    *("layers_per_block", "transformer_layers_per_block", "reverse_transformer_layers_per_block"),
    *("num_res_blocks", "num_encoder_blocks", "num_decoder_blocks"),
    *("num_hidden_layers", "num_attention_heads"),
)
_MOST = 1000  # layers, heads: far more than any network has
TEXT: Mapping[str, Any] = {"hidden_size": 512, "vocab_size": 49408, "max_position_embeddings": 77}


def unet(network: NetworkFiles) -> Described:
    """The denoising network.

    Raises:
        WeightsError: of another kind, or with a key that is not supported.
    """
    found = Described(network.file, _of_class(network, ("UNet2DConditionModel",), FAMILY), BACKBONE)
    _check_sizes(found, ("in_channels", "out_channels"))
    _check_levels(found, "down_block_types", _DOWN)
    _check_levels(found, "up_block_types", _UP)
    _check_counts(found)
    UNET.check(found.config, network.file)
    return found


def controlnet(network: NetworkFiles) -> Described:
    """A ControlNet (errors as for `unet`)."""
    cure = "take a ControlNet of this checkpoint's family in diffusers layout"
    config = _of_class(network, ("ControlNetModel", "ControlNetUnionModel", "T2IAdapter"), cure)
    union = is_union(config)
    found = Described(network.file, config, UNION_BACKBONE if union else BACKBONE)
    _check_sizes(found, ("in_channels",))
    _check_levels(found, "down_block_types", _DOWN)
    _check_list(found, "conditioning_embedding_out_channels")
    _check_counts(found)
    (UNION if union else CONTROLNET).check(found.config, network.file)
    return found


def t2i_adapter(network: NetworkFiles) -> Described:
    """A T2I-Adapter (errors as for `unet`)."""
    found = Described(network.file, network.config(), T2I_ADAPTER)
    _check_sizes(found, ("in_channels", "num_res_blocks", "downscale_factor"))
    _check_list(found, "channels")
    _check_counts(found)
    T2I.check(found.config, network.file)
    return found


def is_t2i_adapter(config: Mapping[str, Any]) -> bool:
    """Whether it adds features to the denoising network (Mou et al. 2023, arXiv 2302.08453)."""
    return config.get("_class_name") == "T2IAdapter"


def is_union(config: Mapping[str, Any]) -> bool:
    """Whether it is one ControlNet for several controls."""
    return config.get("_class_name") == "ControlNetUnionModel"


def vae(network: NetworkFiles) -> Described:
    """An autoencoder (errors as for `unet`)."""
    cure = "take the autoencoder of a Stable Diffusion checkpoint (AutoencoderKL)"
    file = network.file
    config = _of_class(network, ("AutoencoderKL", "AutoencoderTiny"), cure)
    tiny = config.get("_class_name") == "AutoencoderTiny"
    found = Described(file, config, TINY_AUTOENCODER if tiny else AUTOENCODER)
    _check_sizes(found, ("latent_channels",))
    if tiny:
        _check_list(found, "encoder_block_out_channels")
    else:
        _check_levels(found, "down_block_types", AUTOENCODER["down_block_types"])
        _check_levels(found, "up_block_types", AUTOENCODER["up_block_types"])
    _check_counts(found)
    (TINY_VAE if tiny else VAE).check(config, file)
    scale = config.get("scaling_factor", 1.0 if tiny else 0.18215)
    shift = config.get("shift_factor") or 0.0
    if not _is_number(scale) or scale <= 0 or not _is_number(shift):
        key = "scaling_factor" if _is_number(shift) else "shift_factor"
        problem = f"{key} must be a number, the former above 0, received {config.get(key)!r}"
        raise WeightsError(file, problem[:300], f"correct {key} in that file")
    if "scaling_factor" not in config and found.get("latent_channels") != 4:
        # 0.18215 is what Stable Diffusion's four channels were scaled by before the key existed.
        problem = f"has no scaling_factor for its {found.get('latent_channels')} latent channels"
        raise WeightsError(file, problem, "add the one it was trained with")
    return found


def text_encoder(network: NetworkFiles) -> Described:
    """A CLIP text encoder (errors as for `unet`)."""
    config = network.config()
    kind = config.get("model_type", "clip_text_model")
    if kind not in ("clip_text_model", "clip"):
        problem = f"model_type must be clip_text_model, received {kind!r}"
        raise WeightsError(network.file, problem[:300], FAMILY)
    inner = config.get("text_config")
    text = Described(network.file, inner if isinstance(inner, dict) else config, TEXT)
    _check_sizes(text, tuple(TEXT))
    _check_counts(text)
    return text


def scales(autoencoder: Described) -> int:
    """Sides of an image are halved once less than this on the way to a latent."""
    key = (
        "encoder_block_out_channels" if "encoder_block_out_channels" in autoencoder.defaults else ""
    )
    return len(autoencoder.get(key or "block_out_channels"))


def _of_class(network: NetworkFiles, wanted: Sequence[str], cure: str) -> Mapping[str, Any]:
    config = network.config()
    found = config.get("_class_name", wanted[0])
    if found not in wanted:
        named = " or ".join(wanted)
        problem = f"_class_name must be {named}, received {found!r}"
        raise WeightsError(network.file, problem[:300], cure)
    return config


def _check_sizes(part: Described, keys: Sequence[str]) -> None:
    for key in keys:
        value = part.get(key)
        if not is_whole(value) or not 1 <= value <= 1 << 20:
            problem = f"{key} must be a whole number above 0, received {value!r}"
            raise WeightsError(part.file, problem[:300], f"correct {key} in that file")


def _check_counts(part: Described) -> None:
    """What is built once for each of a number is told before it is built: a huge one would take for
    ever, one below nothing would leave weights out."""
    for key in _COUNTS:
        value, counts = part.config.get(key), []
        waiting = [value]
        while waiting:
            one = waiting.pop()
            waiting += one if isinstance(one, list) else []
            counts += [] if isinstance(one, list) or one is None else [one]
        least = 1 if key.startswith("num_") else 0
        if not all(is_whole(count) and least <= count <= _MOST for count in counts):
            problem = f"{key} must be whole numbers in {least}..{_MOST}, received {value!r}"
            raise WeightsError(part.file, problem[:300], f"correct {key} in that file")


def _check_list(part: Described, key: str) -> None:
    value = part.get(key)
    sizes = value if isinstance(value, list) and value else [None]
    if not all(is_whole(size) and 1 <= size <= 1 << 20 for size in sizes):
        problem = f"{key} must be a list of whole numbers above 0, received {value!r}"
        raise WeightsError(part.file, problem[:300], f"correct {key} in that file")


def _check_levels(part: Described, key: str, blocks: Sequence[str]) -> None:
    """One block of a supported kind for each level, so that layers are found and counted."""
    _check_list(part, "block_out_channels")
    found, levels = part.get(key), len(part.get("block_out_channels"))
    if not isinstance(found, list) or len(found) != levels:
        count = len(found) if isinstance(found, list) else found
        problem = f"{key} must have {levels} entries as block_out_channels has, received {count}"
        raise WeightsError(part.file, problem, f"correct {key} in that file")
    other = next((name for name in found if name not in blocks), None)
    if other is not None:
        problem = f"{key} must be of {' and '.join(blocks)}, received {other!r}"
        raise WeightsError(part.file, problem[:300], FAMILY)


def is_whole(value: object) -> TypeGuard[int]:
    """Whether a value is a whole number."""
    return isinstance(value, int) and not isinstance(value, bool)


def _is_number(value: object) -> bool:
    finite = isinstance(value, (int, float)) and abs(value) < float("inf")
    return finite and not isinstance(value, bool)
