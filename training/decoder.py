"""Training of the autoencoder: a closed-form encoder and the decoder that learns to undo it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torchvision.utils import save_image

from rerender.demo.captions import STYLES
from rerender.demo.world import World
from training import components, data, start
from training.learn import TrainingStage

_FIT_SCENES = 60


def fitted_autoencoder() -> Any:
    """The autoencoder in its closed-form start, the same whenever it is asked for."""
    torch.manual_seed(0)
    frames = [World(s).frame(s % 41, style) for s in range(_FIT_SCENES) for style in STYLES]
    model = components.autoencoder()
    start.fit(model, torch.stack(frames) * 2 - 1)
    model.encoder.requires_grad_(False)
    model.quant_conv.requires_grad_(False)
    return model


class Decoder(TrainingStage):
    """The autoencoder's decoder; its encoder keeps the closed form."""

    name = "vae"
    rate = 2e-3

    def __init__(self, seed: int, batch: int, device: str) -> None:
        self.seed, self.batch, self.device = seed, batch, device
        self.vae: Any = fitted_autoencoder()
        self.modules = nn.ModuleDict({"vae": self.vae}).to(device)

    def loss(self, step: int) -> Tensor:
        """Error of 64-pixel crops, aligned with the 8-pixel blocks."""
        rng = np.random.default_rng([self.seed, step])
        frames = data.frames(self.seed, step * self.batch, self.batch)
        y, x = rng.integers(0, 9, 2) * 8
        target = (frames[:, :, y : y + 64, x : x + 64] * 2 - 1).to(self.device)
        with torch.no_grad():
            code = self.vae.encode(target).latent_dist.mean
        return self.error(self.vae.decode(code).sample - target)

    def error(self, gap: Tensor) -> Tensor:
        """What is lowered, of pixels minus their targets in -1..1."""
        return gap.abs().mean() + 2 * gap.square().mean()

    def preview(self, path: Path) -> None:
        """Held-out frames above their round trips."""
        frames = data.previewed(24)[0]
        back = self.vae.decode(
            self.vae.encode(frames.to(self.device) * 2 - 1).latent_dist.mean
        ).sample
        back = (back.cpu() / 2 + 0.5).clamp(0, 1)
        psnr = -10 * torch.log10((back - frames).square().mean((1, 2, 3))).view(3, 8).mean(0)
        print("round trip, dB:", f"{psnr.mean():.1f}", [f"{value:.1f}" for value in psnr.tolist()])
        rows = torch.stack(
            [frames.view(3, 8, *frames.shape[1:]), back.view(3, 8, *frames.shape[1:])], 1
        )
        save_image(rows.flatten(0, 2), path, nrow=8)
