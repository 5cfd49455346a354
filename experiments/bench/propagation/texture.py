"""How much texture is left of key frames that disagree, where things move fast.

    python -m experiments.bench.propagation.texture CLIPS [--seeds N]

CLIPS is a folder that holds the three clips; of each a fast stretch is taken (every third or fifth
frame). Key frames disagree by a colour cast and a grain of each (see `cases.disagreeing`), or are
independent translations by the demo model of the first and the last frame alone. Truth of those is
the cross-fade of the two, which only says how the mean colour has to go. *Without* is the blend
that takes the key frames to agree. Writes texture.md beside this file.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from dataclasses import replace
from datetime import date
from pathlib import Path

import cv2
import numpy as np
import torch

from experiments.bench.propagation import measures as measures
from experiments.bench.propagation.__main__ import HERE, RAW, choice, commit, say
from experiments.bench.propagation.cases import (
    INTERVAL,
    SOURCES,
    Case,
    Picture,
    case,
    disagreeing,
    picture,
    read,
    tensor,
)
from experiments.bench.propagation.world import translation
from rerender import files
from rerender.api import load_model, parts
from rerender.contracts import Propagation
from rerender.data.demo import Demo
from rerender.demo.world import HELD_OUT
from rerender.flow.dis import Dis
from rerender.pipeline import render
from rerender.propagation.blending.blend import TwoBand
from rerender.propagation.patchmatch import PatchMatch
from rerender.video import Clip, MemoryVideo

GRAINY = ("kool@3", "kool@5", "antoni@3", "cotton@3", "kool", "antoni", "cotton")
DRAWN = {"kool@3": "oil", "kool@5": "watercolor", "antoni@3": "mosaic"}
AGREEING = (
    *(("kool", "paint"), ("antoni", "paint"), ("kool@3", "paint"), ("cotton", "paint")),
    *(("kool", "sketch"), ("kool", "ident"), ("antoni", "ident"), ("cotton", "ident")),
    ("kool@5", "paint"),
)
SIDE = 256
"""Short side in pixels at which the demo model draws real clips."""

AGREE = (2.0, 3.0)
"""Shares of detail on which no two key frames disagree."""


def main() -> None:
    """Measure, write the table and say where it is."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=RAW)
    parser.add_argument("folder", metavar="CLIPS", type=Path, help="folder of the three clips")
    parser.add_argument("--seeds", type=int, default=3, help="clips of the demo world, fast")
    options = parser.parse_args()
    torch.set_num_threads(1)
    cv2.setNumThreads(1)
    head = f"{date.today().isoformat()}, commit {commit()}: "
    head += f"`python -m experiments.bench.propagation.texture CLIPS --seeds {options.seeds}`. "
    head += "Texture is a share of the key frames', step the error of the mean colour's change "
    head += "from frame to frame in levels, PSNR in dB; nine frames between two key frames."
    lines = ["# Texture of key frames that disagree", "", head, ""]
    lines += ["| key frames disagree | texture without | texture | step without | step |"]
    lines += ["|---|---|---|---|---|"]
    for item in [*grainy(options.folder), *drawn(options.folder, options.seeds)]:
        say(item.name)
        (before, step_before, _), (share, step, _) = both(item)
        lines += [f"| {item.name} | {before:.3f} | {share:.3f} | {step_before:.3f} | {step:.3f} |"]
    lines += ["", "| key frames agree | PSNR without | PSNR | texture without | texture |"]
    lines += ["|---|---|---|---|---|"]
    for item in [*agreeing(options.folder), *true(options.seeds)]:
        say(item.name)
        (before, _, old), (share, _, new) = both(item)
        lines += [f"| {item.name} | {old:.2f} | {new:.2f} | {before:.3f} | {share:.3f} |"]
    files.put(HERE / "texture.md", "\n".join([*lines, ""]).encode())
    print(HERE / "texture.md")


def grainy(folder: Path) -> Iterator[Case]:
    """Key frames with a grain of their own."""
    return (disagreeing(clip, folder) for clip in GRAINY)


def agreeing(folder: Path) -> Iterator[Case]:
    """Key frames made by the same filter."""
    return (case(clip, look, folder) for clip, look in AGREEING)


def worlds(seeds: int) -> list[Clip]:
    """Fast clips of the demo world."""
    return [*Demo(tuple(range(HELD_OUT, HELD_OUT + seeds)), "fast", INTERVAL + 1).clips()]


def true(seeds: int) -> Iterator[Case]:
    """True translations as key frames, in the demo world."""
    for clip in worlds(seeds):
        source = [picture(clip.video[index]) for index in range(INTERVAL + 1)]
        truth = [picture(translation(clip, index)) for index in range(INTERVAL + 1)]
        yield Case(f"truth {clip.name}", source, truth, (truth[0], truth[-1]))


@torch.inference_mode()
def drawn(folder: Path, seeds: int) -> Iterator[Case]:
    """Key frames that the demo model has translated each for itself."""
    clips = worlds(seeds)
    for name, look in DRAWN.items():
        width, height = (int(side * SIDE / min(SOURCES[name].size)) for side in SOURCES[name].size)
        sized = replace(SOURCES[name], size=(width // 16 * 16, height // 16 * 16))
        video = MemoryVideo([tensor(frame) for frame in read(folder, sized)])
        clips.append(Clip(f"{name} {look}", video, prompt=look))
    model = load_model("demo")
    alone = parts("constraint=[]", f"keyframes.interval={INTERVAL}", "propagation=hold")
    for clip in clips:
        held = [*render(clip, model, alone)]
        keys = picture(held[0]), picture(held[-1])
        source = [picture(clip.video[index]) for index in range(INTERVAL + 1)]
        yield Case(f"translated {clip.name}", source, faded(*keys), keys)


def faded(first: Picture, last: Picture) -> list[np.ndarray]:
    """The cross-fade of two key frames."""
    a, b = first.astype(np.float32), last.astype(np.float32)
    return [a + (b - a) * np.float32(index / INTERVAL) for index in range(INTERVAL + 1)]


def both(item: Case) -> list[tuple[float, float, float]]:
    """Texture, colour step and PSNR without and with the key frames' own texture."""
    part = choice("patchmatch")
    assert isinstance(part, PatchMatch) and isinstance(part.blend, TwoBand)
    without = replace(part, blend=replace(part.blend, disagreement=AGREE))
    return [figures(item, method) for method in (without, part)]


def figures(item: Case, part: Propagation) -> tuple[float, float, float]:
    """Texture as a share of the key frames', colour step in levels, PSNR in dB."""
    made = [picture(image) for image in part.fill(item.segment(), Dis())]
    whole = [item.keys[0], *made, item.keys[1]]
    share = measures.texture(made) / measures.texture(item.keys)
    psnr = np.mean([measures.psnr(*pair) for pair in zip(made, item.truth[1:-1], strict=True)])
    return share, measures.colour_step(whole, item.truth), float(psnr)


if __name__ == "__main__":
    main()
