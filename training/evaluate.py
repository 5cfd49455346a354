"""Measure the shipped demo model on held-out scenes: ``python -m training.evaluate``.

Writes ``figures.json`` beside the weights and the table between the marks of their model card.
Every scene and noise seed is from ``HELD_OUT`` on; nothing here was seen in training.
"""

from __future__ import annotations

import argparse
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torchvision.transforms.functional import to_pil_image
from torchvision.utils import make_grid

from rerender.demo import perceptual, weights
from rerender.demo.captions import COLOURFUL, COLOURS, STYLES
from rerender.demo.world import HELD_OUT, World
from training import card, data
from training.bench import FRAME, GUIDANCE, STEPS, Bench, edge_f1, psnr

STRENGTHS = (0.75, 0.9, 1.0)
SHOWN = (1, 7, 11)  # scenes of the grid


def measure(bench: Bench) -> dict[str, Any]:
    """All figures of the model card, by name."""
    styles = [STYLES[i % len(STYLES)] for i in range(bench.scenes)]
    truths = torch.stack([w.frame(FRAME, s) for w, s in zip(bench.worlds, styles, strict=True)])
    prompts = [w.prompt(s) for w, s in zip(bench.worlds, styles, strict=True)]
    drawn = bench.draw(prompts, bench.maps)
    return {
        "vae": _vae(bench),
        "style": _style(bench, styles, truths, drawn),
        "colour": _colour(bench),
        "edges": _edges(bench, styles, truths, drawn, prompts),
        "translation": _translation(bench),
        "truth_warp_rmse": _truth_warp(bench),
    }


def _vae(bench: Bench) -> dict[str, float]:
    out = {}
    for style in STYLES:
        frames = torch.stack([world.frame(FRAME, style) for world in bench.worlds])
        out[style] = psnr(bench.round_trip(frames), frames).mean().item()
    return {"mean": float(np.mean(list(out.values()))), **out}


def _style(bench: Bench, styles: list[str], truths: Tensor, drawn: Tensor) -> dict[str, float]:
    candidates = [[world.prompt(style) for style in STYLES] for world in bench.worlds]
    asked = [STYLES.index(style) for style in styles]

    def hits(frames: Tensor) -> float:
        return float(np.mean(np.equal(bench.picked(frames, candidates), asked)))

    return {"ceiling": hits(truths), "drawn": hits(drawn), "photo_instead": hits(bench.photos)}


def _colour(bench: Bench) -> dict[str, float]:
    """Ask for the front sprite in another colour; which colour's truth is the result nearest to,
    by the mean over the pixels that the colour word changes (and by the small CLIP)?"""
    rng = np.random.default_rng(HELD_OUT)
    cases = [_recolour(world, rng, i) for i, world in enumerate(bench.worlds)]
    drawn = bench.draw([case.prompts[case.asked] for case in cases], bench.maps)
    nearest = [_nearest_colour(frame, case) for frame, case in zip(drawn, cases, strict=True)]
    seen = [
        bench.picked(frame[None], [case.prompts])[0]
        for frame, case in zip(drawn, cases, strict=True)
    ]
    ceiling = [
        bench.picked(case.truths[case.asked][None], [case.prompts])[0] == case.asked
        for case in cases
    ]
    asked = [case.asked for case in cases]
    return {
        "drawn": float(np.mean(np.equal(nearest, asked))),
        "drawn_by_clip": float(np.mean(np.equal(seen, asked))),
        "clip_ceiling": float(np.mean(ceiling)),
    }


@dataclass
class _Case:
    prompts: list[str]
    truths: Tensor
    asked: int


def _recolour(world: World, rng: np.random.Generator, number: int) -> _Case:
    style = COLOURFUL[number % len(COLOURFUL)]
    *behind, (was, subject) = world.sentence.nouns
    free = [c for c in COLOURS if c not in [colour for colour, _ in behind]]
    edits = [world.edited((*behind, (colour, subject))) for colour in free]
    others = [i for i, colour in enumerate(free) if colour != was]
    truths = torch.stack([edit.frame(FRAME, style) for edit in edits])
    return _Case([edit.prompt(style) for edit in edits], truths, int(rng.choice(others)))


def _nearest_colour(frame: Tensor, case: _Case) -> int:
    changed = case.truths.std(0).amax(0) > 0.1
    means = case.truths[:, :, changed].mean(-1)
    return int((means - frame[:, changed].mean(-1)).square().sum(1).argmin())


