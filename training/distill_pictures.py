"""What a distillation is told, and the pictures that it learns from."""

from __future__ import annotations

import json
import multiprocessing
from collections.abc import Iterable
from contextlib import ExitStack
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import torch
from diffusers import AutoencoderKL
from safetensors.torch import load_file, save_file
from torch import Tensor
from tqdm import tqdm
from transformers import CLIPTokenizer

from training import data

_CHUNK = 64  # pictures that a worker draws at a time


@dataclass(frozen=True)
class DistillSettings:
    """What decides the weights, besides the teacher.

    Attributes:
        pictures: how many pictures of the demo world to learn from.
        batch: of them in a batch.
        rate: peak learning rate of AdamW.
        huber: where the loss turns from quadratic to linear, in units of latents.
        steps: times on the grid, those that the result has to be sampled with (`origin_steps`).
        least, most: of the guidance scale, drawn evenly between them.
        seed: of everything drawn.
    """

    pictures: int = 4000
    batch: int = 16
    rate: float = 5e-5
    huber: float = 1e-3
    steps: int = 20
    least: float = 1.0
    most: float = 4.0
    seed: int = 0


@dataclass(frozen=True)
class TrainingPictures:
    """Pictures of the demo world, as the teacher's networks take them.

    Attributes:
        codes: latents ``[N,C,h,w]`` of styled frames.
        tokens: token numbers ``[N,T]`` of their prompts.
        maps: control images ``[N,1,H,W]`` of 0 and 1, of the photos of the same frames.
    """

    codes: Tensor
    tokens: Tensor
    maps: Tensor


def draw_pictures(
    file: Path, settings: DistillSettings, folder: Path, device: str, workers: int
) -> TrainingPictures:
    """Pictures of training scenes, numbers 0 and up, read from ``file`` where it holds them.

    Args:
        file: where they are kept.
        settings: how many, and the seed.
        folder: the teacher's weights, for tokenizer and autoencoder.
        device: where to encode.
        workers: processes that draw.
    """
    said = {"pictures": str(settings.pictures), "seed": str(settings.seed)}
    note = file.with_suffix(".json")
    if file.is_file() and note.is_file() and json.loads(note.read_text()) == said:
        return TrainingPictures(**load_file(file))
    vae = network(AutoencoderKL, folder / "vae", device)
    starts = range(0, settings.pictures, _CHUNK)
    asked = [(settings.seed, at, min(_CHUNK, settings.pictures - at)) for at in starts]
    parts: list[tuple[Tensor, Tensor, Tensor]] = []
    with ExitStack() as stack:
        drawn: Iterable[tuple[Any, list[str], Any]] = map(_drawn, asked)
        if workers > 1:
            pool = stack.enter_context(
                multiprocessing.get_context("spawn").Pool(workers, torch.set_num_threads, (1,))
            )
            drawn = pool.imap(_drawn, asked)
        for frames, prompts, maps in tqdm(drawn, desc="pictures", total=len(asked)):
            shown = torch.from_numpy(frames).to(device).float() / 127.5 - 1
            with torch.no_grad():
                code = vae.encode(shown).latent_dist.mean * vae.config.scaling_factor
            tokens = token_ids(folder, prompts)
            parts.append((code.half().contiguous().cpu(), tokens, torch.from_numpy(maps)))
    codes, tokens, maps = (torch.cat(each).contiguous() for each in zip(*parts, strict=True))
    file.parent.mkdir(parents=True, exist_ok=True)
    save_file({"codes": codes, "tokens": tokens, "maps": maps}, file)
    note.write_text(json.dumps(said))
    return TrainingPictures(codes, tokens, maps)


def _drawn(asked: tuple[int, int, int]) -> tuple[Any, list[str], Any]:
    """Frames as bytes and maps as bits, small enough to hand over between processes."""
    frames, prompts, maps = data.pictures(*asked)
    return (frames * 255).round().byte().numpy(), prompts, maps.bool().numpy()


def network(kind: Any, folder: Path, device: str) -> Any:
    """A network of a weights folder, frozen, in single precision, channels last."""
    found = kind.from_pretrained(
        folder, local_files_only=True, use_safetensors=True, dtype=torch.float32
    )
    found = found.to(device).to(memory_format=torch.channels_last)
    return found.eval().requires_grad_(False)


def token_ids(folder: Path, prompts: list[str]) -> Tensor:
    """Token numbers ``[N,T]`` of prompts, by the tokenizer of a weights folder."""
    found: Tensor = _tokenizer(folder)(
        prompts, padding="max_length", truncation=True, return_tensors="pt"
    ).input_ids
    return found


@cache
def _tokenizer(folder: Path) -> Any:
    return CLIPTokenizer.from_pretrained(folder / "tokenizer", local_files_only=True)
