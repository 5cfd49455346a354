"""Low-rank adapters (LoRA, Hu et al. 2021, arXiv 2106.09685), read by diffusers, applied by peft.

Formats of diffusers, peft and kohya (Civitai) are told apart by diffusers. A LoRA that acts in all
steps is added to the weights, W + scale * (alpha / rank) * B A; one with a window stays beside
them, and is switched with the steps.
"""

from __future__ import annotations

import logging
import re
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import nn

from rerender.contracts import Adapter, require_window
from rerender.errors import ConfigError, WeightsError
from rerender.model._files import Header, header
from rerender.model._located import Located
from rerender.model._tensors import tensors

log = logging.getLogger(__name__)

NAMES = ("pytorch_lora_weights.safetensors", "adapter_model.safetensors")
_PIECE = re.compile(r"lora[_.]|\.lokr_|^lora", re.I)
_CROSS = re.compile(r"attn2[._](?:processor\.)?to_k[._]?(?:lora)?.*(?:down|lora_A)[\w.]*weight$")
_FAMILY = "take a LoRA of this checkpoint's family (1.5, 2.1 and XL differ)"


@dataclass(frozen=True, kw_only=True)
class Lora(Adapter):
    """A LoRA on a checkpoint.

    Attributes:
        path: a safetensors file, or the folder of one.
        scale: how much of it is added; 0 is the checkpoint alone, 1 usual.
        start: first moment it acts, as a share of the steps.
        stop: first moment it does not act any more.
    """

    path: str

    def __post_init__(self) -> None:
        require_window("model.loras", self.start, self.stop)
        if not -10 <= self.scale <= 10:
            problem = f"a scale must lie in -10..10, received {self.scale}"
            raise ConfigError("model.loras", problem, "0 to 1 is usual")

    @property
    def file(self) -> Path:
        """The safetensors file.

        Raises:
            WeightsError: there is none.
        """
        place = Path(self.path).expanduser()
        found = [place, *(place / name for name in NAMES)]
        if place.is_dir():
            own = sorted(place.glob("*.safetensors"))
            found += own if len(own) == 1 else []
        for each in found:
            if each.is_file():
                return each
        raise WeightsError(self.path, "no such LoRA", "give a .safetensors file or its folder")


def check(loras: Sequence[Lora], located: Located) -> None:
    """Refuse files that hold no LoRA, or one of another family, by their headers.

    Raises:
        WeightsError: with the file.
    """
    for lora in loras:
        said = header(lora.file)
        _check_kind(lora.file, said)
        width = _cross_width(said)
        wanted = located.unet.config().get("cross_attention_dim")
        if width and isinstance(wanted, int) and width != wanted:
            problem = f"was trained for text of width {width}, this checkpoint has {wanted}"
            raise WeightsError(lora.file, problem, _FAMILY)


def _check_kind(file: Path, said: Header) -> None:
    names = said.tensors
    if any("dora_scale" in name for name in names):
        raise WeightsError(file, "is a DoRA, which is not supported", "take a plain LoRA")
    other = next((n for n in names if "hada_w" in n or ".oft_" in n or ".glora" in n.lower()), None)
    if other is not None:
        problem = f"is a LyCORIS of a kind that is not supported (holds {other[:80]})"
        raise WeightsError(file, problem, "take a plain LoRA, or merge it into the checkpoint")
    if not any(_PIECE.search(name) for name in names):
        first = next(iter(names), "nothing")
        raise WeightsError(file, f"holds no LoRA (but {first[:80]})", "give the file of a LoRA")


def _cross_width(said: Header) -> int | None:
    for name, entry in said.tensors.items():
        if _CROSS.search(name) and len(entry.shape) in (2, 4) and not name.startswith("text"):
            return entry.shape[1]
    return None


class Beside(NamedTuple):
    """A LoRA that stands beside the weights of a UNet.

    Attributes:
        name: under which peft knows it.
        adapter: what it is.
        layers: the layers beside which it stands.
    """

    name: str
    adapter: Lora
    layers: Sequence[Any]

    def switch(self, scale: float) -> None:
        """Set how much of it acts in the evaluations that follow."""
        for layer in self.layers:
            layer.set_scale(self.name, scale)


