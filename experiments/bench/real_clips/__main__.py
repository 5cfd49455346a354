"""At which size the demo model, trained at 128 pixels, draws real clips best.

    python -m experiments.bench.real_clips CLIPS [--sizes 128 256 ...] [--steps N] [--sheet FILE]

CLIPS is a folder of videos. One frame of each is translated by itself into each of the eight styles
the model knows, the style's word as the prompt, at each size of the short side. Writes sizes.json
and sizes.md beside this file, where clips that are not in CLIPS stay as they are, and with --sheet
a picture of all results.

- **style named**: the small CLIP, asked for the nearest of the eight styles (each the mean of its
  embedded captions over all backgrounds and six things), names the one that was asked for.
- **edges**: F1 of Canny edges against the source's (metric `structure`), both at 256 pixels, so
  that sizes compare.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor

from eval.contracts import Moment
from eval.metrics.clip import Judge, load
from eval.metrics.structure import Structure
from eval.metrics.weights import find
from rerender import Clip, files, fit, load_model, open_video, parts, render
from rerender.codec import SUFFIXES
from rerender.config.parts import Parts
from rerender.contracts import Model
from rerender.demo.captions import BACKGROUNDS, COLOURS, STYLES, SUBJECTS
from rerender.fitting import resize

HERE = Path(__file__).parent
RAW = HERE / "sizes.json"
SIZES = (128, 256, 384)
STEPS = 6
FRAME = 30  # of each clip; a clip in which things have begun to move
COMMON = 256  # short side in pixels at which edges are compared


@dataclass(frozen=True)
class Row:
    """What became of one frame.

    Attributes:
        clip, style, size: which frame, what was asked for, short side in pixels.
        named: whether the small CLIP names the style.
        edges: F1 of edges against the source's, 0..1.
        seconds: of the processor.
    """

    clip: str
    style: str
    size: int
    named: bool
    edges: float
    seconds: float


def measured(
    paths: Sequence[Path], sizes: Sequence[int], model: Model, choices: Parts
) -> Iterator[tuple[Row, Tensor]]:
    """Every clip at every size in every style, and its picture ``[3,H,W]`` in 0..1."""
    judge = load(find("demo", "clip"), "cpu")
    with torch.inference_mode():
        prototypes = style_prototypes(judge)
    for path in paths:
        for size in sizes:
            video = fit(open_video(path, FRAME, 1), size, model.size_multiple)
            for style in STYLES:
                began = time.process_time()
                (image,) = render(Clip(path.stem, video, prompt=style), model, choices)
                seconds = time.process_time() - began
                with torch.inference_mode():
                    nearest = int((judge.images(image[None]) @ prototypes.T).argmax())
                edges = edge_f1(video[0], image)
                named = STYLES[nearest] == style
                yield Row(path.stem, style, size, named, round(edges, 4), seconds), image


def style_prototypes(judge: Judge) -> Tensor:
    """Unit embeddings ``[8,D]`` of the styles: each the mean over captions of all backgrounds and
    six coloured things."""
    things = [f"a {colour} {thing}" for colour, thing in zip(COLOURS, SUBJECTS, strict=True)]
    captions = [f"{thing} over the {place}" for thing in things for place in BACKGROUNDS]
    means = [judge.texts([f"{text}, {style}" for text in captions]).mean(0) for style in STYLES]
    return F.normalize(torch.stack(means), dim=-1)


def edge_f1(source: Tensor, result: Tensor) -> float:
    """F1 of the edges of two images ``[3,H,W]``, brought to a common short side."""
    height, width = source.shape[-2:]
    scale = COMMON / min(height, width)
    size = round(height * scale), round(width * scale)
    value = Structure()._f1(Moment(0, resize(source, size), resize(result, size)))
    return 0.0 if value is None else value


def markdown(results: Sequence[Row], steps: int) -> str:
    """The tables: all styles together, and each style's edges and naming by size."""
    sizes = sorted({each.size for each in results})
    clips = sorted({each.clip for each in results})
    lines = [
        "# Real clips with the demo model: size",
        "",
        "`python -m experiments.bench.real_clips CLIPS`: frame "
        f"{FRAME} of {len(clips)} clips ({', '.join(clips)}), {len(STYLES)} styles, {steps} steps "
        "at strength 0.75, each frame by itself; what is measured stands in the script. Processor "
        "seconds are of one frame.",
        "",
        "| short side | style named | edges F1 | both: named, and F1 >= 0.5 | s a frame |",
        "|---|---|---|---|---|",
    ]
    for size in sizes:
        rows = [each for each in results if each.size == size]
        both = mean([each.named and each.edges >= 0.5 for each in rows])
        lines.append(
            f"| {size} | {mean([each.named for each in rows]):.0%} "
            f"| {mean([each.edges for each in rows]):.3f} | {both:.0%} "
            f"| {mean([each.seconds for each in rows]):.1f} |"
        )
    lines += ["", "Style named (of the clips) / edges F1, by style:", ""]
    lines += ["| style | " + " | ".join(map(str, sizes)) + " |", "|---" * (len(sizes) + 1) + "|"]
    for style in STYLES:
        cells = []
        for size in sizes:
            rows = [each for each in results if (each.size, each.style) == (size, style)]
            named = sum(each.named for each in rows)
            cells.append(f"{named} of {len(rows)} / {mean([each.edges for each in rows]):.2f}")
        lines.append(f"| {style} | " + " | ".join(cells) + " |")
    return "\n".join(lines) + "\n"


def mean(values: Sequence[float]) -> float:
    return sum(values) / len(values)


def sheet(images: Sequence[Tensor], side: int = 160) -> Tensor:
    """All results, ``[3,H,W]``: a row for each clip and size, a column for each style."""
    rows = []
    for start in range(0, len(images), len(STYLES)):
        row = images[start : start + len(STYLES)]
        rows.append(
            torch.cat([F.interpolate(i[None], (side, side), mode="area")[0] for i in row], 2)
        )
    return torch.cat(rows, 1)


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("clips", type=Path)
    parser.add_argument("--sizes", type=int, nargs="+", default=SIZES)
    parser.add_argument("--steps", type=int, default=STEPS)
    parser.add_argument("--sheet", type=Path)
    given = parser.parse_args(arguments)
    paths = sorted(p for p in given.clips.iterdir() if p.suffix.lower() in SUFFIXES)
    choices = parts("constraint=[]", "keyframes.interval=1", f"sampling.steps={given.steps}")
    known = json.loads(RAW.read_text()) if RAW.is_file() else []
    stems = {path.stem for path in paths}
    rows = [row for row in (Row(**each) for each in known) if row.clip not in stems]
    images = []
    for row, image in measured(paths, given.sizes, load_model("demo"), choices):
        rows.append(row)
        images.append(image)
        print(row, file=sys.stderr, flush=True)
    files.put_json(RAW, [asdict(row) for row in rows])
    files.put(HERE / "sizes.md", markdown(rows, given.steps).encode())
    if given.sheet:
        files.put(given.sheet, files.png(sheet(images)))


if __name__ == "__main__":
    main()
