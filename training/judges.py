"""Training of the networks that judge: the small CLIP and the backbone of lpips_demo."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torchvision.utils import save_image

from rerender.demo import captions
from training import components, data
from training.learn import TrainingStage


class ContrastiveJudge(TrainingStage):
    """The small CLIP, on batches whose pictures differ in little."""

    name = "clip"
    rate = 1e-3

    def __init__(self, seed: int, batch: int, device: str) -> None:
        self.seed, self.batch, self.device = seed, batch, device
        torch.manual_seed(seed)
        self.words: Any = components.tokenizer()
        self.clip: Any = components.clip(self.words)
        self.modules = nn.ModuleDict({"clip": self.clip}).to(device)

    def _similar(self, frames: Tensor, prompts: list[str]) -> Tensor:
        tokens = self.words(prompts, padding="max_length", return_tensors="pt").input_ids
        out = self.clip(tokens.to(self.device), data.pixel_values(frames).to(self.device))
        logits: Tensor = out.logits_per_image
        return logits

    def loss(self, step: int) -> Tensor:
        """Symmetric contrast; pictures with the same caption count as each other's."""
        frames, prompts = data.look_alikes(self.seed, step, self.batch)
        logits = self._similar(frames, prompts)
        same = torch.tensor([[float(a == b) for b in prompts] for a in prompts]).to(self.device)
        share = same / same.sum(1, keepdim=True)
        return F.cross_entropy(logits, share) + F.cross_entropy(logits.T, share)

    def preview(self, path: Path) -> None:
        """The similarity of held-out pictures and prompts as a picture, and hits in style."""
        frames, prompts, _ = data.previewed(64)
        logits = self._similar(frames, prompts)
        hits = sum(int(logits[i, i // 8 * 8 : i // 8 * 8 + 8].argmax()) == i % 8 for i in range(64))
        print(
            f"style picked among 8: {hits / 64:.2f}; caption among 64:",
            f"{(logits.argmax(1).cpu() == torch.arange(64)).float().mean():.2f}",
        )
        save_image(
            (logits.softmax(1)[None].cpu()).repeat_interleave(4, 1).repeat_interleave(4, 2), path
        )


class Naming(TrainingStage):
    """The backbone of lpips_demo: a residual network that names what a frame shows."""

    name = "lpips_demo"
    rate = 2e-3

    def __init__(self, seed: int, batch: int, device: str) -> None:
        self.seed, self.batch, self.device = seed, batch, device
        torch.manual_seed(seed)
        self.labels = captions.words()[6:]
        self.backbone: Any = components.backbone(self.labels)
        self.modules = nn.ModuleDict({"lpips_demo": self.backbone}).to(device)

    def _targets(self, prompts: list[str]) -> Tensor:
        said = [set(prompt.replace(",", "").split()) for prompt in prompts]
        return torch.tensor([[float(label in words) for label in self.labels] for words in said])

    def loss(self, step: int) -> Tensor:
        """Is each word of the world in the prompt of this frame?"""
        frames, prompts, _ = data.pictures(self.seed, step * self.batch, self.batch)
        logits = self.backbone(frames.to(self.device) * 2 - 1).logits
        targets = self._targets(prompts).to(self.device)
        return F.binary_cross_entropy_with_logits(logits, targets)

    def preview(self, path: Path) -> None:
        """The words' probabilities for held-out frames as a picture; the share of right ones."""
        frames, prompts, _ = data.previewed(64)
        self.modules.eval()
        guess = self.backbone(frames.to(self.device) * 2 - 1).logits.sigmoid().cpu()
        self.modules.train()
        right = ((guess > 0.5) == (self._targets(prompts) > 0.5)).float().mean()
        print(f"words right: {right:.3f}")
        save_image(guess[None].repeat_interleave(6, 1).repeat_interleave(6, 2), path)
