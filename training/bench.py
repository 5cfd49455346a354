"""The demo model on its test bench: held-out scenes, diffusers' own pipelines, and judges."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import chain
from pathlib import Path

import cv2
import numpy as np
import torch
from diffusers import (
    ControlNetModel,
    StableDiffusionControlNetImg2ImgPipeline,
    StableDiffusionControlNetPipeline,
)
from torch import Tensor
from transformers import CLIPModel, CLIPTokenizer

from rerender.demo import perceptual
from rerender.demo.world import HELD_OUT, World
from training import data

STEPS, GUIDANCE = 20, 2.0
TOLERANCE = 2  # pixels within which two edges agree
FRAME = 11  # of every clip
_BATCH = 16


@dataclass
class Bench:
    """The loaded model and the scenes it is measured on.

    Attributes:
        folder: weights folder.
        scenes: how many held-out scenes.
    """

    folder: Path
    scenes: int

    def __post_init__(self) -> None:
        common = {"dtype": torch.float32, "use_safetensors": True, "local_files_only": True}
        control = ControlNetModel.from_pretrained(self.folder / "controlnet", **common)
        self.from_noise = StableDiffusionControlNetPipeline.from_pretrained(
            self.folder, controlnet=control, **common
        )
        self.from_noise.set_progress_bar_config(disable=True)
        self.from_frame = StableDiffusionControlNetImg2ImgPipeline(
            **self.from_noise.components, requires_safety_checker=False
        )
        self.from_frame.set_progress_bar_config(disable=True)
        self.clip = CLIPModel.from_pretrained(self.folder / "clip", dtype=torch.float32).eval()
        self.words = CLIPTokenizer.from_pretrained(self.folder / "clip")
        self.backbone = perceptual.load(self.folder)
        self.worlds = [World(HELD_OUT + i) for i in range(self.scenes)]
        self.photos = torch.stack([world.frame(FRAME) for world in self.worlds])
        self.maps = torch.stack([data.edges(photo) for photo in self.photos])

    @torch.no_grad()
    def round_trip(self, frames: Tensor) -> Tensor:
        """Frames in 0..1 through the autoencoder."""
        vae = self.from_noise.vae
        return torch.cat(
            [
                vae.decode(vae.encode(part * 2 - 1).latent_dist.mean).sample.clamp(-1, 1) / 2 + 0.5
                for part in torch.split(frames, _BATCH)
            ]
        )

    def draw(self, prompts: list[str], maps: Tensor, scale: float = 1.0) -> Tensor:
        """Frames from noise, prompt and control image; ``scale`` 0 leaves the ControlNet out."""
        return torch.cat(
            [
                self.from_noise(
                    prompts[part],
                    image=maps[part].expand(-1, 3, -1, -1),
                    num_inference_steps=STEPS,
                    guidance_scale=GUIDANCE,
                    generator=_noise(part),
                    output_type="pt",
                    controlnet_conditioning_scale=scale,
                ).images
                for part in _parts(len(prompts))
            ]
        )

    def translate(
        self, prompts: list[str], frames: Tensor, maps: Tensor, strength: float
    ) -> Tensor:
        """Frames translated from ``frames`` (0..1) at a strength."""
        return torch.cat(
            [
                self.from_frame(
                    prompts[part],
                    image=frames[part],
                    control_image=maps[part].expand(-1, 3, -1, -1),
                    num_inference_steps=STEPS,
                    guidance_scale=GUIDANCE,
                    strength=strength,
                    generator=_noise(part),
                    output_type="pt",
                ).images
                for part in _parts(len(prompts))
            ]
        )

    @torch.no_grad()
    def picked(self, frames: Tensor, candidates: list[list[str]]) -> list[int]:
        """For every frame, which of its own candidate prompts the small CLIP finds nearest."""
        tokens = self.words(
            list(chain(*candidates)), padding="max_length", return_tensors="pt"
        ).input_ids
        image = self.clip(tokens[:1], data.pixel_values(frames)).image_embeds
        text = self.clip(tokens, data.pixel_values(frames[:1])).text_embeds
        text = text.view(len(frames), -1, text.shape[-1])
        return torch.einsum("nd,nkd->nk", image, text).argmax(1).tolist()


def psnr(one: Tensor, other: Tensor) -> Tensor:
    """Per frame ``[N]`` in dB, frames in 0..1."""
    return -10 * torch.log10((one - other).square().mean((1, 2, 3)) + 1e-10)


def edge_f1(found: Tensor, wanted: Tensor) -> float:
    """F1 of two edge maps ``[H,W]`` of 0 and 1, edges within ``TOLERANCE`` pixels agreeing."""
    a, b = (m.numpy().astype(np.uint8) for m in (found, wanted))
    disc = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (2 * TOLERANCE + 1,) * 2)
    right = (a & cv2.dilate(b, disc)).sum() / max(int(a.sum()), 1)
    reached = (b & cv2.dilate(a, disc)).sum() / max(int(b.sum()), 1)
    return float(2 * right * reached / max(right + reached, 1e-9))


def _noise(part: slice) -> list[torch.Generator]:
    return [torch.Generator().manual_seed(HELD_OUT + i) for i in range(part.start, part.stop)]


def _parts(count: int) -> Iterator[slice]:
    return (slice(i, min(i + _BATCH, count)) for i in range(0, count, _BATCH))
