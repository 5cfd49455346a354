"""What ``data.output=source`` gains over bicubic interpolation, and the most that it could.

``python -m experiments.bench.detail_bound`` writes a table to standard output: eight clips of the
demo world, each in a style of its own, drawn at 512x512. Key frames are what the demo model makes
at a smaller size. The bound adds to the interpolated key frame all of the truth that no picture
of its size can hold; whoever keeps the key frame as it is gets no closer, in expectation.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence

import torch
from torch import Tensor

from rerender import Clip, load_model, parts, render
from rerender.demo.world import HELD_OUT, STYLES, World
from rerender.exits import Parser, command
from rerender.fitting import resize
from rerender.propagate.detail import transfer
from rerender.video import MemoryVideo

LARGE, FRAME = 512, 7


def psnr(image: Tensor, truth: Tensor) -> float:
    """PSNR in dB of an image in 0..1."""
    return float(-10 * (image - truth).square().mean().log10())


def compared(low: int, steps: int) -> Iterator[tuple[str, float, float, float, float]]:
    """For each style: PSNR of the key frame to the truth at its own size, of bicubic interpolation
    at the large one, and what transfer and the bound gain over that, dB."""
    model = load_model("demo")
    chosen = parts(f"sampling.steps={steps}", "constraint=[]")
    for number, style in enumerate(STYLES):
        world = World(HELD_OUT + number, size=(LARGE, LARGE))
        source, truth = world.frame(FRAME), world.frame(FRAME, style)
        guide, small = resize(source, (low, low)), resize(truth, (low, low))
        clip = Clip("clip", MemoryVideo([guide]), prompt=world.prompt(style))
        key = next(iter(render(clip, model, chosen))).clamp(0, 1)
        plain = resize(key, (LARGE, LARGE))
        bound = plain + truth - resize(small, (LARGE, LARGE))
        base = psnr(plain, truth)
        gains = [psnr(image, truth) - base for image in (transfer(key, guide, source), bound)]
        yield style, psnr(key, small), base, gains[0], gains[1]


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; returns the exit code (see `rerender.exits`)."""
    return command(_main, arguments)


@torch.inference_mode()
def _main(arguments: list[str]) -> None:
    parser = Parser(prog="python -m experiments.bench.detail_bound", description=__doc__)
    parser.add_argument("--low", type=int, nargs="+", default=[128, 256])
    parser.add_argument("--steps", type=int, default=10)
    given = parser.parse_args(arguments)
    sys.stdout.write("| key frame | PSNR, small | bicubic | transfer, dB | bound, dB |\n")
    sys.stdout.write("|---|---|---|---|---|\n")
    for low in given.low:
        rows = list(compared(low, given.steps))
        means = torch.tensor([row[1:] for row in rows]).mean(0).tolist()
        for name, *values in [*rows, ("mean", *means)]:
            key, base, made, most = values
            line = f"{low}, {name} | {key:.2f} | {base:.2f} | {made:+.2f} | {most:+.2f}"
            sys.stdout.write(f"| {line} |\n")


if __name__ == "__main__":
    sys.exit(main())
