"""The Stable Diffusion 1.5 family with ControlNet, built from stock diffusers components.

Ranges change here and nowhere else: images are 0..1 outside, -1..1 for the autoencoder; latents
carry the scaling factor and shift of the autoencoder's own configuration.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import torch
from torch import Tensor, nn

from rerender.contracts import Condition, Model, NoiseRequest
from rerender.model._features import DecoderFeatures
from rerender.model._freeu import FreeU
from rerender.model._noising import alphas_of
from rerender.model._prompts import tell_cut
from rerender.model.attention import Attention
from rerender.scene import DecoderBlock, Layer

SPACING = (
    *("timestep_spacing", "steps_offset", "set_alpha_to_one", "num_train_timesteps"),
    "final_sigmas_type",
)


@dataclass(frozen=True)
class Components:
    """The networks of a Stable Diffusion folder, stock classes of transformers and diffusers.

    Attributes:
        tokenizer: ``CLIPTokenizer``.
        text_encoder: ``CLIPTextModel``.
        vae: ``AutoencoderKL`` (or one with the same interface).
        unet: ``UNet2DConditionModel``.
        controlnets: ``ControlNetModel`` for each control, in order.
        scheduler: the configuration of the checkpoint's scheduler.
    """

    tokenizer: Any
    text_encoder: Any
    vae: Any
    unet: Any
    controlnets: tuple[Any, ...]
    scheduler: Mapping[str, Any]


class StableDiffusion(Model):
    """A latent diffusion model with ControlNets, on one device in one dtype.

    Args:
        parts: the networks; they are moved, frozen and given our attention processor.
        device: where to compute.
        dtype: what to compute in; latents that come out are always float32.
        freeu: FreeU strengths; None leaves the network unchanged.
    """

    def __init__(
        self,
        parts: Components,
        device: torch.device | None = None,
        dtype: torch.dtype = torch.float32,
        freeu: FreeU | None = None,
    ) -> None:
        self.parts = parts
        self.device, self.dtype = device or torch.device("cpu"), dtype
        for network in self._networks():
            # diffusers' own `to` warns about modules to keep in float32, of which there are none.
            nn.Module.to(network, self.device, dtype)
            network.eval().requires_grad_(False)
        # The control embedding does not depend on the step: it is run once in `condition`.
        self._control_encoders = [net.controlnet_cond_embedding for net in parts.controlnets]
        for net in parts.controlnets:
            net.controlnet_cond_embedding = nn.Identity()
        if freeu is not None:
            freeu.install(parts.unet)
        self._attention = Attention(parts.unet)
        self._features = DecoderFeatures(parts.unet, self._attention)
        self._embedded: tuple[tuple[str, ...], Tensor] | None = None
        self._told: set[str] = set()  # prompts that were looked at for words that are left out

    def _networks(self) -> list[Any]:
        parts = self.parts
        return [parts.text_encoder, parts.vae, parts.unet, *parts.controlnets]

    @cached_property
    def vae_scale_factor(self) -> int:
        return int(2 ** (len(self.parts.vae.config.block_out_channels) - 1))

    @cached_property
    def size_multiple(self) -> int:
        levels = len(self.parts.unet.config.block_out_channels)
        return int(self.vae_scale_factor * 2 ** (levels - 1))

    @cached_property
    def alphas_cumprod(self) -> Tensor:
        return alphas_of(self.parts.scheduler)

    @property
    def scheduler_config(self) -> Mapping[str, Any]:
        config = self.parts.scheduler
        return {key: config[key] for key in SPACING if key in config}

    def layers(self) -> Sequence[Layer]:
        return self._attention.layers

    def blocks(self) -> Sequence[DecoderBlock]:
        return self._features.blocks

    @torch.no_grad()
    def encode(self, image: Tensor) -> Tensor:
        config = self.parts.vae.config
        scaled = (image[None] * 2 - 1).to(self.device, self.dtype)
        mean: Tensor = self.parts.vae.encode(scaled).latent_dist.mode().float()
        shift: float = getattr(config, "shift_factor", None) or 0.0
        return (mean - shift) * float(config.scaling_factor)

    def decode(self, latent: Tensor) -> Tensor:
        config = self.parts.vae.config
        shift = getattr(config, "shift_factor", None) or 0.0
        with torch.set_grad_enabled(latent.requires_grad):
            unscaled = (latent / config.scaling_factor + shift).to(self.device, self.dtype)
            image: Tensor = self.parts.vae.decode(unscaled).sample[0].float()
            return (image + 1) / 2

    @torch.no_grad()
    def condition(
        self, prompt: str, negative_prompt: str, controls: Sequence[Tensor], guided: bool
    ) -> Condition:
        embeds = self._prompt_embeds((negative_prompt, prompt) if guided else (prompt,))
        control_embeds = tuple(
            encoder(control[None].to(self.device, self.dtype))
            for encoder, control in zip(self._control_encoders, controls, strict=bool(controls))
        )
        return Condition(embeds, control_embeds)

    def _prompt_embeds(self, prompts: tuple[str, ...]) -> Tensor:
        """The embedding of the prompts; that of the last prompts is kept, since all key frames of
        a clip have the same."""
        if self._embedded is None or self._embedded[0] != prompts:
            self._embedded = (prompts, self._embed(list(prompts)))
        return self._embedded[1]

    def _embed(self, prompts: list[str]) -> Tensor:
        """Last hidden states ``[B,T,D]``."""
        for prompt in prompts:
            if prompt not in self._told:
                self._told.add(prompt)
                tell_cut(self.parts.tokenizer, prompt)
        tokens = self._tokenized(prompts).to(self.device)
        embedding: Tensor = self.parts.text_encoder(tokens)[0]
        return embedding.to(self.dtype)

    def _tokenized(self, prompts: list[str]) -> Tensor:
        """Token numbers ``[B,T]``; prompts are filled up to, or cut at, the model's length."""
        tokenizer = self.parts.tokenizer
        found: Tensor = tokenizer(
            prompts,
            padding="max_length",
            max_length=tokenizer.model_max_length,
            truncation=True,
            return_tensors="pt",
        ).input_ids
        return found

    def token_ids(self, prompt: str) -> Sequence[int]:
        return [int(token) for token in self._tokenized([prompt])[0]]

    def predict_noise(self, requests: Sequence[NoiseRequest]) -> list[Tensor]:
        answers: dict[int, Tensor] = {}
        for traced, group in _batches(requests):
            with torch.set_grad_enabled(traced):
                answered = self._predict([requests[index] for index in group])
            answers.update(zip(group, answered, strict=True))
        return [answers[index] for index in range(len(requests))]

    def _predict(self, requests: Sequence[NoiseRequest]) -> list[Tensor]:
        branches = requests[0].condition.prompt_embeds.shape[0]
        noisy = torch.cat([request.noisy for request in requests]).to(self.device)
        batch = noisy.repeat_interleave(branches, 0).to(self.dtype)
        times = torch.tensor([request.timestep for request in requests], device=self.device)
        text = torch.cat([request.condition.prompt_embeds for request in requests])
        steps = times.repeat_interleave(branches)
        down, mid = self._residuals(requests, batch, steps, text)
        asked = any(request.attend or request.maps or request.joint for request in requests)
        with self._attention.asking(requests) if asked else nullcontext():
            output = self.parts.unet(
                batch,
                steps,
                encoder_hidden_states=text,
                down_block_additional_residuals=down,
                mid_block_additional_residual=mid,
                return_dict=False,
            )[0].float()
        predicted = [part.float() for part in output.chunk(len(requests))]
        return [self._noise(q, out) for q, out in zip(requests, predicted, strict=True)]

    def _residuals(
        self, requests: Sequence[NoiseRequest], batch: Tensor, steps: Tensor, text: Tensor
    ) -> tuple[Any, Any]:
        """The sum of all ControlNets' residuals, weighted per request; nets at 0 are not run."""
        total: list[Tensor] | None = None
        branches = text.shape[0] // len(requests)
        for index, net in enumerate(self.parts.controlnets):
            given = [request.conditioning_scale for request in requests]
            scale = [each[index] if each else 0.0 for each in given]
            if not any(scale):
                continue
            control = torch.cat([request.condition.control_embeds[index] for request in requests])
            down, mid = net(
                batch,
                steps,
                encoder_hidden_states=text,
                controlnet_cond=control.repeat_interleave(branches, 0),
                return_dict=False,
            )
            weight = batch.new_tensor(scale).repeat_interleave(branches)[:, None, None, None]
            scaled = [residual * weight for residual in (*down, mid)]
            total = scaled if total is None else [a + b for a, b in zip(total, scaled, strict=True)]
        return (tuple(total[:-1]), total[-1]) if total else (None, None)

    def _noise(self, request: NoiseRequest, predicted: Tensor) -> Tensor:
        """The network's output as a noise prediction, whatever it was trained to predict."""
        kind = self.parts.scheduler.get("prediction_type", "epsilon")
        if kind == "epsilon":
            return predicted
        alpha = float(self.alphas_cumprod[request.timestep])
        noisy = request.noisy.to(predicted)
        if kind == "sample":
            return (noisy - float(alpha**0.5) * predicted) / float((1 - alpha) ** 0.5)
        return float(alpha**0.5) * predicted + float((1 - alpha) ** 0.5) * noisy

    @cached_property
    def _digest(self) -> str:
        found = hashlib.sha256()
        # What decides results besides the weights: equal weights under another noise schedule, say,
        # or with another scale of the latents, are another model.
        parts, tokenizer = self.parts, self.parts.tokenizer
        found.update(_canonical(dict(parts.scheduler)))
        found.update(
            _canonical([tokenizer.model_max_length, sorted(tokenizer.get_vocab().items())])
        )
        for network in self._networks():
            found.update(_canonical(_settings(network.config)))
            for name, weight in sorted(network.state_dict().items()):
                found.update(name.encode())
                found.update(weight.detach().cpu().contiguous().view(torch.uint8).numpy().data)
        return found.hexdigest()[:16]

    def digest(self) -> str:
        return self._digest


