"""Real clips and styles' truth on them: ``python -m training.natural_bench CLIPS``.

CLIPS is a folder of videos. Frames of each are translated by themselves into each of the eight
styles, the style's word as the prompt. What a style is on any picture (``natural.restyled``) is the
truth. Per frame and style:

- **named**: the small CLIP finds the style nearest among the eight;
- **nearer**: the result is nearer to the truth than the source is, by PSNR and by lpips_demo; of a
  photo the source is the truth, so photos do not count;
- **edges**: F1 of Canny edges against the source's, both at 256 pixels.

Seconds are of the processor, of one frame.
"""

from __future__ import annotations

import argparse
import json
import shlex
import sys
import time
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
from rerender.contracts import Model
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
        seconds: of the processor, for the result.
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
    seconds: float

    @property
    def nearer(self) -> bool:
        """By both measures."""
        return self.psnr > self.source_psnr and self.looks < self.source_looks


def truth(frame: Tensor, style: str) -> Tensor:
    """A frame ``[3,H,W]`` in 0..1 in a style."""
    found = natural.restyled(np.ascontiguousarray(frame.permute(1, 2, 0).numpy()), style)
    return torch.from_numpy(np.ascontiguousarray(found.transpose(2, 0, 1)))


def measure(
    model: Model, judge: Path, clips: list[Path], sizes: list[int], frames: list[int], steps: int
) -> tuple[list[TranslatedFrame], list[Tensor]]:
    """Every frame in every style, and the pictures.

    Args:
        model: what is measured.
        judge: the weights whose small CLIP and lpips_demo are asked.
        clips: videos.
        sizes: short sides in pixels.
        frames: of each clip.
        steps: of the sampler, of which strength 0.75 executes three in four.
    """
    clip = load(judge / "clip", "cpu")
    backbone = perceptual.load(judge)
    choices = parts("constraint=[]", "keyframes.interval=1", f"sampling.steps={steps}")
    rows, shown = [], []
    with torch.inference_mode():
        prototypes = style_prototypes(clip)
        for path in clips:
            for size in sizes:
                for index in frames:
                    video = fit(open_video(path, index, 1), size, model.size_multiple)
                    for style in STYLES:
                        began = time.process_time()
                        (made,) = render(Clip(path.stem, video, prompt=style), model, choices)
                        seconds = time.process_time() - began
                        source, wanted = video[0], truth(video[0], style)
                        named, truth_named = (
                            STYLES[int((clip.images(each[None]) @ prototypes.T).argmax())]
                            for each in (made, wanted)
                        )
                        pair, twice = torch.stack([made, source]), torch.stack([wanted, wanted])
                        db, source_db = psnr(pair, twice).tolist()
                        looks, source_looks = perceptual.distance(backbone, pair, twice).tolist()
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
                                db,
                                source_db,
                                looks,
                                source_looks,
                                seconds,
                            )
                        )
                        shown += [made, wanted]
    return rows, shown


def page(rows: list[TranslatedFrame], title: str, said: str) -> str:
    """The figures as a markdown page: every size, then every style at every size.

    Args:
        rows: what was measured.
        title: of the page.
        said: what it was made with, and of which clips.
    """
    sizes = sorted({row.size for row in rows})
    of_size = {size: [row for row in rows if row.size == size] for size in sizes}
    every = [
        f"| {size} | {len({row.clip for row in part})} {_cells(part)}"
        for size, part in of_size.items()
    ]
    styles = [
        f"| {size} | {style} {_cells([row for row in part if row.style == style])}"
        for style in STYLES
        for size, part in of_size.items()
    ]
    columns = "named | truth's named | nearer | edges F1 | PSNR | lpips_demo | s a frame |"
    rule = "---|" * 7
    return f"""# {title}

{said}
PSNR and lpips_demo are to the truth, of the result / of the source; in the first table without
photos, whose truth is the source.

| short side | clips | {columns}
|---|---|{rule}
{"".join(every)}
| short side | style | {columns}
|---|---|{rule}
{"".join(styles)}"""


