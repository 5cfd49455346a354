"""The four things that are trained: decoder, diffusion, CLIP, and the perceptual backbone."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from diffusers import AutoencoderKL
from torch import Tensor, nn
from torchvision.utils import save_image

from rerender.demo import captions, components, data, start
from rerender.demo.captions import STYLES
from rerender.demo.learn import Stage
from rerender.demo.world import HELD_OUT, World

_FIT_SCENES = 60
_UNCONDITIONAL = 0.1  # part of the captions, and of the control images, that are left out


def fitted_autoencoder() -> AutoencoderKL:
    """The autoencoder in its closed-form start, the same whenever it is asked for."""
    torch.manual_seed(0)
    frames = [World(s).frame(s % 41, style) for s in range(_FIT_SCENES) for style in STYLES]
    model = components.autoencoder()
    start.fit(model, torch.stack(frames) * 2 - 1)
    model.encoder.requires_grad_(False)
    model.quant_conv.requires_grad_(False)
    return model


def held_out(count: int) -> tuple[Tensor, list[str], Tensor]:
    """Pictures for previews: held-out scenes, every style in turn."""
    drawn = [(World(HELD_OUT + i // 8), STYLES[i % 8]) for i in range(count)]
    frames = torch.stack([world.frame(7, style) for world, style in drawn])
    maps = torch.stack([data.edges(world.frame(7)) for world, _ in drawn])
    return frames, [world.prompt(style) for world, style in drawn], maps


class Decoder(Stage):
    """The autoencoder's decoder; its encoder keeps the closed form."""

    name = "vae"
    rate = 2e-3

    def __init__(self, seed: int, batch: int, device: str) -> None:
        self.seed, self.batch, self.device = seed, batch, device
        self.modules = nn.ModuleDict({"vae": fitted_autoencoder()}).to(device)

    def loss(self, step: int) -> Tensor:
        """L1 and squared error of 64-pixel crops, aligned with the 8-pixel blocks."""
        rng = np.random.default_rng([self.seed, step])
        frames = data.frames(self.seed, step * self.batch, self.batch)
        y, x = rng.integers(0, 9, 2) * 8
        target = (frames[:, :, y : y + 64, x : x + 64] * 2 - 1).to(self.device)
        with torch.no_grad():
            code = self.modules["vae"].encode(target).latent_dist.mean
        gap = self.modules["vae"].decode(code).sample - target
        return gap.abs().mean() + 2 * gap.square().mean()

    def preview(self, path: Path) -> None:
        """Held-out frames above their round trips."""
        frames = held_out(24)[0]
        model = self.modules["vae"]
        back = model.decode(model.encode(frames.to(self.device) * 2 - 1).latent_dist.mean).sample
        back = (back.cpu() / 2 + 0.5).clamp(0, 1)
        psnr = -10 * torch.log10((back - frames).square().mean((1, 2, 3))).view(3, 8).mean(0)
        print("round trip, dB:", f"{psnr.mean():.1f}", [f"{value:.1f}" for value in psnr.tolist()])
        rows = torch.stack(
            [frames.view(3, 8, *frames.shape[1:]), back.view(3, 8, *frames.shape[1:])], 1
        )
        save_image(rows.flatten(0, 2), path, nrow=8)


