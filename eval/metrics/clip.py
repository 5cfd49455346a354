"""CLIP embeddings of frames and prompts, for all metrics that use them."""

from __future__ import annotations

import json
from abc import abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from eval.contracts import Batch, Curve, Gauge, Metric, Trial, UnavailableError
from eval.metrics.weights import find, label, opened
from rerender.errors import WeightsError
from rerender.kinds import LocalModel
from rerender.video import Clip

_MEAN = (0.48145466, 0.4578275, 0.40821073)  # of the images that OpenAI's CLIP was trained on
_STD = (0.26862954, 0.26130258, 0.27577711)


@dataclass(frozen=True)
class Judge:
    """A CLIP model and what it wants to be fed.

    Attributes:
        model: a ``CLIPModel`` of transformers.
        tokenizer: its tokenizer.
        size: side of the square it looks at, in pixels.
        mean, std: of each colour channel.
    """

    model: Any
    tokenizer: Any
    size: int
    mean: tuple[float, ...]
    std: tuple[float, ...]

    def images(self, frames: Tensor) -> Tensor:
        """Unit embeddings ``[B,D]`` of frames ``[B,3,H,W]`` in 0..1: the short side is resized
        (bicubic, antialiased) to the model's size and the centre square cut out."""
        frames = centre_square(frames, self.size).clamp(0, 1).to(self.model.device)
        mean, std = (frames.new_tensor(x).view(1, 3, 1, 1) for x in (self.mean, self.std))
        return _unit(self.model.get_image_features(pixel_values=(frames - mean) / std))

    def texts(self, prompts: Sequence[str]) -> Tensor:
        """Unit embeddings ``[N,D]`` of prompts, cut at the model's length."""
        tokens = self.tokenizer(list(prompts), padding=True, truncation=True, return_tensors="pt")
        return _unit(self.model.get_text_features(**tokens.to(self.model.device)))


@dataclass(frozen=True, kw_only=True)
class ClipMetric(Metric):
    """A metric on CLIP embeddings.

    Attributes:
        weights: "demo", a local folder, or a hub id that has been downloaded before.
    """

    weights: LocalModel

    @property
    def name(self) -> str:
        """The metric's file, with _demo where the demo CLIP is the judge."""
        return super().name + ("_demo" if self.weights == "demo" else "")

    def check(self, trial: Trial) -> None:
        find(self.weights, "clip")

    def note(self) -> str:
        return label(self.weights, "clip")

    def open(self, trial: Trial) -> Gauge:
        judge = load(find(self.weights, "clip"), trial.device)
        with torch.inference_mode():
            return self.gauge(judge, trial)

    @abstractmethod
    def gauge(self, judge: Judge, trial: Trial) -> Gauge:
        """The gauge, given the loaded model."""

    def results(self, judge: Judge, batch: Batch) -> Tensor:
        """Embeddings of the result's frames, ``[B,D]``, computed once for all CLIP metrics."""
        return batch.once((self.weights, "result"), lambda: judge.images(batch.results))

    def sources(self, judge: Judge, batch: Batch) -> Tensor:
        """Embeddings of the source's frames, ``[B,D]``."""
        return batch.once((self.weights, "source"), lambda: judge.images(batch.sources))


def need_prompts(trial: Trial) -> None:
    """Refuse clips whose source prompt is missing or no other than the target prompt.

    Raises:
        UnavailableError: there is nothing to tell apart.
    """
    if not trial.clip.source_prompt:
        raise UnavailableError("no source prompt (give one: source_prompt=TEXT)")
    if trial.clip.source_prompt == trial.clip.prompt:
        raise UnavailableError("the source prompt equals the prompt")


def numbers(values: Tensor) -> Curve:
    """A curve from a tensor ``[B]``."""
    return [float(value) for value in values.cpu()]


def centre_square(frames: Tensor, size: int) -> Tensor:
    """``[B,3,H,W]`` -> ``[B,3,size,size]``: short side resized, centre cut out."""
    height, width = frames.shape[-2:]
    scale = size / min(height, width)
    target = max(size, round(height * scale)), max(size, round(width * scale))
    if target != (height, width):
        frames = F.interpolate(frames, target, mode="bicubic", antialias=True, align_corners=False)
    top, left = (target[0] - size) // 2, (target[1] - size) // 2
    return frames[..., top : top + size, left : left + size]


@lru_cache(maxsize=2)
def load(folder: Path, device: str) -> Judge:
    """A CLIP model from a local folder."""
    from transformers import AutoTokenizer, CLIPModel

    model = opened(CLIPModel, folder)
    file = folder / "preprocessor_config.json"
    try:
        tokenizer = AutoTokenizer.from_pretrained(folder, local_files_only=True)
        wanted = dict(json.loads(file.read_text("utf-8"))) if file.is_file() else {}
    except Exception as error:  # the library raises a dozen kinds and never names the file
        reason = " ".join(str(error).split())[:200]
        cure = "restore the files of its tokenizer and preprocessor"
        raise WeightsError(folder, f"cannot be read ({reason})", cure) from error
    mean, std = wanted.get("image_mean", _MEAN), wanted.get("image_std", _STD)
    size = model.config.vision_config.image_size
    return Judge(model.to(device), tokenizer, size, tuple(mean), tuple(std))


def _unit(features: Any) -> Tensor:
    """Rows of length one; newer versions of transformers wrap the projected embedding."""
    rows: Tensor = getattr(features, "pooler_output", features)
    return F.normalize(rows.float(), dim=-1)


def asked_in_time(judge: Judge, clip: Clip) -> Callable[[Batch], Tensor]:
    """The unit embeddings ``[B,D]`` of the prompts of a batch's frames."""
    texts = {each.prompt: judge.texts([each.prompt])[0] for each in clip.ranges}

    def asked(batch: Batch) -> Tensor:
        return torch.stack([texts[clip.prompt_at(moment.index)] for moment in batch.moments])

    return asked
