"""Real clips and styles' truth on them: ``python -m training.natural_bench CLIPS``.

CLIPS is a folder of videos. Frames of each are translated by themselves into each of the eight
styles, the style's word as the prompt. What a style is on any picture (``natural.restyled``) is the
truth. Per frame and style:

- **named**: the small CLIP finds the style nearest among the eight;
- **nearer**: the result is nearer to the truth than the source is, by PSNR and by lpips_demo; of a
  photo the source is the truth, so photos do not count;
- **edges**: F1 of Canny edges against the source's, both at 256 pixels.
"""

from __future__ import annotations

import json
import shlex
import sys
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from torchvision.utils import save_image

from eval.metrics.clip import load
from experiments.bench.real_clips.__main__ import edge_f1, style_prototypes
from rerender import Clip, fit, load_model, open_video, parts, render
from rerender.codec import SUFFIXES
from rerender.demo import perceptual, weights
from rerender.demo.captions import STYLES
from rerender.exits import Parser, command
from training import natural
from training.bench import psnr


@dataclass(frozen=True)
class TranslatedFrame:
    """What became of one frame of a clip.

    Attributes:
        clip, frame, size, style: which, its short side in pixels, what was asked for.
        named: style that the small CLIP finds nearest.
        truth_named: the same for the truth.
        edges: F1 against the source's, 0..1.
        psnr, source_psnr: dB to the truth, of the result and of the source.
        looks, source_looks: lpips_demo to the truth, of the result and of the source.
    """

    clip: str
    frame: int
    size: int
    style: str
    named: str
    truth_named: str
    edges: float
    psnr: float
    source_psnr: float
    looks: float
    source_looks: float

    @property
    def nearer(self) -> bool:
        """By both measures."""
        return self.psnr > self.source_psnr and self.looks < self.source_looks


def truth(frame: Tensor, style: str) -> Tensor:
    """A frame ``[3,H,W]`` in 0..1 in a style."""
    found = natural.restyled(np.ascontiguousarray(frame.permute(1, 2, 0).numpy()), style)
    return torch.from_numpy(np.ascontiguousarray(found.transpose(2, 0, 1)))


def measure(
    folder: Path, judge: Path, clips: list[Path], sizes: list[int], frames: list[int], steps: int
) -> tuple[list[TranslatedFrame], list[Tensor]]:
    """Every frame in every style, and the pictures.

    Args:
        folder: the model's weights.
        judge: the weights whose small CLIP and lpips_demo are asked.
        clips: videos.
        sizes: short sides in pixels.
        frames: of each clip.
        steps: of the sampler, of which strength 0.75 executes three in four.
    """
    clip = load(judge / "clip", "cpu")
    backbone = perceptual.load(judge)
    model = load_model("demo", ("canny",), f"model.path={folder}", "model.device=cpu")
    choices = parts("constraint=[]", "keyframes.interval=1", f"sampling.steps={steps}")
    rows, shown = [], []
    with torch.inference_mode():
        prototypes = style_prototypes(clip)
        for path in clips:
            for size in sizes:
                for index in frames:
                    video = fit(open_video(path, index, 1), size, model.size_multiple)
                    for style in STYLES:
                        (made,) = render(Clip(path.stem, video, prompt=style), model, choices)
                        source, wanted = video[0], truth(video[0], style)
                        named, truth_named = (
                            STYLES[int((clip.images(each[None]) @ prototypes.T).argmax())]
                            for each in (made, wanted)
                        )
                        pair, twice = torch.stack([made, source]), torch.stack([wanted, wanted])
                        db = psnr(pair, twice).tolist()
                        looks = perceptual.distance(backbone, pair, twice).tolist()
                        edges = edge_f1(source, made)
                        rows.append(
                            TranslatedFrame(
                                path.stem,
                                index,
                                size,
                                style,
                                named,
                                truth_named,
                                edges,
                                *db,
                                *looks,
                            )
                        )
                        shown += [made, wanted]
    return rows, shown


def page(rows: list[TranslatedFrame], said: str) -> str:
    """The figures as a markdown page."""
    lines = []
    for size in sorted({row.size for row in rows}):
        for style in ("all", *STYLES):
            part = [r for r in rows if r.size == size and style in ("all", r.style)]
            moved = [r for r in part if r.style != STYLES[0]]
            share = [
                np.mean([row.named == row.style for row in part]),
                np.mean([row.truth_named == row.style for row in part]),
                np.mean([row.nearer for row in moved]) if moved else np.nan,
            ]
            lines.append(
                f"| {size} | {style} | "
                + " | ".join("" if np.isnan(value) else f"{100 * value:.0f} %" for value in share)
                + f" | {np.mean([row.edges for row in part]):.2f}"
                + f" | {np.mean([row.psnr for row in part]):.1f}"
                + f" / {np.mean([row.source_psnr for row in part]):.1f}"
                + f" | {np.mean([row.looks for row in part]):.3f}"
                + f" / {np.mean([row.source_looks for row in part]):.3f} |\n"
            )
    clips, frames = sorted({r.clip for r in rows}), sorted({r.frame for r in rows})
    return f"""# Real clips and the styles' truth on them

`{said}`: frames {", ".join(map(str, frames))} of {len(clips)} clips ({", ".join(clips)}).
The last two columns are of the result / of the source.

| short side | style | named | truth's named | nearer | edges F1 | PSNR | lpips_demo |
|---|---|---|---|---|---|---|---|
{"".join(lines)}"""


def run(arguments: list[str]) -> None:
    """Draw, measure, write the page and its figures."""
    parser = Parser(prog="python -m training.natural_bench", description=__doc__)
    parser.add_argument("clips", type=Path, help="a folder of videos")
    parser.add_argument("--weights", type=Path, default=weights.FOLDER)
    parser.add_argument("--judge", type=Path, default=weights.FOLDER)
    parser.add_argument("--sizes", type=int, nargs="+", default=[256])
    parser.add_argument("--frames", type=int, nargs="+", default=[30])
    parser.add_argument("--steps", type=int, default=12)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--out", type=Path, default=Path("experiments/bench/training/natural.md"))
    parser.add_argument("--sheet", type=Path, help="write a picture of results above truths here")
    options = parser.parse_args(arguments)
    torch.set_num_threads(options.threads)
    clips = sorted(path for path in options.clips.iterdir() if path.suffix.lower() in SUFFIXES)
    rows, shown = measure(
        options.weights, options.judge, clips, options.sizes, options.frames, options.steps
    )
    said = shlex.join(["python", "-m", "training.natural_bench", *arguments])
    options.out.parent.mkdir(parents=True, exist_ok=True)
    options.out.write_text(page(rows, said))
    figures = [asdict(row) for row in rows]
    options.out.with_suffix(".json").write_text(json.dumps(figures, indent=1) + "\n")
    if options.sheet:
        side = 192
        small = [
            torch.nn.functional.interpolate(each[None], (side, side), mode="area") for each in shown
        ]
        both = torch.cat(small).view(-1, len(STYLES), 2, 3, side, side).transpose(1, 2)
        save_image(both.flatten(0, 2), options.sheet, nrow=len(STYLES))


if __name__ == "__main__":
    sys.exit(command(run))
