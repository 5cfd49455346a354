"""Teach the shipped small CLIP styles on natural pictures: ``python -m training.further_judge``.

It goes on from a weights folder. Every step is a batch of its first training and a few pictures
with natural statistics (``natural.py``) in all eight styles, of which it has to name the style.
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
import torch.nn.functional as F
from safetensors.torch import save_file
from torch import Tensor, nn
from transformers import CLIPModel, CLIPTokenizer

from rerender.demo import weights
from rerender.demo.captions import STYLES
from rerender.demo.world import HELD_OUT, World
from training import data, natural
from training.judges import ContrastiveJudge
from training.learn import Budget, learn

_SIDES = (128, 256, 384)


class FurtherJudge(ContrastiveJudge):
    """The small CLIP of a weights folder.

    Args:
        folder: weights to begin with.
        out: where the weights go whenever a preview is written.
        seed: of the pictures.
        batch: pictures of the demo world in a batch.
        natural: natural pictures in a batch, each in eight styles.
        device: where to compute.
    """

    rate = 3e-4
    save_every = 60.0

    def __init__(
        self, folder: Path, out: Path, seed: int, batch: int, natural: int, device: str
    ) -> None:
        self.seed, self.batch, self.natural, self.device = seed, batch, natural, device
        self.out = out
        self.words: Any = CLIPTokenizer.from_pretrained(folder / "clip")
        self.clip: Any = CLIPModel.from_pretrained(
            folder / "clip", local_files_only=True, use_safetensors=True, dtype=torch.float32
        )
        self.modules = nn.ModuleDict({"clip": self.clip}).to(device).train()

    def loss(self, step: int) -> Tensor:
        """The first training's loss, and cross-entropy over the eight styles."""
        rng = np.random.default_rng([self.seed, 13, step])
        frames, captions = named_styles(rng, self.natural)
        return super().loss(step) + self.naming(frames, captions)

    def naming(self, frames: Tensor, captions: list[str]) -> Tensor:
        """Cross-entropy of frames ``[N*8,3,128,128]``, eight styles one after the other, and of
        the captions ``[N*8]`` of the same order."""
        tokens = self.words(captions, padding="max_length", return_tensors="pt").input_ids
        shown = data.pixel_values(frames).to(self.device)
        out = self.clip(tokens.to(self.device), shown)
        count = len(STYLES)
        images = out.image_embeds.unflatten(0, (-1, count))
        texts = out.text_embeds.unflatten(0, (-1, count))
        logits = self.clip.logit_scale.exp() * torch.einsum("nsd,ntd->nst", images, texts)
        wanted = torch.arange(count, device=self.device).repeat(len(images))
        return F.cross_entropy(logits.flatten(0, 1), wanted)

    @torch.no_grad()
    def preview(self, path: Path) -> None:
        """As before, the share of natural pictures whose style is named, and the weights."""
        super().preview(path)
        frames, captions = named_styles(np.random.default_rng(HELD_OUT), 12)
        print("cross-entropy of natural styles", self.naming(frames, captions).item(), flush=True)
        state = {
            name: value.half().contiguous().cpu() for name, value in self.clip.state_dict().items()
        }
        save_file(state, self.out / "clip.safetensors", {"format": "pt"})


def named_styles(rng: np.random.Generator, count: int) -> tuple[Tensor, list[str]]:
    """Natural pictures in all styles ``[count*8,3,128,128]``, each beside a sentence of the demo
    world in which only the style is true."""
    frames, captions = [], []
    for _ in range(count):
        side = int(rng.choice(_SIDES))
        photo = natural.drawn(rng, side)
        world = World(int(rng.integers(HELD_OUT)))
        for style in STYLES:
            shown = natural.restyled(photo, style)
            if side != _SIDES[0]:
                shown = cv2.resize(shown, _SIDES[:1] * 2, interpolation=cv2.INTER_AREA)
            frames.append(torch.from_numpy(np.ascontiguousarray(shown.transpose(2, 0, 1))))
            captions.append(world.prompt(style))
    return torch.stack(frames).float(), captions


def main() -> None:
    """Parse the command line and train."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, required=True, help="weights as they come")
    parser.add_argument("--weights", type=Path, default=weights.FOLDER, help="what to begin with")
    parser.add_argument("--work", type=Path, default=Path("outputs/further_judge"))
    parser.add_argument("--seconds", type=float, default=480, help="end so long after the start")
    parser.add_argument("--steps", type=int, default=1_000_000)
    parser.add_argument("--batch", type=int, default=48, help="pictures of the demo world")
    parser.add_argument("--natural", type=int, default=8, help="natural pictures")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--device", default="cuda")
    options = parser.parse_args()
    began = time.monotonic()
    torch.set_num_threads(1)
    cv2.setNumThreads(0)
    weights.verify(options.weights)
    options.out.mkdir(parents=True, exist_ok=True)
    stage = FurtherJudge(
        options.weights, options.out, options.seed, options.batch, options.natural, options.device
    )
    left = options.seconds - (time.monotonic() - began)
    learn(stage, Budget(options.steps, left / 60), options.work)


if __name__ == "__main__":
    main()