def _cells(rows: list[TranslatedFrame]) -> str:
    moved = [row for row in rows if row.style != STYLES[0]]
    named = np.mean([row.named == row.style for row in rows])
    truth_named = np.mean([row.truth_named == row.style for row in rows])
    nearer = f"{100 * np.mean([row.nearer for row in moved]):.0f} %" if moved else ""
    edges = np.mean([row.edges for row in rows])
    psnr_, source_psnr, looks, source_looks = (
        np.mean([getattr(row, name) for row in moved or rows])
        for name in ("psnr", "source_psnr", "looks", "source_looks")
    )
    return (
        f"| {100 * named:.0f} % | {100 * truth_named:.0f} % | {nearer} | {edges:.2f} "
        f"| {psnr_:.1f} / {source_psnr:.1f} | {looks:.3f} / {source_looks:.3f} "
        f"| {np.mean([row.seconds for row in rows]):.1f} |\n"
    )


def run(arguments: list[str]) -> None:
    """Draw, measure, write the page and its figures."""
    parser = Parser(prog="python -m training.natural_bench", description=__doc__)
    parser.add_argument("clips", type=Path, help="a folder of videos")
    parser.add_argument("--model", default="demo", help="a choice of conf/model")
    parser.add_argument("--weights", type=Path, help="a folder of other weights for it")
    parser.add_argument("--judge", type=Path, default=weights.FOLDER)
    parser.add_argument("--sizes", type=int, nargs="+", default=[256])
    parser.add_argument("--frames", type=int, nargs="+", default=[30])
    parser.add_argument("--steps", type=int, default=12)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--out", type=Path, default=Path("experiments/bench/training/natural.md"))
    parser.add_argument("--add", action="store_true", help="keep what else is in OUT")
    parser.add_argument("--title", default="Real clips and the styles' truth on them")
    parser.add_argument("--about", default="", help="authors and licence of the clips")
    parser.add_argument("--sheet", type=Path, help="write a picture of results above truths here")
    options = parser.parse_args(arguments)
    torch.set_num_threads(options.threads)
    clips = sorted(path for path in options.clips.iterdir() if path.suffix.lower() in SUFFIXES)
    other = [f"model.path={options.weights}"] if options.weights else []
    model = load_model(options.model, ("canny",), "model.device=cpu", *other)
    rows, shown = measure(model, options.judge, clips, options.sizes, options.frames, options.steps)
    raw = options.out.with_suffix(".json")
    if options.add and raw.is_file():
        new = {_key(row) for row in rows}
        kept = [TranslatedFrame(**each) for each in json.loads(raw.read_text())]
        rows = sorted([*(row for row in kept if _key(row) not in new), *rows], key=_key)
    options.out.parent.mkdir(parents=True, exist_ok=True)
    options.out.write_text(page(rows, options.title, _said(options, rows)))
    raw.write_text(json.dumps([asdict(row) for row in rows], indent=1) + "\n")
    if options.sheet:
        side = 192
        small = [
            torch.nn.functional.interpolate(each[None], (side, side), mode="area") for each in shown
        ]
        both = torch.cat(small).view(-1, len(STYLES), 2, 3, side, side).transpose(1, 2)
        save_image(both.flatten(0, 2), options.sheet, nrow=len(STYLES))


def _key(row: TranslatedFrame) -> tuple[str, int, int, int]:
    return row.clip, row.size, row.frame, STYLES.index(row.style)


def _said(options: argparse.Namespace, rows: list[TranslatedFrame]) -> str:
    """The command that makes the whole page, and its clips."""
    sizes = sorted({row.size for row in rows})
    words = ["python", "-m", "training.natural_bench", "CLIPS", "--model", options.model]
    words += ["--weights", "WEIGHTS"] * bool(options.weights)
    words += ["--judge", "JUDGE"] * (options.judge != weights.FOLDER)
    words += ["--sizes", *map(str, sizes), "--steps", str(options.steps)]
    clips, frames = sorted({r.clip for r in rows}), sorted({r.frame for r in rows})
    shown = f"`{shlex.join(words)}`: frames {', '.join(map(str, frames))} of {len(clips)} clips"
    return f"{shown} ({', '.join(clips)}). {options.about}".rstrip()


if __name__ == "__main__":
    sys.exit(command(run))
