"""Networks filled with weights: built without weights, then given them straight in the type and on
the device that they are computed in, one network after the other."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from rerender.errors import WeightsError
from rerender.model import _single_file
from rerender.model._files import read
from rerender.model._located import NetworkFiles, TokenizerFiles
from rerender.model._tensors import everything, tensors

# How attention of autoencoders was named before diffusers 0.18.
_OLD = re.compile(r"(attentions\.\d+)\.(query|key|value|proj_attn)\.")
_NEW = {"query": "to_q", "key": "to_k", "value": "to_v", "proj_attn": "to_out.0"}
_TEXT = "text_model."  # stands before all names of a CLIP text encoder, or before none


def libraries() -> tuple[Any, Any]:
    """diffusers and transformers, silent."""
    import diffusers
    import transformers

    diffusers.utils.logging.set_verbosity_error()
    transformers.utils.logging.set_verbosity_error()
    transformers.utils.logging.disable_progress_bar()
    diffusers.utils.logging.disable_progress_bar()
    return diffusers, transformers


def load_tokenizer(files: TokenizerFiles) -> Any:
    """A tokenizer, with errors that name its folder.

    Raises:
        WeightsError: it cannot be read.
    """
    _, transformers = libraries()
    try:
        if files.words == files.folder:
            folder = str(files.folder)
            return transformers.CLIPTokenizer.from_pretrained(folder, local_files_only=True)
        settings = read(files.folder / "tokenizer_config.json")
        kept = ("model_max_length", "pad_token", "bos_token", "eos_token", "unk_token")
        return transformers.CLIPTokenizer(
            vocab=str(files.words / "vocab.json"),
            merges=str(files.words / "merges.txt"),
            **{key: settings[key] for key in kept if key in settings},
        )
    except WeightsError:
        raise
    except Exception as error:  # the library raises a dozen kinds and never names the file
        raise unreadable(files.folder, error) from error


def load_network(network: NetworkFiles, dtype: torch.dtype, device: torch.device) -> Any:
    """A network of diffusers or transformers with finite weights that fill it completely.

    Args:
        network: where it lies.
        dtype: of its weights.
        device: of its weights.

    Raises:
        WeightsError: a file is unreadable, of another architecture, or not finite.
    """
    files = network.files()
    where = files[0] if len(files) == 1 else network.folder
    config = network.config()
    try:
        built = without_weights(network, config)
    except Exception as error:  # the libraries raise a dozen kinds and never name the file
        raise unreadable(network.file, error) from error
    weights = _weights(network, config, files, dtype, device)
    _fill(built, _named(built, weights), where)
    built.to(device)  # buffers that no file holds
    return built


def without_weights(network: NetworkFiles, config: Any) -> Any:
    """A network whose parameters have shapes and no values."""
    from accelerate import init_empty_weights  # type: ignore[import-untyped]

    diffusers, transformers = libraries()
    with init_empty_weights(include_buffers=False):
        if not network.role.startswith("text_encoder"):
            usual = {"unet": "UNet2DConditionModel", "vae": "AutoencoderKL"}
            name = config.get("_class_name") or usual.get(network.role, "ControlNetModel")
            return getattr(diffusers, name).from_config(dict(config))
        inner = config["text_config"] if isinstance(config.get("text_config"), dict) else config
        described = transformers.CLIPTextConfig(**inner)
        described.to_dict()  # for the digest later on; of values of a wrong type it makes errors
        pooled = network.role == "text_encoder_2"
        kind = transformers.CLIPTextModelWithProjection if pooled else transformers.CLIPTextModel
        return kind(described)


def _weights(
    network: NetworkFiles, config: Any, files: list[Path], dtype: torch.dtype, device: torch.device
) -> dict[str, Tensor]:
    wanted = everything
    if network.single is not None:
        wanted = lambda name: _single_file.wanted(network.role, name)  # noqa: E731
    found = [file for file in files if file.suffix == ".safetensors"]
    weights = dict(tensors(found, dtype, device, wanted))
    if network.single is None:
        return weights
    try:
        return _single_file.converted(network.role, config, weights)
    except Exception as error:  # of the library, where names are missing
        raise unreadable(network.single, error) from error


def _named(built: Any, weights: dict[str, Tensor]) -> dict[str, Tensor]:
    """Weights under the names that this version of the libraries has for them."""
    wanted = set(built.state_dict())
    missing = wanted - weights.keys()
    if not missing:
        return weights
    named = {
        _OLD.sub(lambda found: f"{found[1]}.{_NEW[found[2]]}.", k): v for k, v in weights.items()
    }
    if any(name.startswith(_TEXT) for name in named) and not any(
        n.startswith(_TEXT) for n in wanted
    ):
        return {name.removeprefix(_TEXT): tensor for name, tensor in named.items()}
    if any(name.startswith(_TEXT) for name in missing):
        bare = {name for name in named if f"{_TEXT}{name}" in wanted}
        return {f"{_TEXT}{name}" if name in bare else name: named[name] for name in named}
    return named


def _fill(built: Any, weights: dict[str, Tensor], where: Path) -> None:
    own = built.state_dict()
    missing = sorted(own.keys() - weights.keys())
    if missing:
        raise WeightsError(
            where,
            f"matches {len(own) - len(missing)} of {len(own)} tensors (first missing: "
            f"{missing[0]})",
            f"it is not a {type(built).__name__} checkpoint of this architecture",
        )
    for name, tensor in own.items():
        if weights[name].shape != tensor.shape:
            raise WeightsError(
                where,
                f"tensor {name} is of shape {list(weights[name].shape)}, its configuration wants "
                f"{list(tensor.shape)}",
                f"it is not a {type(built).__name__} checkpoint of this architecture",
            )
    built.load_state_dict({name: weights[name] for name in own}, assign=True)


def unreadable(where: Path, error: Exception) -> WeightsError:
    """A refusal with a library's reason."""
    reason = " ".join(str(error).split())[:200] or type(error).__name__
    return WeightsError(where, f"cannot be read ({reason})", "check or restore the folder")
