"""Stable Diffusion of full size with random weights, made on the device: no file, no download.

Pictures of random weights mean nothing; their cost is that of trained ones.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch

from rerender.model._components import Components
from rerender.model._replays import Capture, CudaGraphs
from rerender.model._single_file import CONFIGS
from rerender.model.diffusion import StableDiffusion
from rerender.model.tiny import components as miniature

KINDS = ("sd15", "sdxl")


def components(kind: str, device: torch.device, dtype: torch.dtype) -> Components:
    """The networks of a family with one ControlNet.

    Args:
        kind: one of `KINDS`, or ``tiny``, which is of no family's size.
        device: on which weights are drawn.
        dtype: of the weights.
    """
    import diffusers

    with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
        torch.manual_seed(0)
        if kind == "tiny":
            small: Components = miniature(1)
            return small
        folder, unets = CONFIGS / kind, diffusers.UNet2DConditionModel
        with torch.device(device):
            unet = unets.from_config(unets.load_config(folder / "unet")).to(dtype)
            net = diffusers.ControlNetModel.from_unet(unet, load_weights_from_unet=False)
            for block in (*net.controlnet_down_blocks, net.controlnet_mid_block):
                torch.nn.init.normal_(block.weight, std=0.02)  # else a ControlNet adds nothing
            vaes = diffusers.AutoencoderKL
            vae = vaes.from_config(vaes.load_config(folder / "vae"))
            encoders = _text_encoders(folder)
    return Components(
        tokenizers=tuple(_tokenizer() for _ in encoders),
        text_encoders=encoders,
        vae=vae,
        unet=unet,
        controlnets=(net.to(dtype),),
        scheduler=json.loads((folder / "scheduler" / "scheduler_config.json").read_text()),
    )


def _text_encoders(folder: Path) -> tuple[Any, ...]:
    import transformers

    found = []
    for name in ("text_encoder", "text_encoder_2"):
        if (folder / name).is_dir():
            config = transformers.CLIPTextConfig.from_json_file(folder / name / "config.json")
            second = name == "text_encoder_2"
            kinds = (transformers.CLIPTextModel, transformers.CLIPTextModelWithProjection)
            found.append(kinds[second](config))
    return tuple(found)


def _tokenizer() -> Any:
    import transformers

    return transformers.CLIPTokenizer.from_pretrained(
        CONFIGS / "words", model_max_length=77, local_files_only=True
    )


def model(
    kind: str,
    device: torch.device,
    dtype: torch.dtype = torch.float16,
    graphs: bool = True,
    channels_last: bool | None = None,
) -> StableDiffusion:
    """A model of a family, as `rerender.model.pretrained` builds it.

    Args:
        kind: see `components`.
        device: where it computes.
        dtype: what it computes in.
        graphs: whether evaluations are replayed; on a device without CUDA they are called.
        channels_last: how its feature maps lie; None is as with ``graphs``.
    """
    cuda = device.type == "cuda"
    capture: Capture | None = CudaGraphs(device) if graphs and cuda else None
    turned = capture is not None if channels_last is None else channels_last
    made = components(kind, device, dtype)
    return StableDiffusion(made, device, dtype, capture=capture, channels_last=turned)
