"""Whether the parts of a checkpoint are of a family that is supported, and fit together.

Everything is told from configuration files, before any weight is read.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

from rerender.errors import ConfigError, WeightsError
from rerender.model import _described, _noising
from rerender.model._described import FAMILY, Described, is_whole
from rerender.model._files import CONFIG, INDEX, read, vocabulary
from rerender.model._located import Located, NetworkFiles, TokenizerFiles

_CLASSES = {
    "unet": ("UNet2DConditionModel",),
    "vae": ("AutoencoderKL", "AutoencoderTiny"),
    "text_encoder": ("CLIPTextModel", "CLIPTextModelWithProjection"),
    "text_encoder_2": ("CLIPTextModelWithProjection",),
    "tokenizer": ("CLIPTokenizer", "CLIPTokenizerFast"),
    "tokenizer_2": ("CLIPTokenizer", "CLIPTokenizerFast"),
}
_OTHER_PARTS = ("transformer", "prior", "decoder", "motion_adapter", "unet_2", "text_encoder_3")
_OTHER_PIPELINES = ("StableDiffusion3",)
_OUR_PIPELINES = ("StableDiffusion", "LatentConsistencyModel")
_CALLED = (  # beginnings of names of pipelines and networks, and what they are
    (("Flux",), "FLUX, a flow-matching transformer"),
    (("StableDiffusion3", "SD3"), "Stable Diffusion 3, a flow-matching transformer"),
    (("StableCascade", "Wuerstchen", "Kandinsky"), "a model of two stages"),
    (("StableVideo", "AnimateDiff", "UNetSpatioTemporal", "UNetMotion", "I2VGen"), "a video model"),
    (("Wan", "LTX", "CogVideo", "Hunyuan", "Mochi", "TextToVideo", "Cosmos"), "a video model"),
    (("PixArt", "Sana", "AuraFlow", "Lumina", "QwenImage", "HiDream"), "a diffusion transformer"),
)
# Numbers of controls in the published unions (xinsir/controlnet-union-sdxl-1.0).
_MODES = {"depth": 1, "hed": 2, "canny": 3}
_CHANNELS = {
    5: "a checkpoint that needs a depth map too",
    7: "an upscaler",
}
Further = Literal["instruct", "inpainting"]


def check(located: Located) -> None:
    """Refuse a checkpoint of another kind, or one whose parts do not fit together.

    Raises:
        WeightsError: with the file and the key that tell.
    """
    _check_pipeline(located)
    _noising.checked(located.scheduler(), located.scheduler_file)
    unet = _described.unet(located.unet)
    vae = _described.vae(located.vae)
    _check_autoencoder(vae, unet)
    texts = [_described.text_encoder(network) for network in located.text_encoders]
    _check_widths(texts, unet)
    for text, tokenizer in zip(texts, located.tokenizers, strict=True):
        _check_tokenizer(text, tokenizer)
    _check_embeddings(unet, texts)
    for network in located.controlnets:
        if _described.is_t2i_adapter(network.config()):
            _check_t2i_adapter(_described.t2i_adapter(network), unet, vae)
            continue
        net = _described.controlnet(network)
        _check_controlnet(net, unet)
        mode(network)
        hint, factor = net.get("conditioning_embedding_out_channels"), _described.scales(vae)
        if len(hint) != factor:
            raise WeightsError(
                net.file,
                f"conditioning_embedding_out_channels must have {factor} entries as "
                f"block_out_channels of {vae.file} has, received {len(hint)}",
                "take a ControlNet of this checkpoint's family",
            )


def mode(network: NetworkFiles) -> int | None:
    """Number of a control in a ControlNet-Union; None of a ControlNet for one control.

    Raises:
        ConfigError: the union was not trained for this control.
    """
    config = network.config()
    if not _described.is_union(config):
        return None
    number = _MODES.get(network.control)
    if number is None or number >= int(config.get("num_control_type", 6)):
        known = ", ".join(_MODES)
        problem = f"a ControlNet-Union knows {known}, received {network.control}"
        raise ConfigError(f"model.controlnets.{network.control}", problem, "give a ControlNet")
    return number


def empty_is_zero(located: Located) -> bool:
    """Whether an empty negative prompt is embedded as zeros: Stable Diffusion XL does, unless its
    index says no."""
    if len(located.text_encoders) < 2:
        return False
    index = read(located.base / INDEX) if (located.base / INDEX).is_file() else {}
    return bool(index.get("force_zeros_for_empty_prompt", True))


def _check_pipeline(located: Located) -> None:
    file = located.base / INDEX
    alone = located.base / CONFIG
    if not file.exists() and alone.exists():
        kind = str(read(alone).get("_class_name"))[:80]
        problem = f"is one network ({kind}{_called(kind)}), not a whole checkpoint"
        cure = "name the folder above it, or give it as model.vae, model.controlnets or model.loras"
        raise WeightsError(located.base, problem, cure)
    index = read(file)
    name = index.get("_class_name")
    if name is not None and (
        not str(name).startswith(_OUR_PIPELINES)
        or str(name).startswith(_OTHER_PIPELINES)
        or _called(str(name))
    ):
        problem = f"_class_name is {str(name)[:80]}, another family{_called(str(name))}"
        raise WeightsError(file, problem, FAMILY)
    if index.get("is_cosxl_edit"):
        raise WeightsError(
            file, "is_cosxl_edit is true: CosXL has a noise schedule of its own", FAMILY
        )
    for part in _OTHER_PARTS:
        if any(entry is not None for entry in _entry(index, part)):
            raise WeightsError(file, f"has a {part}, as other families have", FAMILY)
    for part, classes in _CLASSES.items():
        named = [str(entry) for entry in _entry(index, part) if entry is not None]
        if part == "vae" and not located.own_vae:
            continue
        if named and named[-1] not in classes:
            problem = f"{part} must be a {classes[0]}, received {named[-1][:80]}"
            raise WeightsError(file, problem, FAMILY)
    second = any(entry is not None for entry in _entry(index, "text_encoder_2"))
    if second and len(located.text_encoders) < 2:
        missing = located.base / "text_encoder_2" / CONFIG
        raise WeightsError(missing, "is missing from the checkpoint", "download it again")


def _called(name: str) -> str:
    found = next((what for starts, what in _CALLED if name.startswith(starts)), "")
    return f": {found}" if found else ""


def _entry(index: Mapping[str, Any], part: str) -> list[Any]:
    found = index.get(part)
    return found if isinstance(found, list) else [found]


def further(unet: Described) -> Further | None:
    """What a UNet takes besides the noisy latent: the source's latent, or a mask and the masked
    source's latent."""
    more = unet.get("in_channels") - unet.get("out_channels")
    kinds: Mapping[int, Further] = {0: "instruct", 1: "inpainting"}
    return kinds.get(more - unet.get("out_channels"))


