"""The networks of a checkpoint, and what those that see control maps add to the UNet."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from rerender.model._ip_adapter import ImagePrompt, Switch
from rerender.model._lora import Beside
from rerender.model._replays import Named


@dataclass(frozen=True)
class Components:
    """The networks of a Stable Diffusion folder, stock classes of transformers and diffusers.

    Attributes:
        tokenizers: ``CLIPTokenizer``, one for each text encoder.
        text_encoders: ``CLIPTextModel``; in Stable Diffusion XL a second one, a
            ``CLIPTextModelWithProjection``.
        vae: ``AutoencoderKL`` or ``AutoencoderTiny``.
        unet: ``UNet2DConditionModel``.
        controlnets: ``ControlNetModel``, ``ControlNetUnionModel`` or ``T2IAdapter`` for each
            control, in order.
        scheduler: the configuration of the checkpoint's scheduler.
        modes: for each control its number in a union; None of a ControlNet for it alone.
        loras: adapters that act in windows of the steps; the others are in the weights already.
        image_prompt: what a UNet with IP-Adapters is shown.
        words: what stands in prompts for words with several embeddings.
        empty_is_zero: whether an empty negative prompt is embedded as zeros.
        prompt_weights: whether ``(words:1.3)`` weighs words of prompts.
        prompt_chunks: how many times the text encoder's length a prompt may have.
    """

    tokenizers: tuple[Any, ...]
    text_encoders: tuple[Any, ...]
    vae: Any
    unet: Any
    controlnets: tuple[Any, ...]
    scheduler: Mapping[str, Any]
    modes: tuple[int | None, ...] = ()
    loras: Sequence[Beside | Switch] = ()
    image_prompt: ImagePrompt | None = None
    words: Mapping[str, str] = field(default_factory=dict)
    empty_is_zero: bool = False
    prompt_weights: bool = False
    prompt_chunks: int = 1


def control_encoder(net: Any) -> Any:
    """What brings a control map to the size of latents, taken out of its network. A T2I-Adapter for
    grey maps sees the mean of the three colours."""
    if not _is_t2i_adapter(net):
        encoder, net.controlnet_cond_embedding = net.controlnet_cond_embedding, nn.Identity()
        return encoder
    unshuffle, net.adapter.unshuffle = net.adapter.unshuffle, nn.Identity()
    if net.config.in_channels == 1:
        return lambda map_: unshuffle(map_.mean(1, keepdim=True))
    return unshuffle


def _is_t2i_adapter(net: Any) -> bool:
    return type(net).__name__ == "T2IAdapter"


def residuals(parts: Components, inputs: Named, batch: Tensor, added: Any) -> tuple[Any, Any, Any]:
    """The sums of all ControlNets' residuals and of all T2I-Adapters' features, weighted per
    request.

    Args:
        parts: the networks.
        inputs: what `rerender.model._requests.inputs_of` joined.
        batch: noisy latents, one for each branch of guidance, ``[N*B,C,h,w]``.
        added: what Stable Diffusion XL is told besides.

    Returns:
        Those of the down blocks and of the middle block, and what T2I-Adapters add within blocks;
        None where there are none.
    """
    total: list[Tensor] | None = None
    within: list[Tensor] | None = None
    for index, net in enumerate(parts.controlnets):
        control = inputs.get(f"control {index}")
        if control is None:
            continue
        weight = inputs[f"weight {index}"][:, None, None, None]
        branches = len(batch) // len(control)
        if _is_t2i_adapter(net):
            features = [each.repeat_interleave(branches, 0) * weight for each in net(control)]
            before = within or [torch.zeros_like(each) for each in features]
            within = [a + b for a, b in zip(before, features, strict=True)]
            continue
        embedded = control.repeat_interleave(branches, 0)
        down, mid = net(
            batch,
            inputs["steps"],
            encoder_hidden_states=inputs["text"],
            added_cond_kwargs=added,
            return_dict=False,
            **_control_input(parts, index, net, embedded),
        )
        scaled = [residual * weight for residual in (*down, mid)]
        total = scaled if total is None else [a + b for a, b in zip(total, scaled, strict=True)]
    return (tuple(total[:-1]), total[-1], within) if total else (None, None, within)


def _control_input(parts: Components, index: int, net: Any, embedded: Tensor) -> dict[str, Any]:
    """How a ControlNet takes its control; a union is told which one it is."""
    mode = parts.modes[index] if parts.modes else None
    if mode is None:
        return {"controlnet_cond": embedded}
    kinds = embedded.new_zeros(len(embedded), int(net.config.num_control_type))
    kinds[:, mode] = 1
    return {
        "controlnet_cond": [embedded],
        "control_type": kinds,
        "control_type_idx": [mode],
    }
