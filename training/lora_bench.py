"""A LoRA of a look that the demo model has never seen, measured: ``python -m training.lora_bench``.

Twenty frames of training scenes are painted in two inks, a LoRA is trained on them, and held-out
scenes are translated to the look with it and without. The other styles are drawn as
`training.evaluate` draws them. What lies in the work folder already is not made again.
"""

# mypy: disable-error-code="no-any-return"
# (numpy types most arithmetic of float32 arrays and numbers as Any)

from __future__ import annotations

import json
import shlex
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torchvision.transforms.functional import to_pil_image
from torchvision.utils import save_image

from rerender.demo import perceptual, styles, weights
from rerender.demo.captions import STYLES
from rerender.demo.sprites import Array, rgb
from rerender.demo.styles import TAU, Surface
from rerender.demo.world import World
from rerender.exits import Parser, command
from training import lora
from training.bench import FRAME, Bench
from training.lora_training import FILE

WORD = "ink"
STRENGTH = 0.9
SEEN = 20  # pictures to learn from


def two_inks(s: Surface) -> Array:
    """Cream paper, teal ink for the background and pink for sprites, in dots that grow with the
    darkness of the surface."""
    light = (s.albedo(s.u, s.v) @ rgb(0.299, 0.587, 0.114))[..., None]
    dots = (np.sin(s.u * (TAU / 20)) * np.sin(s.v * (TAU / 20)))[..., None]
    paper = np.clip((light - 0.45 + 0.2 * dots) * 3 + 0.5, 0, 1)
    front = (s.depth < 1e3)[..., None]
    ink = np.where(front, rgb(0.98, 0.20, 0.45), rgb(0.02, 0.45, 0.52))
    return ink + (0.25 + 0.75 * paper) * (rgb(0.97, 0.90, 0.74) - ink)


def write_pictures(folder: Path, count: int = SEEN) -> None:
    """Frames of training scenes in the look, each with its caption beside it, and the prompts of
    the looks that are to stay."""
    styles.STYLES[WORD] = two_inks
    folder.mkdir(parents=True, exist_ok=True)
    for seed in range(count):
        world = World(seed)
        to_pil_image(world.frame(FRAME, WORD)).save(folder / f"{seed:02}.png")
        (folder / f"{seed:02}.txt").write_text(world.caption + "\n")
    prompts = [World(count + i).prompt(style) for i, style in enumerate(STYLES * 8)]
    (folder.parent / "prior.txt").write_text("\n".join(prompts) + "\n")


def measure(bench: Bench, picture: Path | None = None) -> dict[str, Any]:
    """Distance to the look's truth, and how often the asked style is recognised."""
    styles.STYLES[WORD] = two_inks
    truths = torch.stack([world.frame(FRAME, WORD) for world in bench.worlds])
    prompts = [world.prompt(WORD) for world in bench.worlds]
    made = bench.translate(prompts, bench.photos, bench.maps, STRENGTH)
    distances = perceptual.distance(bench.backbone, made, truths)
    if picture is not None:
        rows = torch.stack([bench.photos[:8], made[:8], truths[:8]]).flatten(0, 1)
        save_image(rows.clamp(0, 1), picture, nrow=8)
    asked = [i % len(STYLES) for i in range(bench.scenes)]
    told = [w.prompt(STYLES[i]) for w, i in zip(bench.worlds, asked, strict=True)]
    drawn = bench.draw(told, bench.maps)
    picked = bench.picked(drawn, [[w.prompt(s) for s in STYLES] for w in bench.worlds])
    return {
        "distance": distances.tolist(),
        "style": float(np.mean(np.equal(picked, asked))),
    }


def page(before: dict[str, Any], after: dict[str, Any], said: str, seconds: float) -> str:
    """The figures as a markdown page."""
    rng = np.random.default_rng(0)
    one, two = np.array(before["distance"]), np.array(after["distance"])
    drawn = rng.integers(len(one), size=(10_000, len(one)))
    falls = 1 - two[drawn].mean(1) / one[drawn].mean(1)
    low, high = np.quantile(falls, [0.025, 0.975])
    fall = 100 * (1 - two.mean() / one.mean())
    kept = 100 * (after["style"] - before["style"])
    return f"""# A LoRA of a look that the demo model has never seen

`{said}`: {SEEN} frames, {seconds:.0f} processor seconds of training; {len(one)} held-out scenes,
strength {STRENGTH}, 20 steps, with ControlNet.

| | base | with the LoRA | |
|---|---|---|---|
| lpips_demo to the look's truth | {one.mean():.4f} | {two.mean():.4f} | {fall:.0f} \
[{100 * low:.0f}, {100 * high:.0f}] % lower |
| other styles recognised by the small CLIP | {100 * before["style"]:.1f} % \
| {100 * after["style"]:.1f} % | {kept:+.1f} points |
"""


def run(arguments: list[str]) -> None:
    """Paint, train, measure, write the page; what it does not know is said to `training.lora`."""
    parser = Parser(prog="python -m training.lora_bench", description=__doc__)
    parser.add_argument("--work", type=Path, default=Path("outputs/lora_bench"))
    parser.add_argument("--out", type=Path, default=Path("experiments/bench/training/lora.md"))
    parser.add_argument("--scenes", type=int, default=32)
    parser.add_argument("--steps", type=int, default=300)
    parser.add_argument("--threads", type=int, default=2)
    options, more = parser.parse_known_args(arguments)
    torch.set_num_threads(options.threads)
    work: Path = options.work
    if not (work / "look").is_dir():
        write_pictures(work / "look")
    if not (work / "ink" / FILE).is_file():
        began = time.process_time()
        said = ["--data", f"{work / 'look'}", "--word", WORD, "--out", f"{work / 'ink'}"]
        said += ["--prior-prompts", f"{work / 'prior.txt'}", "--tracker", "none"]
        lora.run([*said, "--steps", f"{options.steps}", "--threads", f"{options.threads}", *more])
        (work / "seconds.json").write_text(json.dumps(time.process_time() - began))
    bench = Bench(weights.FOLDER, options.scenes)
    found = {}
    for name in ("base", "ink"):
        if name == "ink":
            bench.from_noise.load_lora_weights(work / "ink", weight_name=FILE)
        file = work / f"{name}.{options.scenes}.json"
        if not file.is_file():
            file.write_text(json.dumps(measure(bench, work / f"{name}.png")))
        found[name] = json.loads(file.read_text())
    command = shlex.join(["python", "-m", "training.lora_bench", *arguments])
    options.out.parent.mkdir(parents=True, exist_ok=True)
    seconds = json.loads((work / "seconds.json").read_text())
    options.out.write_text(page(found["base"], found["ink"], command, seconds))


if __name__ == "__main__":
    sys.exit(command(run))
