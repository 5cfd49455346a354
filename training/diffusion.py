"""Training of UNet, ControlNet and text encoder, together and from nothing."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torchvision.utils import save_image

from training import components, data
from training.decoder import fitted_autoencoder
from training.learn import TrainingStage

_UNCONDITIONAL = 0.1  # part of the captions, and of the control images, that are left out


class Diffusion(TrainingStage):
    """UNet, ControlNet and text encoder together, on the closed-form codes."""

    name = "diffusion"
    rate = 1.2e-3
    fresh = 0.25  # part of every batch that is rendered anew; the rest is drawn from the pool

    def __init__(self, seed: int, batch: int, device: str) -> None:
        self.seed, self.batch, self.device = seed, batch, device
        torch.manual_seed(seed)
        self.words: Any = components.tokenizer()
        self.vae: Any = fitted_autoencoder().to(device).eval()
        self.unet: Any = components.unet()
        self.control: Any = components.controlnet(self.unet)
        self.text: Any = components.text_encoder(self.words)
        _wake(self.control)
        nn.init.zeros_(self.unet.conv_out.weight)
        parts = {"unet": self.unet, "controlnet": self.control, "text_encoder": self.text}
        self.modules = nn.ModuleDict(parts).to(memory_format=torch.channels_last).to(device)
        self.scheduler: Any = components.scheduler()
        self.alphas: Tensor = self.scheduler.alphas_cumprod.to(device)
        self.pool = Pool(self)

    def encode(self, frames: Tensor) -> Tensor:
        """Frames in 0..1 to codes of unit power."""
        with torch.no_grad():
            code: Tensor = self.vae.encode(frames.to(self.device) * 2 - 1).latent_dist.mean
        return code

    def token_ids(self, prompts: list[str]) -> Tensor:
        """Prompts ``[N]`` to token numbers ``[N,TOKENS]``."""
        out = self.words(prompts, padding="max_length", truncation=True, return_tensors="pt")
        numbers: Tensor = out.input_ids
        return numbers.to(self.device)

    def loss(self, step: int) -> Tensor:
        """v-prediction, signal-to-noise weight capped at 5, noise levels spread evenly."""
        code, tokens, maps = self.pool.batch(step)
        g = torch.Generator().manual_seed(self.seed * 1_000_003 + step)
        return self.error(code, tokens, maps, g)

    def noise(
        self, code: Tensor, source: Tensor | None, level: Tensor, g: torch.Generator
    ) -> Tensor:
        """Normal noise in the shape of the codes."""
        return torch.randn(code.shape, generator=g, device=g.device).to(self.device)

    def error(
        self,
        code: Tensor,
        tokens: Tensor,
        maps: Tensor,
        g: torch.Generator,
        source: Tensor | None = None,
    ) -> Tensor:
        """The weighted error of the predicted v for codes of noise that ``g`` draws."""
        n, at = len(code), g.device
        places = torch.randperm(n, generator=g, device=at) + torch.rand(n, generator=g, device=at)
        level = (places * (1000 / n)).long()
        noise = self.noise(code, source, level.to(self.device), g)
        alpha = self.alphas[level.to(self.device)].view(-1, 1, 1, 1)
        noisy = alpha.sqrt() * code + (1 - alpha).sqrt() * noise
        target = alpha.sqrt() * noise - (1 - alpha).sqrt() * code
        tokens = torch.where(_drop(n, g).to(self.device)[:, None], self.token_ids([""]), tokens)
        keep = 1 - _drop(n, g).float().to(self.device)
        guess = self.predict(noisy, level.to(self.device), tokens, maps, keep)
        weight = (alpha / (1 - alpha)).clamp(max=5) / (alpha / (1 - alpha) + 1)
        error: Tensor = weight * (guess - target).square()
        return error.mean() * 4

    def predict(
        self, noisy: Tensor, level: Tensor, tokens: Tensor, maps: Tensor, keep: Tensor
    ) -> Tensor:
        """The UNet's v; ``keep`` ``[N]`` scales what the ControlNet adds."""
        text = self.text(tokens).last_hidden_state
        image = maps.expand(-1, 3, -1, -1)
        down, middle = self.control(noisy, level, text, image, return_dict=False)
        keep = keep.view(-1, 1, 1, 1)
        guess: Tensor = self.unet(
            noisy,
            level,
            text,
            down_block_additional_residuals=[residual * keep for residual in down],
            mid_block_additional_residual=middle * keep,
        ).sample
        return guess

    def preview(self, path: Path) -> None:
        """Held-out scenes: truth above samples from noise (8 steps, guidance 3), all styles."""
        frames, prompts, maps = data.previewed(16)
        model_error = _x0_error(self, frames, prompts, maps)
        code = sample(self, prompts, maps.to(self.device))
        shown = (self.vae.decode(code).sample.cpu() / 2 + 0.5).clamp(0, 1)
        print("error of x0 at 950, 700, 400, 150:", model_error, "pool", len(self.pool.codes))
        rows = torch.stack(
            [frames.view(2, 8, *frames.shape[1:]), shown.view(2, 8, *frames.shape[1:])], 1
        )
        save_image(rows.flatten(0, 2), path, nrow=8)


