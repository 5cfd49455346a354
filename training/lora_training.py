"""A LoRA of a look: low-rank weights beside a UNet, and the loss by which they are learnt.

What is learnt is ``W x + (alpha / r) B A x`` with ``A [r,in]``, ``B [out,r]`` beside the UNet's
frozen weights W (Hu et al. 2021, arXiv 2106.09685), by the loss of the model's own training. Half
of every batch are pictures that the model made itself, on which it has to go on predicting what it
predicted without the LoRA (prior preservation, Ruiz et al. 2022, arXiv 2208.12242, with the model's
own prediction as the target), so that the other words keep their looks.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from diffusers import StableDiffusionPipeline
from peft import LoraConfig
from peft.utils import get_peft_model_state_dict
from torch import Tensor, nn
from torchvision.utils import save_image

from rerender.contracts import NoiseRequest, guide
from rerender.model.diffusion import StableDiffusion
from rerender.sampler.ddim import DDIM
from training.learn import TrainingStage

FILE = "pytorch_lora_weights.safetensors"  # the name under which diffusers looks for it
ATTENTION = ("to_q", "to_k", "to_v", "to_out.0")
TRANSFORMER = (*ATTENTION, "proj_in", "proj_out", "ff.net.0.proj", "ff.net.2")
LAYERS = {
    "attention": ATTENTION,
    "transformer": TRANSFORMER,
    "all": (*TRANSFORMER, "conv1", "conv2", "conv_shortcut", "time_emb_proj"),
}
_STEPS, _GUIDANCE = 20, 2.0  # of samples
_TOGETHER = 8  # samples in a batch
_UNTOLD = 0.1  # share of the captions that are left out, for classifier-free guidance
_SNR = 5.0  # cap of the signal-to-noise weight (min-SNR, Hang et al. 2023, arXiv 2303.09556)


@dataclass(frozen=True)
class LoraSettings:
    """What decides the weights, besides the pictures and the model.

    Attributes:
        rank: r, columns of B.
        layers: which layers are adapted, a key of ``LAYERS``.
        rate: peak learning rate.
        batch: pictures in a batch.
        keep: share of every batch that holds the model to what it could do before, 0..1.
        prior: how many pictures the model makes for that.
        size: side of the square pictures in pixels.
        seed: of everything drawn.
    """

    rank: int = 16
    layers: str = "all"
    rate: float = 2e-3
    batch: int = 8
    keep: float = 0.5
    prior: int = 32
    size: int = 128
    seed: int = 0


class LoraTraining(TrainingStage):
    """Low-rank weights beside those of a UNet.

    Args:
        model: the model that is adapted.
        pictures: ``[N,3,S,S]`` in 0..1, and what they show.
        prior: prompts whose look is to stay, drawn from in turn.
        settings: what decides the weights.
        report: told what is being made before training.

    Attributes:
        name: of the losses.
        modules: the UNet; only its low-rank weights ask for gradients.
    """

    name = "lora"
    warm_up = 20
    save_every = 60.0

    def __init__(
        self,
        model: StableDiffusion,
        pictures: tuple[Tensor, Sequence[str]],
        prior: Sequence[str],
        settings: LoraSettings,
        report: Callable[[str], None] = lambda line: None,
    ) -> None:
        frames, self.captions = pictures
        self.model, self.settings, self.rate = model, settings, settings.rate
        self.unet: Any = model.parts.unet
        self._embeds: dict[str, Tensor] = {}
        self.codes = torch.cat([model.encode(frame) for frame in frames])
        self.prior = [prior[i % len(prior)] for i in range(settings.prior)] if prior else []
        if settings.keep and self.prior:
            report(f"making {len(self.prior)} pictures of the look that is to stay")
            self.kept = self.sample(self.prior)
        config = LoraConfig(
            r=settings.rank,
            lora_alpha=settings.rank,  # so that a reader that knows no alpha is right, too
            target_modules=list(LAYERS[settings.layers]),
        )
        # As diffusers and peft initialise: A by Kaiming, B zero, so that training starts at the
        # model itself.
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(settings.seed)
            self.unet.add_adapter(config)
        self.modules = nn.ModuleDict({"unet": self.unet})

    def embeds(self, prompts: Sequence[str]) -> Tensor:
        """Embeddings ``[N,T,D]`` of prompts."""
        for prompt in prompts:
            if prompt not in self._embeds:
                self._embeds[prompt] = self.model.condition(prompt, "", (), False).prompt_embeds
        return torch.cat([self._embeds[prompt] for prompt in prompts])

    def loss(self, step: int) -> Tensor:
        """Squared error of the UNet's output, weighted by min(SNR, 5), noise levels spread
        evenly; see the top of this file."""
        settings, device = self.settings, self.model.device
        g = torch.Generator().manual_seed(settings.seed * 1_000_003 + step)
        kept = round(settings.batch * settings.keep) if self.prior else 0
        new = settings.batch - kept
        chosen = torch.randperm(len(self.codes), generator=g).repeat(-(-new // len(self.codes)))
        captions = [self.captions[int(i)] for i in chosen[:new]]
        code = self.codes[chosen[:new]]
        if kept:
            again = torch.randint(len(self.prior), (kept,), generator=g)
            captions += [self.prior[int(i)] for i in again]
            code = torch.cat([code, self.kept[again]])
        told = torch.rand(len(code), generator=g) >= _UNTOLD
        text = self.embeds([c if t else "" for c, t in zip(captions, told, strict=True)])
        total = len(self.model.alphas_cumprod)
        places = torch.randperm(len(code), generator=g) + torch.rand(len(code), generator=g)
        level = (places * (total / len(code))).long()
        noise = torch.randn(code.shape, generator=g).to(device)
        alpha = self.model.alphas_cumprod[level].float().to(device).view(-1, 1, 1, 1)
        noisy = alpha.sqrt() * code + (1 - alpha).sqrt() * noise
        level = level.to(device)
        target = self._target(code, noise, alpha)
        if kept:
            self.unet.disable_adapters()
            with torch.no_grad():
                target[new:] = self._predict(noisy[new:], level[new:], text[new:])
            self.unet.enable_adapters()
        error = (self._predict(noisy, level, text) - target).square()
        snr = alpha / (1 - alpha)
        kind = self._kind()
        divisors = {"epsilon": snr, "sample": torch.ones_like(snr)}
        weight = snr.clamp(max=_SNR) / divisors.get(kind, snr + 1)
        return (weight * error).mean()

    def _kind(self) -> str:
        return str(self.model.parts.scheduler.get("prediction_type", "epsilon"))

    def _target(self, code: Tensor, noise: Tensor, alpha: Tensor) -> Tensor:
        if self._kind() == "epsilon":
            return noise.clone()
        if self._kind() == "sample":
            return code.clone()
        return alpha.sqrt() * noise - (1 - alpha).sqrt() * code

    def _predict(self, noisy: Tensor, level: Tensor, text: Tensor) -> Tensor:
        device = self.model.device
        mixed = torch.autocast("cuda", torch.bfloat16) if device.type == "cuda" else nullcontext()
        with mixed:
            output: Tensor = self.unet(noisy, level, text, return_dict=False)[0]
        return output.float()

    @torch.no_grad()
    def sample(self, prompts: Sequence[str], first: int = 0) -> Tensor:
        """Clean latents ``[N,C,h,w]`` from noise (DDIM, 20 steps, guidance 2); the noise is that
        of numbers ``first`` and up."""
        model = self.model
        schedule = DDIM().schedule(_STEPS, model)
        made: list[Tensor] = []
        for start in range(0, len(prompts), _TOGETHER):
            part = prompts[start : start + _TOGETHER]
            conditions = [model.condition(prompt, "", (), True) for prompt in part]
            noisy = [self._noise(first + start + i) for i in range(len(part))]
            for step, alpha in enumerate(schedule.alphas_cumprod[:-1]):
                time = schedule.timesteps[step]
                requests = [
                    NoiseRequest(latent, time, condition, ())
                    for latent, condition in zip(noisy, conditions, strict=True)
                ]
                estimates = [guide(b, _GUIDANCE) for b in model.predict_noise(requests)]
                after = schedule.alphas_cumprod[step + 1]
                for i, (latent, estimate) in enumerate(zip(noisy, estimates, strict=True)):
                    clean = (latent - (1 - alpha) ** 0.5 * estimate) / alpha**0.5
                    noisy[i] = after**0.5 * clean + (1 - after) ** 0.5 * estimate
            made += noisy
        return torch.cat(made)

    def _noise(self, number: int) -> Tensor:
        g = torch.Generator().manual_seed(self.settings.seed * 1_000_003 + number)
        return torch.randn((1, *self.codes.shape[1:]), generator=g).to(self.model.device)

    def preview(self, path: Path) -> None:
        """Above: some of the pictures. Below: what the model makes of their captions."""
        chosen = range(0, len(self.codes), -(-len(self.codes) // 4))
        truths = [self.model.decode(self.codes[i : i + 1]) for i in chosen]
        codes = self.sample([self.captions[i] for i in chosen])
        made = [self.model.decode(code[None]) for code in codes]
        shown = torch.stack([*truths, *made]).clamp(0, 1).cpu()
        save_image(shown, path, nrow=len(truths))

    def save(self, folder: Path) -> None:
        """Write ``pytorch_lora_weights.safetensors``."""
        state = get_peft_model_state_dict(self.unet)
        state = {name: value.contiguous().cpu() for name, value in state.items()}
        part = folder / ".part"
        StableDiffusionPipeline.save_lora_weights(part, unet_lora_layers=state)
        (part / FILE).chmod(0o644)
        (part / FILE).replace(folder / FILE)
        shutil.rmtree(part)