def _check_autoencoder(vae: Described, unet: Described) -> None:
    latents, channels = vae.get("latent_channels"), unet.get("in_channels")
    taken = unet.get("out_channels")
    if channels != taken and further(unet) is None:
        problem = f"in_channels is {channels}, out_channels is {taken}"
        what = _CHANNELS.get(channels, "a checkpoint that takes or gives more than latents")
        raise WeightsError(unet.file, f"{problem}: {what}", FAMILY)
    if latents != taken:
        key, value = ("in_channels", channels) if channels == taken else ("out_channels", taken)
        raise WeightsError(
            vae.file,
            f"latent_channels is {latents}, {key} of {unet.file} is {value}",
            "take the autoencoder of this checkpoint (model.vae=null)",
        )


def _check_widths(texts: Sequence[Described], unet: Described) -> None:
    width = sum(text.get("hidden_size") for text in texts)
    for wanted in unet.levels("cross_attention_dim"):
        if wanted != width:
            raise WeightsError(
                texts[0].file,
                f"hidden_size is {width}, cross_attention_dim of {unet.file} is {wanted}",
                "take the text encoder of this checkpoint",
            )


def _check_embeddings(unet: Described, texts: Sequence[Described]) -> None:
    """Stable Diffusion XL is told a pooled prompt and sizes, others are not."""
    kind, large = unet.get("addition_embed_type"), len(texts) > 1
    if (kind == "text_time") != large:
        said = "null" if kind is None else f'"{kind}"'
        problem = (
            f"addition_embed_type is {said}, as in Stable Diffusion XL, with one text encoder"
            if kind
            else "has two text encoders, and addition_embed_type is null"
        )
        raise WeightsError(unet.file, problem, FAMILY)
    if not large:
        return
    pooled = texts[1].get("projection_dim") or 512
    sizes = unet.get("addition_time_embed_dim")
    wanted = unet.get("projection_class_embeddings_input_dim")
    if not is_whole(sizes) or pooled + 6 * sizes != wanted:
        raise WeightsError(
            unet.file,
            f"projection_class_embeddings_input_dim is {wanted}, not projection_dim {pooled} of "
            f"{texts[1].file} and 6 addition_time_embed_dim {sizes}",
            "take a Stable Diffusion XL base checkpoint (a refiner is none)",
        )