class Diffusion(Stage):
    """UNet, ControlNet and text encoder together, on the closed-form codes."""

    name = "diffusion"
    rate = 1.2e-3
    fresh = 0.25  # part of every batch that is rendered anew; the rest is drawn from the pool

    def __init__(self, seed: int, batch: int, device: str) -> None:
        self.seed, self.batch, self.device = seed, batch, device
        torch.manual_seed(seed)
        self.words = components.tokenizer()
        self.vae = fitted_autoencoder().to(device).eval()
        unet = components.unet()
        control = components.controlnet(unet)
        _wake(control)
        nn.init.zeros_(unet.conv_out.weight)
        self.modules = nn.ModuleDict(
            {
                "unet": unet,
                "controlnet": control,
                "text_encoder": components.text_encoder(self.words),
            }
        ).to(device, memory_format=torch.channels_last)
        self.scheduler = components.scheduler()
        self.alphas = self.scheduler.alphas_cumprod.to(device)
        self.pool = Pool(self)

    def encode(self, frames: Tensor) -> Tensor:
        """Frames in 0..1 to codes of unit power."""
        with torch.no_grad():
            return self.vae.encode(frames.to(self.device) * 2 - 1).latent_dist.mean

    def tokens(self, prompts: list[str]) -> Tensor:
        """Prompts ``[N]`` to token numbers ``[N,TOKENS]``."""
        out = self.words(prompts, padding="max_length", truncation=True, return_tensors="pt")
        return out.input_ids.to(self.device)

    def loss(self, step: int) -> Tensor:
        """v-prediction, signal-to-noise weight capped at 5, noise levels spread evenly."""
        code, tokens, maps = self.pool.batch(step)
        g = torch.Generator().manual_seed(self.seed * 1_000_003 + step)
        n = len(code)
        level = ((torch.randperm(n, generator=g) + torch.rand(n, generator=g)) * (1000 / n)).long()
        noise = torch.randn(code.shape, generator=g).to(self.device)
        alpha = self.alphas[level.to(self.device)].view(-1, 1, 1, 1)
        noisy = alpha.sqrt() * code + (1 - alpha).sqrt() * noise
        target = alpha.sqrt() * noise - (1 - alpha).sqrt() * code
        tokens = torch.where(_drop(n, g).to(self.device)[:, None], self.tokens([""]), tokens)
        keep = 1 - _drop(n, g).float().to(self.device)
        guess = self.predict(noisy, level.to(self.device), tokens, maps, keep)
        weight = (alpha / (1 - alpha)).clamp(max=5) / (alpha / (1 - alpha) + 1)
        return (weight * (guess - target).square()).mean() * 4

    def predict(
        self, noisy: Tensor, level: Tensor, tokens: Tensor, maps: Tensor, keep: Tensor
    ) -> Tensor:
        """The UNet's v; ``keep`` ``[N]`` scales what the ControlNet adds."""
        text = self.modules["text_encoder"](tokens).last_hidden_state
        image = maps.expand(-1, 3, -1, -1)
        down, middle = self.modules["controlnet"](noisy, level, text, image, return_dict=False)
        keep = keep.view(-1, 1, 1, 1)
        return self.modules["unet"](
            noisy,
            level,
            text,
            down_block_additional_residuals=[residual * keep for residual in down],
            mid_block_additional_residual=middle * keep,
        ).sample

    def preview(self, path: Path) -> None:
        """Held-out scenes: truth above samples from noise (8 steps, guidance 3), all styles."""
        frames, prompts, maps = held_out(16)
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
            self.tokens += list(self.stage.tokens(prompts).cpu())
            self.maps += list(maps.bool())
            have += count


def sample(
    stage: Diffusion, prompts: list[str], maps: Tensor, steps: int = 8, guidance: float = 3.0
) -> Tensor:
    """Codes from noise with classifier-free guidance (DDIM)."""
    both = stage.tokens([*prompts, *[""] * len(prompts)])
    n = len(prompts)
    code = torch.randn(
        n,
        *stage.vae.encode(torch.zeros(1, 3, 128, 128).to(stage.device)).latent_dist.mean.shape[1:],
        generator=torch.Generator().manual_seed(0),
    )
    code = code.to(stage.device)
    stage.scheduler.set_timesteps(steps)
    ones = torch.ones(2 * n, device=stage.device)
    for level in stage.scheduler.timesteps:
        levels = level.repeat(2 * n).to(stage.device)
        guess = stage.predict(code.repeat(2, 1, 1, 1), levels, both, maps.repeat(2, 1, 1, 1), ones)
        said, unsaid = guess.chunk(2)
        code = stage.scheduler.step(unsaid + guidance * (said - unsaid), level, code).prev_sample
    return code


def _x0_error(stage: Diffusion, frames: Tensor, prompts: list[str], maps: Tensor) -> list[float]:
    code, tokens = stage.encode(frames), stage.tokens(prompts)
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
    return torch.rand(count, generator=generator) < _UNCONDITIONAL


