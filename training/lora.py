"""Train a LoRA on a few pictures of a look: ``python -m training.lora --data FOLDER --word WORD``.

What is learnt, and how, stands in ``lora_training.py``. The result is
``OUT/pytorch_lora_weights.safetensors`` in the format of diffusers and peft, alpha being the rank.
``OUT/training`` holds checkpoint, losses and samples; the same command goes on from there.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import math
import sys
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from rerender.contracts import Tracker
from rerender.data import picture
from rerender.demo import weights
from rerender.errors import ConfigError, InputError
from rerender.exits import Parser, command
from rerender.files import suffixes
from rerender.model.pretrained import Pretrained
from rerender.tracker.none import Silent
from rerender.tracker.wandb import WandB
from training.learn import Budget, learn, same_training
from training.lora_training import FILE, LAYERS, LoraSettings, LoraTraining


def read_pictures(folder: Path, word: str, size: int) -> tuple[Tensor, list[str]]:
    """The pictures of a folder, in order of their names, and a caption for each.

    A file ``NAME.txt`` beside ``NAME.png`` says what the picture shows; the word is added where it
    does not name it. Without one, the word alone is the caption.

    Args:
        folder: holds png, jpg, webp, bmp or tiff files.
        word: calls for the look.
        size: the short side is resized to it and the centre square cut out.

    Returns:
        ``[N,3,size,size]`` in 0..1, and N captions.

    Raises:
        InputError: no such folder, no picture in it, or one that cannot be read.
    """
    files = sorted(folder.iterdir()) if folder.is_dir() else []
    files = [file for file in files if file.suffix.lower() in suffixes.PICTURES]
    if not files:
        raise InputError(folder, "holds no pictures", "put some of the look there, 5 to 50")
    frames, captions = [], []
    for file in files:
        image = picture.read(file).image[None]
        scale = size / min(image.shape[-2:])
        sides = [max(size, round(side * scale)) for side in image.shape[-2:]]
        image = F.interpolate(image, sides, mode="bicubic", antialias=True, align_corners=False)
        top, left = (sides[0] - size) // 2, (sides[1] - size) // 2
        frames.append(image[0, :, top : top + size, left : left + size].clamp(0, 1))
        beside = file.with_suffix(".txt")
        caption = beside.read_text(encoding="utf-8-sig").strip() if beside.is_file() else ""
        named = word.lower() in caption.lower()
        captions.append(caption if named else f"{caption}, {word}" if caption else word)
    return torch.stack(frames), captions


def train(options: argparse.Namespace) -> Path:
    """Train as the command line says.

    Returns:
        The file that was written.
    """
    demo = options.model == "demo"
    settings = LoraSettings(
        rank=options.rank,
        layers=options.layers,
        rate=options.rate,
        batch=options.batch,
        keep=options.keep,
        prior=options.prior,
        size=options.size or (128 if demo else 512),
        seed=options.seed,
    )
    pictures = read_pictures(options.data, options.word, settings.size)
    prior = _prior(options.prior_prompts, pictures[1], options.word)
    path = str(weights.FOLDER) if demo else options.model
    checkpoint = Pretrained(path, dtype="float32", device=options.device)
    checkpoint.check(())
    if checkpoint.instructed() or checkpoint.inpaints():
        problem = "sees a source picture beside the noisy one, for which there is none in training"
        raise ConfigError("--model", problem, "train on the checkpoint that it was made from")
    work = options.out / "training"
    work.mkdir(parents=True, exist_ok=True)
    content = hashlib.sha256(pictures[0].numpy().tobytes())
    content.update(json.dumps([pictures[1], prior]).encode())
    said = {**asdict(settings), "model": path, "pictures": content.hexdigest()}
    same_training(work / "settings.json", said, "--out")
    tracker: Tracker = WandB() if options.tracker == "wandb" else Silent()
    model: Any = checkpoint.load(())
    if settings.size % model.size_multiple:
        problem = f"must be a multiple of {model.size_multiple}, received {settings.size}"
        raise ConfigError("--size", problem, "change it")
    stage = LoraTraining(model, pictures, prior, settings, lambda line: print(line, flush=True))
    tracker.start(work, {**asdict(settings), "word": options.word, "model": path}, "lora", "train")
    learn(stage, Budget(options.steps, options.minutes), work, tracker)
    if (work / "preview.png").is_file():
        tracker.file("preview.png", work / "preview.png")
    tracker.finish(0)
    stage.save(options.out)
    return Path(options.out / FILE)


def _prior(file: Path | None, captions: Sequence[str], word: str) -> list[str]:
    """Prompts whose looks are to stay: those of a file, or the captions without the word."""
    if file is None:
        return list(dict.fromkeys(c.replace(word, "").strip(" ,") for c in captions))
    try:
        lines = file.read_text(encoding="utf-8-sig").splitlines()
    except (OSError, ValueError) as error:
        raise InputError(file, f"cannot be read ({error})", "give a text file") from error
    return [line.strip() for line in lines if line.strip()]


def run(arguments: list[str]) -> None:
    """Parse the command line and train."""
    options = _parser().parse_args(arguments)
    for key, low, high in (("keep", 0, 0.9), ("rank", 1, 1024), ("batch", 1, 1024)):
        value = getattr(options, key)
        if not low <= value <= high:
            rule = f"must lie in {low}..{high}, received {value}"
            raise ConfigError(f"--{key}", rule, "change it")
    torch.set_num_threads(options.threads)
    sys.stdout.write(f"{train(options)}\n")


def _parser() -> Parser:
    parser = Parser(prog="python -m training.lora", description=__doc__)
    parser.add_argument("--data", type=Path, required=True, help="folder of pictures")
    parser.add_argument("--word", required=True, help="calls for the look in a prompt")
    parser.add_argument("--model", default="demo", help="demo, a folder, or a hub id")
    parser.add_argument("--out", type=Path, required=True, help="folder of the result")
    parser.add_argument("--rank", type=int, default=LoraSettings.rank, help="usually 4..64")
    parser.add_argument("--layers", choices=LAYERS, default=LoraSettings.layers)
    parser.add_argument("--rate", type=float, default=LoraSettings.rate, help="usually 1e-4..3e-3")
    parser.add_argument("--batch", type=int, default=LoraSettings.batch)
    parser.add_argument("--keep", type=float, default=LoraSettings.keep, help="0..0.9")
    parser.add_argument("--prior", type=int, default=LoraSettings.prior, help="usually 16..200")
    parser.add_argument("--prior-prompts", type=Path, help="a text file, one a line")
    parser.add_argument("--size", type=int, help="side in pixels; the model's own if not given")
    parser.add_argument("--steps", type=int, default=500)
    parser.add_argument("--minutes", type=float, default=math.inf, help="end after so long")
    parser.add_argument("--seed", type=int, default=LoraSettings.seed)
    parser.add_argument("--tracker", choices=["wandb", "none"], default="wandb")
    parser.add_argument("--device", default="auto")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--debug", action="store_true", help="show tracebacks")
    return parser


if __name__ == "__main__":
    sys.exit(command(run))
