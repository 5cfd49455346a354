"""Distil the demo model into one of few steps: ``python -m training.distill --out FOLDER``.

What is learnt, and how, stands in ``distillation.py``. The result is a UNet in half precision,
``FOLDER/config.json`` and its safetensors file.
"""

from __future__ import annotations

import argparse
import hashlib
import math
import sys
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path

import torch

from rerender.contracts import Tracker
from rerender.demo import weights
from rerender.errors import ConfigError
from rerender.exits import Parser, command
from rerender.tracker.none import Silent
from rerender.tracker.wandb import WandB
from training.distill_pictures import DistillSettings, draw_pictures
from training.distillation import Distillation
from training.learn import Budget, learn, same_training


def train(options: argparse.Namespace) -> Path:
    """Distil as the command line says.

    Returns:
        The folder that was written.
    """
    settings = DistillSettings(
        pictures=options.pictures,
        batch=options.batch,
        rate=options.rate,
        most=options.most,
        seed=options.seed,
    )
    weights.verify(options.teacher)
    work: Path = options.work
    work.mkdir(parents=True, exist_ok=True)
    listed = hashlib.sha256((options.teacher / weights.MANIFEST).read_bytes()).hexdigest()
    said = {**asdict(settings), "teacher": listed}
    same_training(work / "settings.json", said, "--work")
    torch.set_float32_matmul_precision("high")  # TF32 where there is a GPU that has it
    pictures = draw_pictures(
        work / "pictures.safetensors", settings, options.teacher, options.device, options.workers
    )
    stage = Distillation(pictures, settings, options.teacher, options.device, options.out)
    tracker: Tracker = WandB() if options.tracker == "wandb" else Silent()
    tracker.start(work, asdict(settings), "lcm", "train")
    learn(stage, Budget(options.steps, options.minutes), work, tracker)
    tracker.file("preview.png", work / "preview.png")
    tracker.finish(0)
    stage.save(options.out)
    return Path(options.out)


def run(arguments: list[str]) -> None:
    """Parse the command line and distil."""
    options = _parser().parse_args(arguments)
    checks: tuple[tuple[str, Callable[[float], bool], str], ...] = (
        ("pictures", lambda value: value >= 1, "at least 1"),
        ("batch", lambda value: value >= 1, "at least 1"),
        ("most", lambda value: value >= DistillSettings.least, "at least 1"),
        ("workers", lambda value: value >= 1, "at least 1"),
    )
    for key, holds, rule in checks:
        value = getattr(options, key)
        if not holds(value):
            raise ConfigError(f"--{key}", f"must be {rule}, received {value}", "change it")
    torch.set_num_threads(options.threads)
    sys.stdout.write(f"{train(options)}\n")


def _parser() -> Parser:
    parser = Parser(prog="python -m training.distill", description=__doc__)
    parser.add_argument("--out", type=Path, required=True, help="folder of the result")
    parser.add_argument("--teacher", type=Path, default=weights.FOLDER, help="a weights folder")
    parser.add_argument("--work", type=Path, default=Path("outputs/distill"))
    parser.add_argument("--pictures", type=int, default=DistillSettings.pictures)
    parser.add_argument("--batch", type=int, default=DistillSettings.batch)
    parser.add_argument("--rate", type=float, default=DistillSettings.rate, help="1e-6..1e-4")
    parser.add_argument("--most", type=float, default=DistillSettings.most, help="guidance scale")
    parser.add_argument("--steps", type=int, default=2000)
    parser.add_argument("--minutes", type=float, default=math.inf, help="end after so long")
    parser.add_argument("--seed", type=int, default=DistillSettings.seed)
    parser.add_argument("--tracker", choices=["wandb", "none"], default="wandb")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--workers", type=int, default=1, help="processes that draw pictures")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--debug", action="store_true", help="show tracebacks")
    return parser


if __name__ == "__main__":
    sys.exit(command(run))
