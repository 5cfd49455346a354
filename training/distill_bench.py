"""The demo model in few steps, distilled and as it is: ``python -m training.distill_bench``.

Held-out scenes are drawn from noise, control image and prompt in few steps and in many; nothing
here was seen in training.
"""

from __future__ import annotations

import json
import shlex
import sys
from pathlib import Path
from typing import Any, NamedTuple

import torch
from diffusers import UNet2DConditionModel
from torch import Tensor
from transformers import CLIPModel, CLIPTokenizer

from rerender.demo import perceptual, weights
from rerender.demo.captions import STYLES
from rerender.demo.world import HELD_OUT, World
from rerender.exits import Parser, command
from training import data
from training.bench import FRAME, GUIDANCE
from training.distill_pictures import DistillSettings, TrainingPictures, token_ids
from training.distillation import Distillation, EmbeddedPrompts, student_of


class Sampled(NamedTuple):
    """How frames are made: by the teacher, by the student as it begins, or as it was trained, in so
    many steps."""

    which: str
    steps: int

    @property
    def evaluations(self) -> int:
        """Of the UNet: the teacher needs two branches, the student is told the guidance."""
        return self.steps * (2 if self.which == "teacher" else 1)


ROWS = (
    *(Sampled("teacher", steps) for steps in (20, 4)),
    *(Sampled("not trained", steps) for steps in (4, 1)),
    *(Sampled("distilled", steps) for steps in (4, 1)),
)


class StyledScenes:
    """Held-out scenes, a style for each in turn, and the judges of what is made of them."""

    def __init__(self, count: int) -> None:
        self.worlds = [World(HELD_OUT + i) for i in range(count)]
        self.styles = [STYLES[i % len(STYLES)] for i in range(count)]
        pairs = [*zip(self.worlds, self.styles, strict=True)]
        self.truths = torch.stack([world.frame(FRAME, style) for world, style in pairs])
        maps = torch.stack([data.edges(world.frame(FRAME)) for world in self.worlds])
        tokens = token_ids(weights.FOLDER, [world.prompt(style) for world, style in pairs])
        side = maps.shape[-1] // 8
        self.given = TrainingPictures(torch.zeros(count, 12, side, side), tokens, maps)
        self.clip = CLIPModel.from_pretrained(weights.FOLDER / "clip", dtype=torch.float32).eval()
        self.words = CLIPTokenizer.from_pretrained(weights.FOLDER / "clip")
        self.backbone = perceptual.load()

    @torch.no_grad()
    def style(self, frames: Tensor) -> float:
        """Share of the frames in which the small CLIP names the asked style, among the scene's
        caption with each of the eight."""
        candidates = [world.prompt(style) for world in self.worlds for style in STYLES]
        tokens = self.words(candidates, padding="max_length", return_tensors="pt").input_ids
        image = self.clip(tokens[:1], data.pixel_values(frames)).image_embeds
        text = self.clip(tokens, data.pixel_values(frames[:1])).text_embeds
        text = text.view(len(frames), len(STYLES), -1)
        picked = torch.einsum("nd,nkd->nk", image, text).argmax(1)
        asked = torch.tensor([STYLES.index(style) for style in self.styles])
        return float((picked == asked).float().mean())

    def distance(self, frames: Tensor, others: Tensor) -> float:
        """Mean lpips_demo."""
        return float(perceptual.distance(self.backbone, frames, others).mean())


def measure(student: Path | None, scenes: StyledScenes) -> list[dict[str, Any]]:
    """A line of figures for each of `ROWS`.

    Args:
        student: folder of a distilled UNet; None leaves it out.
        scenes: what to draw.
    """
    stage = Distillation(scenes.given, DistillSettings())
    unets: dict[str, Any] = {"teacher": stage.unet, "not trained": student_of(stage.teacher)}
    if student is not None:
        unets["distilled"] = UNet2DConditionModel.from_pretrained(
            student, local_files_only=True, use_safetensors=True, dtype=torch.float32
        )
    shown = EmbeddedPrompts(stage.texts, stage.hints)
    made: dict[Sampled, Tensor] = {}
    for row in (row for row in ROWS if row.which in unets):
        stage.unet = unets[row.which].eval()
        made[row] = stage.sample(shown, row.steps, GUIDANCE, row.which != "teacher")
    reference = made[ROWS[0]]
    return [
        {
            "which": row.which,
            "steps": row.steps,
            "evaluations": row.evaluations,
            "style": scenes.style(frames),
            "to_truth": scenes.distance(frames, scenes.truths),
            "to_teacher": scenes.distance(frames, reference),
        }
        for row, frames in made.items()
    ]


def page(figures: list[dict[str, Any]], said: str, scenes: int) -> str:
    """The figures as a markdown page."""
    least = figures[0]["to_truth"]
    lines = []
    for each in figures:
        ratio = each["to_truth"] / least
        lines.append(
            f"| {each['which']} | {each['steps']} | {each['evaluations']} | "
            f"{100 * each['style']:.1f} % | {each['to_truth']:.4f} | {ratio:.2f} | "
            f"{each['to_teacher']:.4f} |\n"
        )
    return f"""# The demo model in few steps

`{said}`: {scenes} held-out scenes from noise, canny and prompt, guidance {GUIDANCE}; DDIM for the
teacher, latent consistency sampling for the student, which is the teacher itself where it is not
trained. Distances are `lpips_demo`: to the true translation, as a multiple of the first line's, and
to the frames of the first line.

| UNet | steps | evaluations | style named right | to the truth | ratio | to 20 steps |
|---|---|---|---|---|---|---|
{"".join(lines)}"""


def run(arguments: list[str]) -> None:
    """Draw, measure, write the page and its figures."""
    parser = Parser(prog="python -m training.distill_bench", description=__doc__)
    parser.add_argument("--student", type=Path, help="folder of a distilled UNet")
    parser.add_argument("--out", type=Path, default=Path("experiments/bench/training/distill.md"))
    parser.add_argument("--scenes", type=int, default=64)
    parser.add_argument("--threads", type=int, default=2)
    options = parser.parse_args(arguments)
    torch.set_num_threads(options.threads)
    figures = measure(options.student, StyledScenes(options.scenes))
    said = shlex.join(["python", "-m", "training.distill_bench", *arguments])
    options.out.parent.mkdir(parents=True, exist_ok=True)
    options.out.write_text(page(figures, said, options.scenes))
    options.out.with_suffix(".json").write_text(json.dumps(figures, indent=1) + "\n")


if __name__ == "__main__":
    sys.exit(command(run))
