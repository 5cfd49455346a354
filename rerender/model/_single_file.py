"""Single safetensors files: which checkpoint one holds, and its weights as diffusers names them.

What is in a file is told from the names and shapes in its header. The configuration that it lacks
stands in `rerender/model/configs`, one folder for each family, so that nothing is asked of a hub.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any, NamedTuple

from torch import Tensor

from rerender.errors import WeightsError
from rerender.model._files import Header, header
from rerender.model._located import Located, NetworkFiles, in_folder

log = logging.getLogger(__name__)

CONFIGS = Path(__file__).parent / "configs"
_UNET = "model.diffusion_model."
_FIRST = f"{_UNET}input_blocks.0.0.weight"
_CROSS = tuple(f"{_UNET}input_blocks.{i}.1.transformer_blocks.0.attn2.to_k.weight" for i in (1, 4))
_PREFIXES = {
    "unet": (_UNET,),
    "vae": ("first_stage_model.",),
    "text_encoder": ("cond_stage_model.", "conditioner.embedders.0."),
    "text_encoder_2": ("conditioner.embedders.1.",),
    "controlnet": ("control_model.",),
}
_FAMILIES = {768: "sd15", 1024: "sd21", 2048: "sdxl"}
_OTHER_FAMILIES = (
    ("double_blocks.", "a FLUX or HunyuanVideo transformer"),
    ("double_stream_", "a transformer of another family"),
    ("joint_blocks.", "a Stable Diffusion 3 transformer"),
    ("joint_transformer_blocks.", "an AuraFlow transformer"),
    ("single_transformer_blocks.", "a FLUX transformer"),
    ("motion_modules.", "a motion module of AnimateDiff"),
    ("transformer_blocks.", "a diffusion transformer, of a video model or another family"),
)
_ELSEWHERE = (
    ("lora_", "a LoRA", "give it as model.loras=[{path: FILE, scale: 1}]"),
    (".lora", "a LoRA", "give it as model.loras=[{path: FILE, scale: 1}]"),
    ("control_model.", "a ControlNet", "give it as model.controlnets={canny: FILE}"),
    ("controlnet_cond_embedding.", "a ControlNet", "give it as model.controlnets={canny: FILE}"),
    (
        "ip_adapter.",
        "an IP-Adapter",
        "give it as model.ip_adapters=[{path: FILE, image: PICTURE, scale: 0.6}]",
    ),
    ("emb_params", "a textual inversion", "give it as model.embeddings={WORD: FILE}"),
    ("encoder.down", "an autoencoder", "give it as model.vae=FILE"),
)


class SingleFile(NamedTuple):
    """A file and what its header says."""

    path: Path
    header: Header

    def shape(self, name: str) -> tuple[int, ...]:
        """The shape of a tensor; () where it is not there."""
        entry = self.header.tensors.get(name)
        return entry.shape if entry else ()


def opened(path: Path) -> SingleFile:
    """A file with its header.

    Raises:
        WeightsError: it is no safetensors file.
    """
    if path.suffix in (".ckpt", ".pt", ".pth", ".bin"):
        raise WeightsError(
            path,
            "is a pickle, which is never opened",
            "take the .safetensors file of the same checkpoint, or convert it once",
        )
    return SingleFile(path, header(path))


def pipeline(path: Path, config: Path | None, own_vae: bool) -> Located:
    """The parts of a whole checkpoint in one file.

    Args:
        path: the file.
        config: a folder in diffusers layout that says how it is built; None tells it from the file.
        own_vae: whether its own autoencoder is needed.

    Raises:
        WeightsError: it holds something else, or lacks a part.
    """
    file = opened(path)
    if _FIRST not in file.header.tensors:
        raise _elsewhere(file)
    if config is not None:
        found = in_folder(config, path)
    else:
        family, channels = _family(file)
        found = in_folder(CONFIGS / family, path, CONFIGS / "words")
        found = replace(found, changes=_prediction(file, family, channels))
        if channels != 4:
            built = {**found.unet.config(), "in_channels": channels}
            found = replace(found, unet=replace(found.unet, derived=built))
    names = file.header.tensors
    for network in found.networks():
        needed = own_vae or network.role != "vae"
        if needed and not any(name.startswith(_PREFIXES[network.role]) for name in names):
            cure = "give one: model.vae=FILE or FOLDER" if network.role == "vae" else "take another"
            raise WeightsError(path, f"holds no {network.role}", cure)
    return found


def autoencoder(path: Path, like: NetworkFiles) -> NetworkFiles:
    """An autoencoder in one file, built like that of the checkpoint."""
    file = opened(path)
    names = file.header.tensors
    if not any(name.endswith("encoder.conv_in.weight") for name in names):
        raise WeightsError(path, "holds no autoencoder", "give the file of a VAE")
    return NetworkFiles("vae", like.folder, path, like.config())


def controlnet(path: Path, unet: NetworkFiles) -> NetworkFiles:
    """A ControlNet in one file, built like the checkpoint's UNet."""
    file = opened(path)
    names = file.header.tensors
    if not any(
        name.endswith(("input_hint_block.0.weight", "cond_embedding.conv_in.weight"))
        for name in names
    ):
        raise WeightsError(path, "holds no ControlNet", "give the file of a ControlNet")
    shared = (
        *("in_channels", "block_out_channels", "layers_per_block", "down_block_types"),
        *("cross_attention_dim", "attention_head_dim", "norm_num_groups", "act_fn", "norm_eps"),
        *("use_linear_projection", "transformer_layers_per_block", "downsample_padding"),
        *(
            "addition_embed_type",
            "addition_time_embed_dim",
            "projection_class_embeddings_input_dim",
        ),
        *("flip_sin_to_cos", "freq_shift", "mid_block_scale_factor", "resnet_time_scale_shift"),
    )
    config = unet.config()
    derived = {key: config[key] for key in shared if key in config}
    if "out_channels" in config:  # it sees latents alone, whatever the UNet sees besides
        derived["in_channels"] = config["out_channels"]
    hint = _hint_channels(file)
    if hint:
        derived["conditioning_embedding_out_channels"] = hint
    return NetworkFiles("controlnet", path.parent, path, derived)


