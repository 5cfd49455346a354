"""Tiny random checkpoints of the stock classes, saved as their libraries save them."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import diffusers
import torch
import transformers
from diffusers.pipelines.controlnet import (
    pipeline_controlnet_img2img,
    pipeline_controlnet_sd_xl_img2img,
)
from torch import Tensor

from rerender.contracts import Mask, Sampler
from rerender.model.pretrained import Pretrained
from rerender.model.tiny import SCHEDULER, _tokenizer
from rerender.sampler.ddim import DDIM
from tests.scenes import SCENE, Given, parts, translated

NOISE = torch.randn(1, 4, 16, 16, generator=torch.Generator().manual_seed(5))
WIDTHS = (16, 32, 32)


def backbone(**changes: Any) -> dict[str, Any]:
    return {
        "in_channels": 4,
        "block_out_channels": WIDTHS,
        "layers_per_block": 1,
        "down_block_types": ("DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D"),
        "cross_attention_dim": 32,
        "attention_head_dim": 4,
        "norm_num_groups": 8,
        **changes,
    }


LARGE = {
    "cross_attention_dim": 32 + 24,
    "addition_embed_type": "text_time",
    "addition_time_embed_dim": 8,
    "projection_class_embeddings_input_dim": 20 + 6 * 8,
    "transformer_layers_per_block": (1, 2, 2),
    "use_linear_projection": True,
}


def text_config(tokenizer: Any, **changes: Any) -> transformers.CLIPTextConfig:
    return transformers.CLIPTextConfig(
        **{
            "vocab_size": len(tokenizer),
            "hidden_size": 32,
            "intermediate_size": 64,
            "num_hidden_layers": 2,
            "num_attention_heads": 2,
            "max_position_embeddings": tokenizer.model_max_length,
            "bos_token_id": 0,
            "eos_token_id": 1,
            "pad_token_id": 1,
            **changes,
        }
    )


def lively(net: Any) -> Any:
    """A ControlNet whose zero convolutions are not zero, so that control has an effect."""
    for block in (*net.controlnet_down_blocks, net.controlnet_mid_block):
        torch.nn.init.normal_(block.weight, std=0.2)
    torch.nn.init.normal_(net.controlnet_cond_embedding.conv_out.weight, std=0.2)
    return net


def autoencoder() -> Any:
    return diffusers.AutoencoderKL(
        block_out_channels=(8, 8),
        down_block_types=("DownEncoderBlock2D",) * 2,
        up_block_types=("UpDecoderBlock2D",) * 2,
        latent_channels=4,
        norm_num_groups=4,
        scaling_factor=0.5,
    )


def save(
    folder: Path,
    unet: dict[str, Any] | None = None,
    scheduler: dict[str, Any] | None = None,
    large: bool = False,
    variant: str | None = None,
) -> Path:
    """A whole checkpoint with a ControlNet in the folder ``controlnet``."""
    torch.manual_seed(0)
    tokenizer = _tokenizer(transformers)
    made = backbone(**{**(LARGE if large else {}), **(unet or {})})
    nets: dict[str, Any] = {
        "text_encoder": transformers.CLIPTextModel(text_config(tokenizer)),
        "vae": autoencoder(),
        "unet": diffusers.UNet2DConditionModel(
            **made,
            out_channels=4,
            up_block_types=("CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"),
        ),
        "controlnet": lively(
            diffusers.ControlNetModel(
                **{
                    key: made[key]
                    for key in made
                    if key not in ("time_cond_proj_dim", "sample_size")
                }
                | {"in_channels": 4},
                conditioning_embedding_out_channels=(8, 16),
            )
        ),
    }
    names = {"text_encoder": ["transformers", "CLIPTextModel"]}
    if large:
        second = text_config(tokenizer, hidden_size=24, intermediate_size=48, projection_dim=20)
        nets["text_encoder_2"] = transformers.CLIPTextModelWithProjection(second)
        names["text_encoder_2"] = ["transformers", "CLIPTextModelWithProjection"]
    for name, net in nets.items():
        net.eval().save_pretrained(folder / name, variant=variant)
    for name in [name.replace("text_encoder", "tokenizer") for name in names]:
        tokenizer.save_pretrained(folder / name)
        names[name] = ["transformers", "CLIPTokenizer"]
    (folder / "scheduler").mkdir()
    described = {"_class_name": "DDIMScheduler", **SCHEDULER, **(scheduler or {})}
    (folder / "scheduler" / "scheduler_config.json").write_text(json.dumps(described))
    index = {
        "_class_name": "StableDiffusionXLPipeline" if large else "StableDiffusionPipeline",
        "_diffusers_version": diffusers.__version__,
        **names,
        "unet": ["diffusers", "UNet2DConditionModel"],
        "vae": ["diffusers", "AutoencoderKL"],
        "scheduler": ["diffusers", "DDIMScheduler"],
        **({"force_zeros_for_empty_prompt": True} if large else {}),
    }
    (folder / "model_index.json").write_text(json.dumps(index))
    return folder


def ours(path: Path, **changes: Any) -> Pretrained:
    return Pretrained(
        str(path),
        **{
            "controlnets": {"canny": "controlnet"},
            "dtype": "float32",
            "device": "cpu",
            **changes,
        },
    )


def our_latents(
    chosen: Pretrained,
    controls: Sequence[str] = ("canny",),
    sampler: Sampler | None = None,
    prompt: str = SCENE.prompt,
    noise: Tensor = NOISE,
    mask: Mask | None = None,
    **sampling: Any,
) -> Tensor:
    """The last latent of frame 0 without constraints, after the checks of a run."""
    chosen.check(controls)
    model: Any = chosen.load(controls)
    settings = {"steps": 10, "strength": 0.4, "sampler": sampler or DDIM(), **sampling}
    composed = parts(**settings)
    composed = composed if controls else replace(composed, control=())
    composed = replace(composed, mask=mask) if mask else composed
    clip = replace(SCENE, prompt=prompt)
    draw = lambda key: lambda role, step: noise  # noqa: E731
    result = translated(model, composed, 1, draw=draw, clip=clip)[0]
    assert result.trace.latent is not None
    return result.trace.latent


def their_pipeline(folder: Path, large: bool = False, **changes: Any) -> Any:
    """The stock image-to-image pipeline with ControlNet."""
    kind = (
        diffusers.StableDiffusionXLControlNetImg2ImgPipeline
        if large
        else diffusers.StableDiffusionControlNetImg2ImgPipeline
    )
    net = diffusers.ControlNetModel.from_pretrained(folder / "controlnet")
    none = {} if large else {"safety_checker": None, "requires_safety_checker": False}
    pipeline = kind.from_pretrained(folder, controlnet=net, **none, **changes)
    pipeline.set_progress_bar_config(disable=True)
    return pipeline


def their_latents(
    pipeline: Any, monkeypatch: Any, guidance: float = 5.0, noise: Tensor = NOISE, **more: Any
) -> Tensor:
    for stock in (pipeline_controlnet_img2img, pipeline_controlnet_sd_xl_img2img):
        monkeypatch.setattr(stock, "randn_tensor", lambda *args, **kwargs: noise)
        monkeypatch.setattr(
            stock, "retrieve_latents", lambda output, generator=None: mean_of(output), raising=False
        )
    image = SCENE.video[0]
    found: Tensor = pipeline(
        **{
            "prompt": SCENE.prompt,
            "negative_prompt": SCENE.negative_prompt,
            "image": image[None],
            "control_image": Given().map(image)[None],
            "strength": 0.4,
            "num_inference_steps": 10,
            "guidance_scale": guidance,
            "controlnet_conditioning_scale": 1.0,
            "output_type": "latent",
            **more,
        }
    ).images
    return found


def mean_of(output: Any) -> Tensor:
    found: Tensor = output.latent_dist.mode() if hasattr(output, "latent_dist") else output.latents
    return found