def apply(loras: Sequence[Lora], unet: Any, text_encoders: Sequence[Any]) -> list[Beside]:
    """Add LoRAs to networks.

    Args:
        loras: in order.
        unet: a ``UNet2DConditionModel``.
        text_encoders: one, or two of Stable Diffusion XL. What a LoRA adds to them acts always,
            since prompts are embedded once.

    Returns:
        Those with windows, switched off.

    Raises:
        WeightsError: a LoRA matches no layer, or cannot be read.
    """
    names = {f"lora{number}": lora for number, lora in enumerate(loras) if lora.scale != 0}
    for name, lora in names.items():
        _load(lora, name, unet, text_encoders)
        for network in text_encoders if lora.windowed else (*text_encoders, unet):
            _merge(network, name, lora.scale)
    beside = [Beside(n, lora, _layers(unet, n)) for n, lora in names.items() if lora.windowed]
    for layer in {id(layer): layer for each in beside for layer in each.layers}.values():
        layer.set_adapter([each.name for each in beside if each.name in layer.lora_A])
    for each in beside:
        each.switch(0.0)
    return beside


def _load(lora: Lora, name: str, unet: Any, text_encoders: Sequence[Any]) -> None:
    """Put an adapter beside the layers that it names."""
    from diffusers.loaders import StableDiffusionLoraLoaderMixin as Plain
    from diffusers.loaders import StableDiffusionXLLoraLoaderMixin as Large

    mixin = Large if len(text_encoders) > 1 else Plain
    device = next(unet.parameters()).device
    weights = dict(tensors([lora.file], torch.float32, device))
    places = zip(text_encoders, ("text_encoder", "text_encoder_2"), strict=False)
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", "Already found a `peft_config`", module="peft")
            state, alphas = mixin.lora_state_dict(weights, unet_config=unet.config)[:2]
            state = {_prefixed(key): value for key, value in state.items()}
            if any(key.startswith("unet.") for key in state):
                mixin.load_lora_into_unet(state, alphas, unet, adapter_name=name)
            for encoder, prefix in places:
                if any(key.startswith(f"{prefix}.") for key in state):
                    mixin.load_lora_into_text_encoder(
                        state, alphas, encoder, prefix=prefix, adapter_name=name
                    )
    except Exception as error:  # of the libraries, which name neither the file nor the layer
        reason = " ".join(str(error).split())[:200] or type(error).__name__
        raise WeightsError(lora.file, f"fits no layer here ({reason})", _FAMILY) from error
    found = sum(len(_layers(network, name)) for network in (unet, *text_encoders))
    said = len({re.sub(r"\.(lora|lokr).*$|_lora\..*$", "", key) for key in state})
    if not found:
        raise WeightsError(lora.file, "matches no layer of this checkpoint", _FAMILY)
    if found < said:
        log.warning(
            "%s: %d of its %d layers are not in this checkpoint", lora.file, said - found, said
        )


def _prefixed(key: str) -> str:
    """Names as `peft` saves a UNet by itself have a prefix of their own."""
    plain = key.removeprefix("base_model.model.")
    known = plain.startswith(("unet.", "text_encoder.", "text_encoder_2."))
    return plain if known else f"unet.{plain}"


def _layers(network: nn.Module, name: str) -> list[Any]:
    """The layers beside which an adapter stands."""
    from peft.tuners.tuners_utils import BaseTunerLayer

    return [
        module
        for module in network.modules()
        if isinstance(module, BaseTunerLayer)
        and any(name in getattr(module, kind) for kind in module.adapter_layer_names)
    ]


def _merge(network: nn.Module, name: str, scale: float) -> None:
    """Add an adapter to the weights beside which it stands, and take it away."""
    for layer in _layers(network, name):
        layer.set_scale(name, scale)
        layer.merge(adapter_names=[name])
        layer.delete_adapter(name)
        layer.merged_adapters.clear()
    _unwrap(network)


def _unwrap(network: nn.Module) -> None:
    """Put back layers beside which no adapter stands."""
    from peft.tuners.tuners_utils import BaseTunerLayer

    for parent in [*network.modules()]:
        for child_name, child in [*parent.named_children()]:
            if isinstance(child, BaseTunerLayer) and not any(
                getattr(child, kind) for kind in child.adapter_layer_names
            ):
                setattr(parent, child_name, child.get_base_layer())
