"""Whether the parts of a checkpoint are of the family that is supported, and fit together.

Everything is told from configuration files, before any weight is read.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeGuard

from rerender.errors import WeightsError
from rerender.model import _noising
from rerender.model._files import CONFIG, INDEX, SCHEDULER, read, vocabulary
from rerender.model._keys import CONTROLNET, UNET, VAE

log = logging.getLogger(__name__)

_FAMILY = "take a Stable Diffusion 1 or 2 checkpoint"
_CLASSES = {
    "unet": ("UNet2DConditionModel",),
    "vae": ("AutoencoderKL",),
    "text_encoder": ("CLIPTextModel", "CLIPTextModelWithProjection"),
    "tokenizer": ("CLIPTokenizer", "CLIPTokenizerFast"),
}
_OTHER_PARTS = ("text_encoder_2", "transformer", "prior", "decoder", "motion_adapter", "unet_2")
_OTHER_PIPELINES = ("StableDiffusionXL", "StableDiffusion3")
_OUR_PIPELINES = ("StableDiffusion", "LatentConsistencyModel")
_CHANNELS = {
    5: "a checkpoint that needs a depth map too",
    7: "an upscaler",
    8: "InstructPix2Pix, which takes the source as further channels",
    9: "an inpainting checkpoint, which takes a mask and the masked picture as further channels",
}
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
AUTOENCODER: Mapping[str, Any] = {"block_out_channels": [64], "latent_channels": 4}
TEXT: Mapping[str, Any] = {"hidden_size": 512, "vocab_size": 49408, "max_position_embeddings": 77}


def check(base: Path, vae: Path, controlnets: Sequence[Path]) -> None:
    """Refuse a checkpoint of another kind, or one whose parts do not fit together.

    Args:
        base: the folder of the pipeline.
        vae: the folder of the autoencoder.
        controlnets: the folder of each ControlNet.

    Raises:
        WeightsError: with the file and the key that tell.
    """
    _check_pipeline(base, own_vae=vae == base / "vae")
    _noising.checked(read(base / SCHEDULER), base / SCHEDULER)
    unet = _unet(base / "unet" / CONFIG)
    _check_autoencoder(_vae(vae / CONFIG), unet)
    text = _text(base / "text_encoder" / CONFIG)
    _check_text(text, unet, base / "tokenizer")
    factor = len(_vae(vae / CONFIG).get("block_out_channels"))
    for folder in controlnets:
        net = _controlnet(folder / CONFIG)
        _check_controlnet(net, unet)
        hint = net.get("conditioning_embedding_out_channels")
        if len(hint) != factor:
            raise WeightsError(
                net.file,
                f"conditioning_embedding_out_channels must have {factor} entries as "
                f"block_out_channels of {vae / CONFIG} has, received {len(hint)}",
                "take a ControlNet of this checkpoint's family",
            )


def _check_pipeline(base: Path, own_vae: bool) -> None:
    file = base / INDEX
    index = read(file)
    name = index.get("_class_name")
    if name is not None and (
        not str(name).startswith(_OUR_PIPELINES) or str(name).startswith(_OTHER_PIPELINES)
    ):
        raise WeightsError(file, f"_class_name is {str(name)[:80]}, another family", _FAMILY)
    for part in _OTHER_PARTS:
        if any(entry is not None for entry in _entry(index, part)):
            raise WeightsError(file, f"has a {part}, as other families have", _FAMILY)
    for part, classes in _CLASSES.items():
        named = [str(entry) for entry in _entry(index, part) if entry is not None]
        if part == "vae" and not own_vae:
            continue
        if named and named[-1] not in classes:
            problem = f"{part} must be a {classes[0]}, received {named[-1][:80]}"
            raise WeightsError(file, problem, _FAMILY)


def _entry(index: Mapping[str, Any], part: str) -> list[Any]:
    found = index.get(part)
    return found if isinstance(found, list) else [found]


def _of_class(file: Path, wanted: str, cure: str) -> Mapping[str, Any]:
    config = read(file)
    found = config.get("_class_name", wanted)
    if found != wanted:
        raise WeightsError(file, f"_class_name must be {wanted}, received {found!r}"[:300], cure)
    return config


def _unet(file: Path) -> Described:
    unet = Described(file, _of_class(file, "UNet2DConditionModel", _FAMILY), BACKBONE)
    _check_sizes(unet, ("in_channels", "out_channels"))
    _check_levels(unet, "down_block_types", _DOWN)
    _check_levels(unet, "up_block_types", _UP)
    UNET.check(unet.config, file)
    return unet


def _controlnet(file: Path) -> Described:
    cure = "take a ControlNet of Stable Diffusion 1 or 2 in diffusers layout"
    net = Described(file, _of_class(file, "ControlNetModel", cure), BACKBONE)
    _check_sizes(net, ("in_channels",))
    _check_levels(net, "down_block_types", _DOWN)
    _check_list(net, "conditioning_embedding_out_channels")
    CONTROLNET.check(net.config, file)
    return net


def _vae(file: Path) -> Described:
    cure = "take the autoencoder of a Stable Diffusion 1 or 2 checkpoint (AutoencoderKL)"
    vae = Described(file, _of_class(file, "AutoencoderKL", cure), AUTOENCODER)
    _check_sizes(vae, ("latent_channels",))
    _check_list(vae, "block_out_channels")
    VAE.check(vae.config, file)
    scale = vae.config.get("scaling_factor", 0.18215)
    shift = vae.config.get("shift_factor") or 0.0
    if not _is_number(scale) or scale <= 0 or not _is_number(shift):
        key = "scaling_factor" if _is_number(shift) else "shift_factor"
        problem = f"{key} must be a number, the former above 0, received {vae.config.get(key)!r}"
        raise WeightsError(file, problem[:300], f"correct {key} in that file")
    if "scaling_factor" not in vae.config and vae.get("latent_channels") != 4:
        # 0.18215 is what Stable Diffusion's four channels were scaled by before the key existed.
        problem = f"has no scaling_factor for its {vae.get('latent_channels')} latent channels"
        raise WeightsError(file, problem, "add the one it was trained with")
    return vae


def _text(file: Path) -> Described:
    config = read(file)
    kind = config.get("model_type", "clip_text_model")
    if kind not in ("clip_text_model", "clip"):
        problem = f"model_type must be clip_text_model, received {kind!r}"
        raise WeightsError(file, problem[:300], _FAMILY)
    inner = config.get("text_config")
    text = Described(file, inner if isinstance(inner, dict) else config, TEXT)
    _check_sizes(text, tuple(TEXT))
    return text


def _check_sizes(part: Described, keys: Sequence[str]) -> None:
    for key in keys:
        value = part.get(key)
        if not _is_whole(value) or not 1 <= value <= 1 << 20:
            problem = f"{key} must be a whole number above 0, received {value!r}"
            raise WeightsError(part.file, problem[:300], f"correct {key} in that file")


def _check_list(part: Described, key: str) -> None:
    value = part.get(key)
    if not isinstance(value, list) or not value or not all(map(_is_whole, value)):
        problem = f"{key} must be a list of whole numbers, received {value!r}"
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
        raise WeightsError(part.file, problem[:300], _FAMILY)


def _check_autoencoder(vae: Described, unet: Described) -> None:
    latents, channels = vae.get("latent_channels"), unet.get("in_channels")
    if channels != unet.get("out_channels"):
        problem = f"in_channels is {channels}, out_channels is {unet.get('out_channels')}"
        what = _CHANNELS.get(channels, "a checkpoint that takes or gives more than latents")
        raise WeightsError(unet.file, f"{problem}: {what}", _FAMILY)
    if latents != channels:
        raise WeightsError(
            vae.file,
            f"latent_channels is {latents}, in_channels of {unet.file} is {channels}",
            "take the autoencoder of this checkpoint (model.vae=null)",
        )


def _check_text(text: Described, unet: Described, tokenizer: Path) -> None:
    width = text.get("hidden_size")
    for wanted in unet.levels("cross_attention_dim"):
        if wanted != width:
            raise WeightsError(
                text.file,
                f"hidden_size is {width}, cross_attention_dim of {unet.file} is {wanted}",
                "take the text encoder of this checkpoint",
            )
    words, file = vocabulary(tokenizer)
    if words > text.get("vocab_size"):
        raise WeightsError(
            file,
            f"has {words} tokens, vocab_size of {text.file} is {text.get('vocab_size')}",
            "take the tokenizer of this text encoder",
        )
    settings = tokenizer / "tokenizer_config.json"
    longest = read(settings).get("model_max_length")
    most = int(text.get("max_position_embeddings"))
    if not _is_whole(longest) or not 3 <= longest <= most:
        said = "has no model_max_length" if longest is None else f"model_max_length is {longest!r}"
        problem = f"{said[:100]}, max_position_embeddings of {text.file} is {most}"
        raise WeightsError(settings, problem, f'set "model_max_length": {most} in that file')


def _check_controlnet(net: Described, unet: Described) -> None:
    for key in (
        *("in_channels", "block_out_channels", "layers_per_block", "down_block_types"),
        *("cross_attention_dim", "attention_head_dim"),
    ):
        mine, theirs = _comparable(net, key), _comparable(unet, key)
        if mine != theirs:
            raise WeightsError(
                net.file,
                f"{key} is {_short(net.get(key))}, that of {unet.file} is {_short(unet.get(key))}",
                "take a ControlNet of this checkpoint's family (1.5 and 2.1 differ)",
            )


def _comparable(part: Described, key: str) -> Any:
    if key in ("layers_per_block", "cross_attention_dim", "attention_head_dim"):
        return part.levels(key)
    return part.get(key)


def _short(value: object) -> str:
    return f"{value!r}"[:100].replace("'", '"')


def _is_whole(value: object) -> TypeGuard[int]:
    return isinstance(value, int) and not isinstance(value, bool)


def _is_number(value: object) -> bool:
    finite = isinstance(value, (int, float)) and abs(value) < float("inf")
    return finite and not isinstance(value, bool)


def networks(base: Path, vae: Path, controlnets: Sequence[Path]) -> Iterator[tuple[str, Path]]:
    """Name and folder of each network."""
    yield "text_encoder", base / "text_encoder"
    yield "vae", vae
    yield "unet", base / "unet"
    for folder in controlnets:
        yield "controlnet", folder