def _batches(requests: Sequence[NoiseRequest]) -> list[tuple[bool, list[int]]]:
    """Numbers of the requests that share a batch, and whether it keeps a graph for autograd: they
    have as many branches, and a graph is shared only by those that look at each other."""
    groups: dict[tuple[int, int], list[int]] = {}
    for index, request in enumerate(requests):
        alone = _traced(request) and request.joint is None
        key = (request.condition.prompt_embeds.shape[0], index if alone else -1)
        groups.setdefault(key, []).append(index)
    return [(any(_traced(requests[i]) for i in group), group) for group in groups.values()]


def _traced(request: NoiseRequest) -> bool:
    """Whether gradients are asked for."""
    return request.noisy.requires_grad or request.condition.prompt_embeds.requires_grad


def _settings(config: Any) -> dict[str, Any]:
    """A network's configuration without what only says who wrote it, and when."""
    said = config.to_dict() if hasattr(config, "to_dict") else dict(config)
    idle = ("dtype", "torch_dtype", "transformers_version", "architectures")
    return {k: v for k, v in said.items() if not k.startswith("_") and k not in idle}


def _canonical(value: Any) -> bytes:
    """The same bytes for the same configuration, whatever the order of its keys."""
    return json.dumps(value, sort_keys=True, default=str).encode()