def _edges(
    bench: Bench, styles: list[str], truths: Tensor, drawn: Tensor, prompts: list[str]
) -> dict[str, float]:
    free = bench.draw(prompts, bench.maps, scale=0.0)
    photos = [i for i, style in enumerate(styles) if style == "photo"]

    def score(frames: Tensor, which: list[int] | None = None) -> float:
        return float(
            np.mean(
                [
                    edge_f1(data.edges(frames[i].cpu())[0], bench.maps[i, 0])
                    for i in which or range(len(frames))
                ]
            )
        )

    return {
        "drawn": score(drawn),
        "without_controlnet": score(free),
        "truth_itself": score(truths),
        "drawn_photos": score(drawn, photos),
    }


def _translation(bench: Bench) -> dict[str, float]:
    """A photo translated to each other style in turn: nearer to the truth than the photo is?"""
    nearer: list[bool] = []
    nearer_by_lpips: list[bool] = []
    gain: list[float] = []
    out = {}
    for turn, strength in enumerate(STRENGTHS):
        styles = [STYLES[1 + (i + turn) % (len(STYLES) - 1)] for i in range(bench.scenes)]
        truths = torch.stack([w.frame(FRAME, s) for w, s in zip(bench.worlds, styles, strict=True)])
        prompts = [w.prompt(s) for w, s in zip(bench.worlds, styles, strict=True)]
        made = bench.translate(prompts, bench.photos, bench.maps, strength)
        better = psnr(made, truths) - psnr(bench.photos, truths)
        looks = perceptual.distance(bench.backbone, made, truths)
        looked = perceptual.distance(bench.backbone, bench.photos, truths)
        nearer += (better > 0).tolist()
        nearer_by_lpips += (looks < looked).tolist()
        gain += better.tolist()
        out[f"psnr_at_{strength}"] = psnr(made, truths).mean().item()
    both = np.logical_and(nearer, nearer_by_lpips)
    return {
        "nearer_both": float(np.mean(both)),
        "nearer_psnr": float(np.mean(nearer)),
        "nearer_lpips_demo": float(np.mean(nearer_by_lpips)),
        "gain_db": float(np.mean(gain)),
        **out,
    }


def _truth_warp(bench: Bench) -> dict[str, float]:
    """Each style's own warp error: truth warped by the true flow against truth, visible pixels."""
    return {
        style: float(np.mean([_warp_rmse(world, style) for world in bench.worlds[:16]]))
        for style in STYLES
    }


def _warp_rmse(world: World, style: str) -> float:
    flow = world.flow(FRAME + 1, FRAME)
    seen = 1 - flow.occluded[0]
    gap = flow.warp(world.frame(FRAME, style)) - world.frame(FRAME + 1, style)
    return float(((gap.square() * seen).sum() / (3 * seen.sum())).sqrt())


def grid(bench: Bench, scenes: tuple[int, ...]) -> Tensor:
    """Rows of source and eight translations at strength 1, each row above its truths."""
    rows = []
    for scene in scenes:
        world = bench.worlds[scene]
        n = len(STYLES)
        photo, edge = bench.photos[scene : scene + 1], bench.maps[scene : scene + 1]
        made = bench.translate(
            [world.prompt(s) for s in STYLES],
            photo.repeat(n, 1, 1, 1),
            edge.repeat(n, 1, 1, 1),
            1.0,
        )
        truth = torch.stack([world.frame(FRAME, style) for style in STYLES])
        rows += [photo, made, edge.expand(-1, 3, -1, -1), truth]
    return torch.cat(rows)


def main() -> None:
    """Parse the command line, measure, write the figures and the grid."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--weights", type=Path, default=weights.FOLDER)
    parser.add_argument("--scenes", type=int, default=64)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--grid", type=Path, help="write a picture of translations and truths here")
    parser.add_argument("--no-figures", action="store_true", help="only the grid")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    weights.verify(options.weights)
    bench = Bench(options.weights, options.scenes)
    if options.grid:
        picture = to_pil_image(make_grid(grid(bench, SHOWN), nrow=len(STYLES) + 1))
        picture.quantize(256).save(options.grid)  # a third of the bytes, for the repository
    if options.no_figures:
        return
    figures = {"scenes": options.scenes, "steps": STEPS, "guidance": GUIDANCE, **measure(bench)}
    (options.weights / "figures.json").write_text(json.dumps(figures, indent=2) + "\n")
    print(card.table(figures))
    if (options.weights / "README.md").exists():
        card.write(options.weights / "README.md", figures)


if __name__ == "__main__":
    main()
