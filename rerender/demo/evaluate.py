"""Measure the shipped demo model on held-out scenes: ``python -m rerender.demo.evaluate``.

Writes ``figures.json`` beside the weights and the table between the marks of their model card.
Every scene and noise seed is from ``HELD_OUT`` on; nothing here was seen in training.
"""

from __future__ import annotations

import argparse
import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
from diffusers import (
    ControlNetModel,
    StableDiffusionControlNetImg2ImgPipeline,
    StableDiffusionControlNetPipeline,
)
from torch import Tensor
from torchvision.utils import save_image
from transformers import CLIPModel, CLIPTokenizer

from rerender.demo import data, perceptual, weights
from rerender.demo.captions import COLOURFUL, COLOURS, STYLES
from rerender.demo.data import pixel_values
from rerender.demo.world import HELD_OUT, World

STEPS, GUIDANCE = 20, 3.0
STRENGTHS = (0.75, 0.9, 1.0)
TOLERANCE = 2  # pixels within which two edges agree
_FRAME = 11
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
        common = {"torch_dtype": torch.float32, "use_safetensors": True, "local_files_only": True}
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
        self.photos = torch.stack([world.frame(_FRAME) for world in self.worlds])
        self.maps = torch.stack([data.edges(photo) for photo in self.photos])

    @torch.no_grad()
    def round_trip(self, frames: Tensor) -> Tensor:
        """Frames in 0..1 through the autoencoder."""
        vae = self.from_noise.vae
        return torch.cat(
            [
                vae.decode(vae.encode(part * 2 - 1).latent_dist.mean).sample.clamp(-1, 1) / 2 + 0.5
                for part in frames.split(_BATCH)
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
        image = self.clip(tokens[:1], pixel_values(frames)).image_embeds
        text = self.clip(tokens, pixel_values(frames[:1])).text_embeds
        text = text.view(len(frames), -1, text.shape[-1])
        return torch.einsum("nd,nkd->nk", image, text).argmax(1).tolist()


def measure(bench: Bench) -> dict[str, Any]:
    """All figures of the model card, by name."""
    styles = [STYLES[i % len(STYLES)] for i in range(bench.scenes)]
    truths = torch.stack([w.frame(_FRAME, s) for w, s in zip(bench.worlds, styles, strict=True)])
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
        frames = torch.stack([world.frame(_FRAME, style) for world in bench.worlds])
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
    truths = torch.stack([edit.frame(_FRAME, style) for edit in edits])
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
        truths = torch.stack(
            [w.frame(_FRAME, s) for w, s in zip(bench.worlds, styles, strict=True)]
        )
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
    flow = world.flow(_FRAME + 1, _FRAME)
    seen = 1 - flow.occluded[0]
    gap = flow.warp(world.frame(_FRAME, style)) - world.frame(_FRAME + 1, style)
    return float(((gap.square() * seen).sum() / (3 * seen.sum())).sqrt())


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
        truth = torch.stack([world.frame(_FRAME, style) for style in STYLES])
        rows += [photo, made, edge.expand(-1, 3, -1, -1), truth]
    return torch.cat(rows)


def table(figures: dict[str, Any]) -> str:
    """The figures against what the model card asks for, as markdown."""
    style, colour, edge = figures["style"], figures["colour"], figures["edges"]
    moved, vae = figures["translation"], figures["vae"]
    rows = [
        ("VAE round trip at 128 px, PSNR", f"{vae['mean']:.1f} dB", "25 dB", "28 dB"),
        (
            "style picked among 8 by the small CLIP, from canny + prompt",
            _percent(style["drawn"]),
            "80 %",
            "95 %",
        ),
        ("the small CLIP's ceiling on true renders", _percent(style["ceiling"]), "95 %", ""),
        (
            "prompted sprite colour obeyed (photo-like styles)",
            _percent(colour["drawn"]),
            "70 %",
            "90 %",
        ),
        ("edge F1 within 2 px against the source", f"{edge['drawn']:.2f}", "0.5", "0.7"),
        ("the same without ControlNet", f"{edge['without_controlnet']:.2f}", "clearly below", ""),
        ("the same for the true translation", f"{edge['truth_itself']:.2f}", "", ""),
        (
            "translated frame nearer to the truth than its source: PSNR and lpips_demo",
            _percent(moved["nearer_both"]),
            "75 %",
            "90 %",
        ),
        (
            "… by PSNR alone / by lpips_demo alone",
            f"{_percent(moved['nearer_psnr'])} / {_percent(moved['nearer_lpips_demo'])}",
            "",
            "",
        ),
    ]
    head = "| figure | measured | must | aim |\n|---|---|---|---|\n"
    warp = "".join(
        f"| {name} | {value:.4f} |\n" for name, value in figures["truth_warp_rmse"].items()
    )
    return (
        head
        + "".join("| " + " | ".join(row) + " |\n" for row in rows)
        + "\n| style | the truth's own warp error (RMSE, visible pixels) |\n|---|---|\n"
        + warp
    )


def _percent(part: float) -> str:
    return f"{100 * part:.0f} %"


def _noise(part: slice) -> list[torch.Generator]:
    return [torch.Generator().manual_seed(HELD_OUT + i) for i in range(part.start, part.stop)]


def _parts(count: int) -> Iterator[slice]:
    return (slice(i, min(i + _BATCH, count)) for i in range(0, count, _BATCH))


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
        save_image(grid(bench, (0, 3, 5)), options.grid, nrow=len(STYLES) + 1)
    if options.no_figures:
        return
    figures = {"scenes": options.scenes, "steps": STEPS, "guidance": GUIDANCE, **measure(bench)}
    (options.weights / "figures.json").write_text(json.dumps(figures, indent=2) + "\n")
    print(table(figures))
    card = options.weights / "README.md"
    if card.exists():
        marks = r"(<!-- figures -->\n).*(<!-- end of figures -->)"
        text = re.sub(marks, lambda m: m[1] + table(figures) + m[2], card.read_text(), flags=re.S)
        card.write_text(text)


if __name__ == "__main__":
    main()
