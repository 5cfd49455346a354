"""The Stable Diffusion family with ControlNet, built from stock diffusers components.

Ranges change here and nowhere else: images are 0..1 outside, -1..1 for the autoencoder; latents
carry the scaling factor and shift of the autoencoder's own configuration.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import nullcontext
from functools import cached_property
from threading import RLock
from typing import Any

import torch
from torch import Tensor, nn

from rerender.contracts import Adapter, Condition, Model, NoiseRequest
from rerender.contracts.upload import upload
from rerender.model._components import Components, control_encoder, residuals
from rerender.model._contexts import Contexts
from rerender.model._digest import digest_of
from rerender.model._features import DecoderFeatures
from rerender.model._freeu import FreeU
from rerender.model._noising import alphas_of
from rerender.model._replays import Capture, Named, Replays
from rerender.model._requests import batches, guidance_embedding, inputs_of, repeated
from rerender.model._source_channels import masked_source, source_latent
from rerender.model._text import TextEncoding
from rerender.model._tiling import Tiles, tiled
from rerender.model._visits import Visits
from rerender.model.attention import Attention
from rerender.scene import DecoderBlock, Layer

SPACING = (
    *("timestep_spacing", "steps_offset", "set_alpha_to_one", "num_train_timesteps"),
    "final_sigmas_type",
)


class StableDiffusion(Model):
    """A latent diffusion model with ControlNets, on one device in one dtype.

    Args:
        parts: the networks; they are moved, frozen and given our attention processor.
        device: where to compute.
        dtype: what to compute in; latents that come out are always float32.
        freeu: FreeU strengths; None leaves the network unchanged.
        clip_skip: last layers of the text encoder that are left out.
        capture: captures evaluations, which are then replayed; None calls the networks each time.
        channels_last: whether feature maps lie in memory pixel by pixel, as convolutions of a GPU
            want them; needs Triton.
        strict: whether an evaluation that cannot be captured is an error; else it is called.
        tiles: how the autoencoder cuts large pictures, where no gradient is asked for; None
            computes all of them whole.
        low: whether autoencoder and text encoders lie in the processor's memory while they do not
            work. Networks that are moved are not captured, since a graph knows where weights lay.
    """

    def __init__(
        self,
        parts: Components,
        device: torch.device | None = None,
        dtype: torch.dtype = torch.float32,
        freeu: FreeU | None = None,
        clip_skip: int = 0,
        capture: Capture | None = None,
        channels_last: bool = False,
        strict: bool = True,
        tiles: Tiles | None = None,
        low: bool = False,
    ) -> None:
        self.parts, self._tiles = parts, tiles
        self._visits = Visits(device or torch.device("cpu")) if low else None
        self._autoencoder = RLock()  # tiles put statistics into its norms; visits move it
        self._replays = None if capture is None else Replays(capture, strict=strict)
        self.device, self.dtype = device or torch.device("cpu"), dtype
        # Stable Diffusion XL's autoencoder leaves the range of float16, and says so.
        large = len(parts.text_encoders) > 1
        upcast = (
            large and dtype == torch.float16 and getattr(parts.vae.config, "force_upcast", False)
        )
        self._vae_dtype = torch.float32 if upcast else dtype
        for network in self._networks():
            # diffusers' own `to` warns about modules to keep in float32, of which there are none.
            kept = self._vae_dtype if network is parts.vae else dtype
            visits = low and (network is parts.vae or network in parts.text_encoders)
            nn.Module.to(network, "cpu" if visits else self.device, kept)
            network.eval().requires_grad_(False)
        if channels_last:
            from rerender.model._channels_last import to_channels_last

            for network in (parts.vae, parts.unet, *parts.controlnets):
                to_channels_last(network)
        # The control embedding does not depend on the step: it is run once in `condition`.
        self._control_encoders = [control_encoder(net) for net in parts.controlnets]
        if freeu is not None:
            freeu.install(parts.unet)
        self._attention = Attention(parts.unet)
        self._features = DecoderFeatures(parts.unet, self._attention)
        self._text = TextEncoding(
            parts.tokenizers,
            parts.text_encoders,
            clip_skip,
            parts.empty_is_zero,
            parts.words,
            parts.prompt_weights,
            parts.prompt_chunks,
            self._visits,
        )

    def _networks(self) -> list[Any]:
        parts = self.parts
        shown = () if parts.image_prompt is None else (parts.image_prompt,)
        return [*parts.text_encoders, parts.vae, parts.unet, *parts.controlnets, *shown]

    @property
    def adapters(self) -> Sequence[Adapter]:
        return [each.adapter for each in self.parts.loras]

    @cached_property
    def vae_scale_factor(self) -> int:
        config = self.parts.vae.config
        levels = config.get("encoder_block_out_channels") or config.block_out_channels
        return int(2 ** (len(levels) - 1))

    @cached_property
    def size_multiple(self) -> int:
        levels = len(self.parts.unet.config.block_out_channels)
        return int(self.vae_scale_factor * 2 ** (levels - 1))

    @cached_property
    def _further(self) -> int:
        """Channels that the network takes besides the noisy latent: 0, those of a latent
        (InstructPix2Pix), or one more for a mask (inpainting)."""
        config = self.parts.unet.config
        return int(config.in_channels - config.out_channels)

    @property
    def inpaints(self) -> bool:
        return self._further == int(self.parts.unet.config.out_channels) + 1

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
        scaled = (upload(image, self.device)[None] * 2 - 1).to(self._vae_dtype)
        mean = self._called("encode", {"image": scaled}, self._encoded)
        shift: float = getattr(config, "shift_factor", None) or 0.0
        return (mean - shift) * float(config.scaling_factor)

    def decode(self, latent: Tensor) -> Tensor:
        config = self.parts.vae.config
        shift = getattr(config, "shift_factor", None) or 0.0
        with torch.set_grad_enabled(latent.requires_grad):
            unscaled = (latent / config.scaling_factor + shift).to(self.device, self._vae_dtype)
            image = self._called("decode", {"latent": unscaled}, self._decoded)
            return (image + 1) / 2

    def _encoded(self, inputs: Named) -> Named:
        encoded = self.parts.vae.encode(inputs["image"])
        # AutoencoderTiny has no distribution.
        known = hasattr(encoded, "latent_dist")
        mean = encoded.latent_dist.mode() if known else encoded.latents
        return {"out": mean.float()}

    def _decoded(self, inputs: Named) -> Named:
        return {"out": self.parts.vae.decode(inputs["latent"]).sample[0].float()}

    def _called(self, key: str, inputs: Named, function: Callable[[Named], Named]) -> Tensor:
        """What a function of the autoencoder makes, replayed where no gradient is asked for. What
        is computed of it is new memory, which the next replay leaves alone."""
        visit = self._visits(self.parts.vae) if self._visits else nullcontext()
        with self._autoencoder, visit:
            return self._call(key, inputs, function)

    def _call(self, key: str, inputs: Named, function: Callable[[Named], Named]) -> Tensor:
        if self._tiles is not None and not torch.is_grad_enabled():
            factor = self.vae_scale_factor
            ((name, given),) = inputs.items()
            scale = 1 if name == "image" else factor
            height, width = (side * scale for side in given.shape[-2:])
            if self._tiles.cut(height, width):
                return tiled(
                    self.parts.vae,
                    lambda part: function({name: part})["out"],
                    given,
                    self._tiles,
                    factor,
                    encodes=name == "image",
                )
        if self._replays is None or self._visits or torch.is_grad_enabled():
            return function(inputs)["out"]
        return self._replays(key, inputs, function)["out"]

    @torch.no_grad()
    def condition(
        self,
        prompt: str,
        negative_prompt: str,
        controls: Sequence[Tensor],
        guided: bool,
        guidance_scale: float = 1.0,
        source: Tensor | None = None,
        repainted: Tensor | None = None,
    ) -> Condition:
        told = self.distilled
        embedded = self._text((negative_prompt, prompt) if guided and not told else (prompt,))
        control_embeds = tuple(
            encoder(upload(control, self.device)[None].to(self.dtype))
            for encoder, control in zip(self._control_encoders, controls, strict=bool(controls))
        )
        hidden, pooled = embedded.hidden.to(self.dtype), embedded.pooled
        seen = self._image_latents(source, repainted, len(hidden) == 2)
        if seen is not None and len(seen) == 3:  # the negative prompt without and with the picture
            hidden = hidden[[0, 0, 1]]
            pooled = None if pooled is None else pooled[[0, 0, 1]]
        return Condition(
            hidden,
            control_embeds,
            pooled_embeds=None if pooled is None else pooled.to(self.dtype),
            guidance_embed=self._told(guidance_scale) if told else None,
            image_latents=None if seen is None else seen.expand(len(hidden), -1, -1, -1),
            image_embeds=shown.embeds(len(hidden)) if (shown := self.parts.image_prompt) else None,
        )

    def _image_latents(self, source: Tensor | None, repainted: Tensor | None, guided: bool) -> Any:
        """The further channels ``[B,E,h,w]``; None of networks that take none."""
        if not self._further:
            return None
        if source is None:
            raise ValueError("this network sees the source: give it")
        if self.inpaints:
            return masked_source(self.encode, source, repainted).to(self.dtype)
        return source_latent(self.encode(source), self.parts.vae.config, guided).to(self.dtype)

    @property
    def distilled(self) -> bool:
        """Whether the network is told the guidance scale, and answers as if guided by it."""
        return self.parts.unet.config.get("time_cond_proj_dim") is not None

    def _told(self, scale: float) -> Tensor:
        width = int(self.parts.unet.config.time_cond_proj_dim)
        return guidance_embedding(torch.tensor([scale], dtype=torch.float64), width).to(
            self.device, self.dtype
        )

    def token_ids(self, prompt: str) -> Sequence[int]:
        return self._text.token_ids(prompt)

    def predict_noise(self, requests: Sequence[NoiseRequest]) -> list[Tensor]:
        answers: dict[int, Tensor] = {}
        for traced, group in batches(requests):
            with torch.set_grad_enabled(traced):
                answered = self._predict([requests[index] for index in group])
            answers.update(zip(group, answered, strict=True))
        return [answers[index] for index in range(len(requests))]

    def _predict(self, requests: Sequence[NoiseRequest]) -> list[Tensor]:
        for each, scale in zip(self.parts.loras, requests[0].adapter_scale, strict=False):
            each.switch(scale)
        inputs = inputs_of(requests, len(self.parts.controlnets), self.device)
        layers, contexts = self._attention.layers, None
        if self._replays is not None and not torch.is_grad_enabled():
            contexts = Contexts.of(requests, layers, inputs["text"])
        if self._replays is None or contexts is None:
            asked = any(request.attend or request.maps or request.joint for request in requests)
            with self._attention.asking(requests) if asked else nullcontext():
                output = self._evaluate(inputs, len(requests))
        else:
            known, count = contexts, len(requests)

            def evaluate(given: Named) -> Named:
                found: dict[str, Tensor] = {}
                asking = known.requests(given, found)
                with self._attention.asking(asking) if asking else nullcontext():
                    found["out"] = self._evaluate(given, count)
                return found

            key = (count, requests[0].adapter_scale, known.key)
            outputs = self._replays(key, {**inputs, **known.stored}, evaluate)
            known.record(requests, layers, outputs)
            output = outputs["out"].clone()
        predicted = [part.float() for part in output.chunk(len(requests))]
        return [self._noise(q, out) for q, out in zip(requests, predicted, strict=True)]

    def _evaluate(self, inputs: Named, count: int) -> Tensor:
        """What the networks answer for ``count`` requests, float32: computed of ``inputs``, on the
        device alone."""
        noisy, text, steps = inputs["noisy"], inputs["text"], inputs["steps"]
        batch = noisy.repeat_interleave(len(text) // count, 0).to(self.dtype)
        further = inputs.get("image_latents")
        added = self._added(inputs)
        down, mid, within = residuals(self.parts, inputs, batch, added)
        output: Tensor = self.parts.unet(
            batch if further is None else torch.cat([batch, further], 1),
            steps,
            encoder_hidden_states=text,
            timestep_cond=inputs.get("guidance_embed"),
            added_cond_kwargs=_with_pictures(added, inputs.get("image_embeds")),
            down_block_additional_residuals=down,
            mid_block_additional_residual=mid,
            down_intrablock_additional_residuals=within,
            return_dict=False,
        )[0]
        return output.float()

    def _added(self, inputs: Named) -> dict[str, Tensor] | None:
        """What Stable Diffusion XL is told besides: the pooled prompt and sizes. The picture is
        whole, so that its original and its target size are its size."""
        pooled = inputs.get("pooled_embeds")
        if pooled is None:
            return None
        height, width = (side * self.vae_scale_factor for side in inputs["noisy"].shape[-2:])
        ids = repeated(pooled, (height, width, 0, 0, height, width))[None]
        return {"text_embeds": pooled, "time_ids": ids.repeat(len(pooled), 1)}

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
        parts = self.parts
        return digest_of(parts.scheduler, parts.tokenizers, self._networks())

    def digest(self) -> str:
        return self._digest


def _with_pictures(added: dict[str, Tensor] | None, embeds: Tensor | None) -> Any:
    """What the UNet is told besides, with the tokens of pictures where there are any."""
    return added if embeds is None else {**(added or {}), "image_embeds": embeds}