def _hint_channels(file: SingleFile) -> list[int]:
    """Widths of the encoder of control maps, in the names of diffusers or of the original."""
    names = file.header.tensors
    found = [file.shape("controlnet_cond_embedding.conv_in.weight")]
    count = sum(name.startswith("controlnet_cond_embedding.blocks.") for name in names)
    blocks = (f"controlnet_cond_embedding.blocks.{i}.weight" for i in range(1, count, 2))
    found += [file.shape(name) for name in blocks]
    if not found[0]:
        prefix = "control_model." if "control_model.input_hint_block.0.weight" in names else ""
        found = [file.shape(f"{prefix}input_hint_block.{i}.weight") for i in (0, 4, 8, 12)]
    return [shape[0] for shape in found if shape]


def _family(file: SingleFile) -> tuple[str, int]:
    """The folder of configurations that fits a file, and how many channels its UNet takes: 4, 8 of
    InstructPix2Pix, 9 of inpainting."""
    cross = next((shape for name in _CROSS if (shape := file.shape(name))), (0, 0))
    family, channels = _FAMILIES.get(cross[1]), file.shape(_FIRST)[1]
    if family and channels in (4, 8, 9):
        return family, channels
    raise WeightsError(
        file.path,
        f"is built like none that is known here (text of width {cross[1]}, {channels} channels)",
        "name a folder in diffusers layout that is built like it: model.config=FOLDER",
    )


def _prediction(file: SingleFile, family: str, channels: int) -> dict[str, Any]:
    """What a file says of its training: modelspec metadata, or the marker tensors in use."""
    said = file.header.metadata.get("modelspec.prediction_type", "").lower()
    said = said or file.header.metadata.get("modelspec.predict_key", "").lower()
    changes: dict[str, Any] = {}
    if "v_pred" in file.header.tensors or said in ("v", "v_prediction", "vprediction"):
        changes["prediction_type"] = "v_prediction"
    elif said in ("epsilon", "eps") or (family == "sd21" and channels == 9):
        changes["prediction_type"] = "epsilon"
    elif family == "sd21":
        log.warning(
            "%s: does not say what it predicts; taken for v_prediction, as Stable Diffusion 2.1 at "
            "768 pixels (else: model.scheduler={prediction_type: epsilon})",
            file.path,
        )
    if "ztsnr" in file.header.tensors:
        changes["rescale_betas_zero_snr"] = True
    return changes


def _elsewhere(file: SingleFile) -> WeightsError:
    """What else a file is, and where it belongs."""
    names = file.header.tensors
    for mark, what, cure in _ELSEWHERE:
        if any(mark in name for name in names):
            return WeightsError(file.path, f"is no checkpoint but {what}", cure)
    family = "take a Stable Diffusion 1, 2 or XL checkpoint"
    for mark, what in _OTHER_FAMILIES:
        if any(mark in name for name in names):
            return WeightsError(file.path, f"is {what}, which is not supported", family)
    first = next(iter(names), "nothing")
    return WeightsError(file.path, f"is no checkpoint known here (holds {first[:80]})", family)


def wanted(role: str, name: str) -> bool:
    """Whether a tensor of a single file belongs to a network."""
    if name.startswith(_PREFIXES[role]):
        return True
    # A file of one network alone has no prefix.
    return role in ("vae", "controlnet") and not name.startswith(("model.", "cond", "model_ema"))


def converted(role: str, config: Mapping[str, Any], weights: dict[str, Tensor]) -> dict[str, Any]:
    """Weights of a network under the names of diffusers; those that have them already stay.

    Args:
        role: of the network.
        config: its configuration.
        weights: as its file has them.
    """
    from diffusers.loaders import single_file_utils as names

    converters: dict[str, Any] = {
        "unet": names.convert_ldm_unet_checkpoint,
        "vae": names.convert_ldm_vae_checkpoint,
        "controlnet": names.convert_controlnet_checkpoint,
    }
    if role in converters:
        modern = ("encoder.conv_norm_out.weight", "controlnet_cond_embedding.conv_in.weight")
        if any(name in weights for name in modern):
            return weights
        made: dict[str, Any] = converters[role](weights, config=dict(config))
        return {name: tensor for name, tensor in made.items() if tensor is not None}
    for prefix in _PREFIXES[role]:
        if any(name.startswith(f"{prefix}model.") for name in weights):
            like = SimpleNamespace(config=SimpleNamespace(hidden_size=config["hidden_size"]))
            return dict(names.convert_open_clip_checkpoint(like, weights, f"{prefix}model."))
    return dict(names.convert_ldm_clip_checkpoint(weights))
