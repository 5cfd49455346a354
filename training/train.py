"""Train the demo model from nothing: ``python -m training.train``.

Four stages, each resumable from the work folder: vae (decoder), clip, lpips_demo, diffusion. They
do not depend on each other, so two processes can share them (``--stages``); ``--export`` collects
what is finished into a weights folder.
"""

from __future__ import annotations

import argparse
import math
from pathlib import Path

import torch

from rerender.contracts import Tracker
from rerender.tracker.none import Silent
from rerender.tracker.wandb import WandB
from training.export import export
from training.learn import Budget, learn
from training.stages import STAGES

# Steps and batch of the shipped weights.
DEFAULTS: dict[str, tuple[int, int]] = {
    "vae": (900, 8),
    "clip": (640, 48),
    "lpips_demo": (500, 16),
    "diffusion": (3050, 16),
}


def main() -> None:
    """Parse the command line, train the stages asked for, export."""
    options = _parser().parse_args()
    torch.set_num_threads(options.threads)
    options.work.mkdir(parents=True, exist_ok=True)
    tracker: Tracker = WandB() if options.tracker == "wandb" else Silent()
    tracker.start(options.work, {"stages": options.stages, "seed": options.seed}, "demo", "train")
    for name in options.stages:
        steps, batch = DEFAULTS[name]
        stage = STAGES[name](options.seed, options.batch or batch, options.device)
        budget = Budget(options.steps or steps, options.minutes)
        learn(stage, budget, options.work / name, tracker)
    tracker.finish(0)
    if options.export:
        export(options.work, options.export)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--stages", nargs="*", choices=STAGES, default=list(STAGES))
    parser.add_argument("--work", type=Path, default=Path("outputs/demo_training"))
    parser.add_argument("--export", type=Path, help="write the weights folder here")
    parser.add_argument("--steps", type=int, help="per stage, instead of the stage's own")
    parser.add_argument("--minutes", type=float, default=math.inf, help="end a stage after so long")
    parser.add_argument("--batch", type=int)
    parser.add_argument("--tracker", choices=["wandb", "none"], default="wandb")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--threads", type=int, default=1)
    return parser


if __name__ == "__main__":
    main()
