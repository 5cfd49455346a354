"""Light that changes between source frames, and what becomes of it in the result.

    python -m experiments.bench.propagation.flicker CLIPS [--clips NAME ...] [--seeds N]
        [--lights NAME ...]

CLIPS is a folder that holds the three clips. Only the source frames change: key frames and truth
stay as they are, so nothing of it may be seen. *Without* is the same method without
`rerender.propagation.motion.exposure`. Writes propagation_flicker.md beside this file.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from datetime import date
from pathlib import Path
from unittest.mock import patch

import cv2
import numpy as np
import torch
from numpy.typing import NDArray

from experiments.bench.propagation import measures as measures
from experiments.bench.propagation.__main__ import HERE, RAW, choice, commit, say
from experiments.bench.propagation.cases import (
    INTERVAL,
    Case,
    Picture,
    case,
    eight_bit,
    picture,
)
from experiments.bench.propagation.world import translation
from rerender import files
from rerender.data.demo import Demo
from rerender.demo.world import HELD_OUT
from rerender.flow.dis import Dis
from rerender.propagation.motion.exposure import Exposure

Light = Callable[[NDArray[np.float32], int], NDArray[np.float32]]
"""``light(levels, index)``: a source frame ``[H,W,3]`` in other light."""

METHODS = ("warp", "patchmatch")


def lamp(shape: Sequence[int]) -> NDArray[np.float32]:
    """How bright a lamp in the upper left shines, 0..1, ``[H,W,1]``."""
    y, x = np.mgrid[: shape[0], : shape[1]].astype(np.float32)
    square = (x - 0.3 * shape[1]) ** 2 + (y - 0.4 * shape[0]) ** 2
    bright: NDArray[np.float32] = np.exp(-square / (2 * (0.2 * min(shape[:2])) ** 2))[..., None]
    return bright


GAIN = np.array([1.15, 1.1, 1.2], np.float32)
LIGHTS: Mapping[str, Light] = {
    "steady": lambda frame, _: frame,
    "brightness +-8": lambda frame, index: frame + np.float32(8 if index % 2 else -8),
    "gain per channel": lambda frame, index: frame * (GAIN if index % 2 else np.float32(1) / GAIN),
    "lamp +30": lambda frame, index: frame + 30 * lamp(frame.shape) * (index % 2),
    "lamp x1.4": lambda frame, index: frame * (1 + 0.4 * lamp(frame.shape) * (index % 2)),
    "flash, frame 4": lambda frame, index: 1.5 * frame + 30 if index == 4 else frame,
}


def main() -> None:
    """Measure, write the table and say where it is."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=RAW)
    parser.add_argument("folder", metavar="CLIPS", type=Path, help="folder of the three clips")
    parser.add_argument("--clips", nargs="+", default=["kool", "antoni", "cotton"])
    parser.add_argument("--seeds", type=int, default=2, help="clips of each kind of motion")
    parser.add_argument("--lights", nargs="+", choices=LIGHTS, default=LIGHTS)
    options = parser.parse_args()
    torch.set_num_threads(1)
    cv2.setNumThreads(1)
    lines = [
        "# Light that changes between source frames",
        "",
        f"{date.today().isoformat()}, commit {commit()}: "
        f"`python -m experiments.bench.propagation.flicker CLIPS --clips "
        f"{' '.join(options.clips)} --seeds {options.seeds}`. Nine frames between two key frames; "
        "only the source changes, key frames and truth do not. *Step* is the error of the mean "
        "colour's change from frame to frame, in levels.",
        "",
        "| case | light | method | PSNR without | PSNR | step without | step | texture |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for item in cases(options.folder, options.clips, options.seeds):
        say(item.name)
        lines += rows(item, options.lights)
    files.put(HERE / "flicker.md", "\n".join([*lines, ""]).encode())
    print(HERE / "flicker.md")


def cases(folder: Path, clips: Sequence[str], seeds: int) -> Iterator[Case]:
    """Intervals whose light will be changed."""
    yield from (case(clip, "paint", folder) for clip in clips)
    yield case(clips[0], "sketch", folder)
    for motion in ("slow", "crossing"):
        for clip in Demo(tuple(range(HELD_OUT, HELD_OUT + seeds)), motion, INTERVAL + 1).clips():
            source = [picture(clip.video[index]) for index in range(INTERVAL + 1)]
            truth = [picture(translation(clip, index)) for index in range(INTERVAL + 1)]
            yield Case(f"demo {clip.name}", source, truth, (truth[0], truth[-1]))


def rows(item: Case, lights: Iterable[str]) -> Iterator[str]:
    """Some lights and every method on one interval."""
    for light in lights:
        source = [
            eight_bit(LIGHTS[light](frame.astype(np.float32), index))
            for index, frame in enumerate(item.source)
        ]
        for method in METHODS:
            made = filled(replace(item, source=source), method)
            with patch.object(Exposure, "levelled", lambda _, target, offset: target):
                before = filled(replace(item, source=source), method)
            psnr, step, texture = figures(made, item)
            psnr_before, step_before, _ = figures(before, item)
            yield (
                f"| {item.name} | {light} | {method} | {psnr_before:.2f} | {psnr:.2f} | "
                f"{step_before:.2f} | {step:.2f} | {texture:.3f} |"
            )


def filled(item: Case, method: str) -> list[Picture]:
    """The frames between the key frames."""
    return [picture(image) for image in choice(method).fill(item.segment(), Dis())]


def figures(frames: Sequence[Picture], item: Case) -> tuple[float, float, float]:
    """PSNR in dB, colour step in levels, and texture as a share of the key frames'."""
    psnr = [measures.psnr(*pair) for pair in zip(frames, item.truth[1:-1], strict=True)]
    step = measures.colour_step([item.keys[0], *frames, item.keys[1]], item.truth)
    share = measures.texture(frames) / measures.texture(item.keys)
    return float(np.mean(psnr)), step, share


if __name__ == "__main__":
    main()