def _wake(control: nn.Module) -> None:
    """A ControlNet starts silent to spare a trained UNet; there is none to spare here."""
    quiet = [*control.controlnet_down_blocks, control.controlnet_mid_block]
    for conv in quiet:
        nn.init.xavier_uniform_(conv.weight, gain=0.5)
    nn.init.xavier_uniform_(control.controlnet_cond_embedding.conv_out.weight)


class Contrast(Stage):
    """The small CLIP, on batches whose pictures differ in little."""

    name = "clip"
    rate = 1e-3

    def __init__(self, seed: int, batch: int, device: str) -> None:
        self.seed, self.batch, self.device = seed, batch, device
        torch.manual_seed(seed)
        self.words = components.tokenizer()
        self.modules = nn.ModuleDict({"clip": components.clip(self.words)}).to(device)

    def _similar(self, frames: Tensor, prompts: list[str]) -> Tensor:
        tokens = self.words(prompts, padding="max_length", return_tensors="pt").input_ids
        out = self.modules["clip"](
            tokens.to(self.device), data.pixel_values(frames).to(self.device)
        )
        return out.logits_per_image

    def loss(self, step: int) -> Tensor:
        """Symmetric contrast; pictures with the same caption count as each other's."""
        frames, prompts = data.look_alikes(self.seed, step, self.batch)
        logits = self._similar(frames, prompts)
        same = torch.tensor([[float(a == b) for b in prompts] for a in prompts]).to(self.device)
        share = same / same.sum(1, keepdim=True)
        return F.cross_entropy(logits, share) + F.cross_entropy(logits.T, share)

    def preview(self, path: Path) -> None:
        """The similarity of held-out pictures and prompts as a picture, and hits in style."""
        frames, prompts, _ = held_out(64)
        logits = self._similar(frames, prompts)
        hits = sum(int(logits[i, i // 8 * 8 : i // 8 * 8 + 8].argmax()) == i % 8 for i in range(64))
        print(
            f"style picked among 8: {hits / 64:.2f}; caption among 64:",
            f"{(logits.argmax(1).cpu() == torch.arange(64)).float().mean():.2f}",
        )
        save_image(
            (logits.softmax(1)[None].cpu()).repeat_interleave(4, 1).repeat_interleave(4, 2), path
        )


class Naming(Stage):
    """The backbone of lpips_demo: a residual network that names what a frame shows."""

    name = "lpips_demo"
    rate = 2e-3

    def __init__(self, seed: int, batch: int, device: str) -> None:
        self.seed, self.batch, self.device = seed, batch, device
        torch.manual_seed(seed)
        self.labels = captions.words()[6:]
        self.modules = nn.ModuleDict({"lpips_demo": components.backbone(self.labels)}).to(device)

    def _targets(self, prompts: list[str]) -> Tensor:
        said = [set(prompt.replace(",", "").split()) for prompt in prompts]
        return torch.tensor([[float(label in words) for label in self.labels] for words in said])

    def loss(self, step: int) -> Tensor:
        """Is each word of the world in the prompt of this frame?"""
        frames, prompts, _ = data.pictures(self.seed, step * self.batch, self.batch)
        logits = self.modules["lpips_demo"](frames.to(self.device) * 2 - 1).logits
        targets = self._targets(prompts).to(self.device)
        return F.binary_cross_entropy_with_logits(logits, targets)

    def preview(self, path: Path) -> None:
        """The words' probabilities for held-out frames as a picture; the share of right ones."""
        frames, prompts, _ = held_out(64)
        self.modules.eval()
        guess = self.modules["lpips_demo"](frames.to(self.device) * 2 - 1).logits.sigmoid().cpu()
        self.modules.train()
        right = ((guess > 0.5) == (self._targets(prompts) > 0.5)).float().mean()
        print(f"words right: {right:.3f}")
        save_image(guess[None].repeat_interleave(6, 1).repeat_interleave(6, 2), path)


STAGES: dict[str, type[Decoder | Diffusion | Contrast | Naming]] = {
    stage.name: stage for stage in (Decoder, Contrast, Naming, Diffusion)
}