def _check_tokenizer(text: Described, tokenizer: TokenizerFiles) -> None:
    words, file = vocabulary(tokenizer.words)
    count = max(words.values()) + 1
    if count > text.get("vocab_size"):
        raise WeightsError(
            file,
            f"has {count} tokens, vocab_size of {text.file} is {text.get('vocab_size')}",
            "take the tokenizer of this text encoder",
        )
    settings = tokenizer.folder / "tokenizer_config.json"
    for naming in (settings, tokenizer.folder / "special_tokens_map.json"):
        _check_special(naming, words, file)
    longest = read(settings).get("model_max_length")
    most = int(text.get("max_position_embeddings"))
    if not is_whole(longest) or not 3 <= longest <= most:
        said = "has no model_max_length" if longest is None else f"model_max_length is {longest!r}"
        problem = f"{said[:100]}, max_position_embeddings of {text.file} is {most}"
        raise WeightsError(settings, problem, f'set "model_max_length": {most} in that file')


def _check_special(said: Path, words: Mapping[str, int], vocabulary: Path) -> None:
    """A special token that is no word would get a number of its own, past the last embedding."""
    for key in ("bos_token", "eos_token", "unk_token", "pad_token") if said.is_file() else ():
        token = read(said).get(key)
        token = token.get("content") if isinstance(token, Mapping) else token
        if token is not None and (not isinstance(token, str) or token not in words):
            problem = f"{key} is {_short(token)}, which is no word of {vocabulary}"
            raise WeightsError(said, problem, "restore the file")


def _check_controlnet(net: Described, unet: Described) -> None:
    for key in (
        *("in_channels", "block_out_channels", "layers_per_block", "down_block_types"),
        *("cross_attention_dim", "attention_head_dim", "addition_embed_type"),
    ):
        # A ControlNet sees the noisy latent, whatever the UNet sees besides.
        other = "out_channels" if key == "in_channels" else key
        mine, theirs = _comparable(net, key), _comparable(unet, other)
        if mine != theirs:
            that = f"{other} of {unet.file}" if other != key else f"that of {unet.file}"
            raise WeightsError(
                net.file,
                f"{key} is {_short(net.get(key))}, {that} is {_short(unet.get(other))}",
                "take a ControlNet of this checkpoint's family (1.5, 2.1 and XL differ)",
            )


def _check_t2i_adapter(net: Described, unet: Described, vae: Described) -> None:
    """Its features must have the sizes of the levels that they are added to: from latent cells on,
    or from half of them where the first level of the denoising network has no attention (XL)."""
    late, factor = unet.get("down_block_types")[0] == "DownBlock2D", _described.scales(vae) - 1
    widths = list(unet.get("block_out_channels"))
    wanted: Mapping[str, tuple[Any, ...]] = {
        "adapter_type": ("full_adapter_xl",) if late else ("full_adapter", "light_adapter"),
        "downscale_factor": (2 ** (factor + 1 if late else factor),),
        "channels": ([*widths, widths[-1]] if late else widths,),
        "in_channels": (3, 1),
    }
    for key, allowed in wanted.items():
        if net.get(key) not in allowed:
            known = " or ".join(map(_short, allowed))
            problem = f"{key} must be {known} with {unet.file}, received {_short(net.get(key))}"
            cure = "take a T2I-Adapter of this checkpoint's family (1.5 and XL differ)"
            raise WeightsError(net.file, problem, cure)


def _comparable(part: Described, key: str) -> Any:
    if key in ("layers_per_block", "cross_attention_dim", "attention_head_dim"):
        return part.levels(key)
    return part.get(key)


def _short(value: object) -> str:
    return f"{value!r}"[:100].replace("'", '"')