class Pool:
    """Codes, prompts and control images already rendered; it grows while training goes on."""

    first = 256
    kept = 2000  # of an older pool, when training is resumed

    def __init__(self, stage: Diffusion) -> None:
        self.stage = stage
        self.codes: list[Tensor] = []
        self.tokens: list[Tensor] = []
        self.maps: list[Tensor] = []

    def batch(self, step: int) -> tuple[Tensor, Tensor, Tensor]:
        """Codes, tokens and control images of batch ``step``."""
        grow = max(1, int(self.stage.batch * self.stage.fresh))
        self._fill(self.first + (step + 1) * grow)
        rng = np.random.default_rng([self.stage.seed, 7, step])
        newest = np.arange(len(self.codes) - grow, len(self.codes))
        rest = rng.integers(len(self.codes), size=self.stage.batch - grow)
        chosen = [*newest.tolist(), *rest.tolist()]
        device = self.stage.device
        return (
            torch.stack([self.codes[i] for i in chosen]).to(device).float(),
            torch.stack([self.tokens[i] for i in chosen]).to(device),
            torch.stack([self.maps[i] for i in chosen]).to(device).float(),
        )

    def _fill(self, size: int) -> None:
        # A resumed run does not render its old pool again: it starts from the newest ones.
        have = len(self.codes)
        start = getattr(self, "offset", None)
        if start is None:
            self.offset = start = max(0, size - self.kept)
        while start + have < size:
            count = min(16, size - start - have)
            frames, prompts, maps = data.pictures(self.stage.seed, start + have, count)
            self.codes += list(self.stage.encode(frames).cpu().half())
            self.tokens += list(self.stage.token_ids(prompts).cpu())
            self.maps += list(maps.bool())
            have += count


def sample(
    stage: Diffusion, prompts: list[str], maps: Tensor, steps: int = 8, guidance: float = 3.0
) -> Tensor:
    """Codes from noise with classifier-free guidance (DDIM)."""
    both = stage.token_ids([*prompts, *[""] * len(prompts)])
    n = len(prompts)
    shape = (n, components.LATENT, *(side // 8 for side in maps.shape[-2:]))
    code = torch.randn(shape, generator=torch.Generator().manual_seed(0)).to(stage.device)
    stage.scheduler.set_timesteps(steps)
    ones = torch.ones(2 * n, device=stage.device)
    for level in stage.scheduler.timesteps:
        levels = level.repeat(2 * n).to(stage.device)
        guess = stage.predict(code.repeat(2, 1, 1, 1), levels, both, maps.repeat(2, 1, 1, 1), ones)
        said, unsaid = guess.chunk(2)
        code = stage.scheduler.step(unsaid + guidance * (said - unsaid), level, code).prev_sample
    return code


def _x0_error(stage: Diffusion, frames: Tensor, prompts: list[str], maps: Tensor) -> list[float]:
    code, tokens = stage.encode(frames), stage.token_ids(prompts)
    noise = torch.randn(code.shape, generator=torch.Generator().manual_seed(1)).to(code)
    errors = []
    for level in (950, 700, 400, 150):
        alpha = stage.alphas[level]
        noisy = alpha.sqrt() * code + (1 - alpha).sqrt() * noise
        levels = torch.full((len(code),), level, device=stage.device)
        ones = torch.ones(len(code), device=stage.device)
        v = stage.predict(noisy, levels, tokens, maps.to(stage.device), ones)
        clean = alpha.sqrt() * noisy - (1 - alpha).sqrt() * v
        errors.append(round((clean - code).square().mean().sqrt().item(), 3))
    return errors


def _drop(count: int, generator: torch.Generator) -> Tensor:
    return torch.rand(count, generator=generator, device=generator.device) < _UNCONDITIONAL


def _wake(control: Any) -> None:
    """A ControlNet starts silent to spare a trained UNet; there is none to spare here."""
    quiet = [*control.controlnet_down_blocks, control.controlnet_mid_block]
    for conv in quiet:
        nn.init.xavier_uniform_(conv.weight, gain=0.5)
    nn.init.xavier_uniform_(control.controlnet_cond_embedding.conv_out.weight)
