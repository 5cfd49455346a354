"""Propagation on a device: ms a frame by stage, memory, and quality against the processor.

    python -m experiments.bench.propagation.device [--device cuda] [--sizes 512x512 ...] [--alone]
        [--toy] [--out FILE]

By stage: both directions of a few segments at once, on a clip of the demo world scaled to size,
with its true flow somewhat disturbed. End to end: whole segments from frames in the processor's
memory to frames in the processor's memory, their flow, light and refinement included; on a GPU
with the direct look as a CUDA graph and without, and beside the default on the processor
(``backend=numba``, ``flow=dis``). Needs torch, numpy, numba and OpenCV (``--alone`` leaves the
processor's path out), no weights. Prints one line of JSON a size, and writes all of them to FILE.
"""

from __future__ import annotations

import argparse
import json
import platform
import subprocess
import time
from collections.abc import Callable
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple
from unittest.mock import patch

import torch
import torch.nn.functional as F
from torch import Tensor

from rerender.compiled import fused
from rerender.data.demo import Demo
from rerender.flow.dis import Dis
from rerender.flow.dis_torch import DisTorch
from rerender.propagation.blending import tensors as blending
from rerender.propagation.blending.blend import Bidirectional, Guess, TwoBand
from rerender.propagation.lanes import Lanes
from rerender.propagation.motion import batched as chained
from rerender.propagation.motion import tensors as motion
from rerender.propagation.motion.chain import FrameMotion
from rerender.propagation.motion.variational import Refiner
from rerender.propagation.patches import batched, cubic, guides, merge, tensors, votes
from rerender.propagation.patches.search import Search, Task, match
from rerender.propagation.patchmatch import PatchMatch
from rerender.video import Frame, MemoryVideo, Segment

SIZES = ("512x512", "1920x1080", "3840x2160")
INTERVAL = 10
MIDDLE = 3
"""The frame that is made, counted from the left key frame."""
PIXELS = 1 << 23
"""About how many pixels are worked on at once, in all frames and directions together."""
REPEATS = 5


class DeviceCase(NamedTuple):
    """What both directions of some segments begin with, the left key frames' lanes first.

    Attributes:
        style, source, target: ``[B,3,H,W]`` in levels: key frames translated and not, and frames.
        offset: ``[B,2,H,W]`` from frames to key frames, about right.
        truth: ``[B/2,3,H,W]`` the frames as they should become, in levels.
    """

    style: Tensor
    source: Tensor
    target: Tensor
    offset: Tensor
    truth: Tensor


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--sizes", nargs="+", default=SIZES, help="width x height")
    parser.add_argument("--alone", action="store_true", help="without the compiled path")
    parser.add_argument("--toy", action="store_true", help="one small size, to see that it runs")
    parser.add_argument("--out", type=Path, default=None)
    asked = parser.parse_args()
    rows = []
    for size in ("64x48",) if asked.toy else asked.sizes:
        width, height = map(int, size.split("x"))
        device = torch.device(asked.device)
        row = measured(height, width, device, compared=height <= 512 and not asked.alone)
        at_once = (1, 4) if device.type == "cuda" and height <= 1080 else (1,)
        kinds = [(count, graph) for count in at_once for graph in graphs(device)]
        row["end to end"] = [end_to_end(height, width, device, *kind) for kind in kinds]
        if not asked.alone:
            row["psnr numba, dis"] = by_default(height, width)
        rows.append(row)
        print(json.dumps(rows[-1]), flush=True)
        if asked.out:
            asked.out.write_text(json.dumps(rows, indent=1) + "\n")


def measured(height: int, width: int, device: torch.device, compared: bool) -> dict[str, Any]:
    """A row of results.

    Args:
        height, width: of frames, in pixels.
        device: on which they are made.
        compared: whether the compiled path on the processor makes one frame too.
    """
    segments = max(1, PIXELS // (2 * height * width)) if device.type == "cuda" else 1
    lanes = opened(height, width, segments, device)
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
    times: dict[str, list[float]] = {}
    for _ in range(REPEATS + 1):  # the first one warms up
        made = run(lanes, lambda stage, seconds: times.setdefault(stage, []).append(seconds))
    row: dict[str, Any] = {
        "size": f"{width}x{height}",
        "device": named(device),
        "torch": torch.__version__,
        "commit": commit(),
        "date": datetime.now(UTC).isoformat(timespec="minutes"),
        "segments": segments,
        "ms": {stage: round(1000 * min(runs[1:]) / segments, 3) for stage, runs in times.items()},
    }
    row["ms"]["sum"] = round(sum(row["ms"].values()), 3)
    row["fps"] = round(1000 / row["ms"]["sum"], 1)
    if device.type == "cuda":
        row["peak_mb"] = round(torch.cuda.max_memory_allocated(device) / 1e6)
    row["psnr"] = {"device": psnr(made[:1], lanes.truth[:1])}
    if compared:
        reference = compiled(lanes)
        row["psnr"]["cpu"] = psnr(reference, lanes.truth[:1].cpu())
        row["psnr"]["device against cpu"] = psnr(made[:1].cpu(), reference)
    return row


def named(device: torch.device) -> str:
    """What the device is called."""
    return torch.cuda.get_device_name(device) if device.type == "cuda" else platform.machine()


def graphs(device: torch.device) -> tuple[bool, ...]:
    """With the direct look as a CUDA graph and without, where there can be one."""
    return (False, True) if fused(device) else (False,)


def by_default(height: int, width: int) -> float:
    """PSNR in dB of a segment made by the default on the processor."""
    frames, truth = clip(height, width)
    ends = Frame(0, truth[0]), Frame(INTERVAL, truth[-1])
    segment = Segment(MemoryVideo(frames), 1, INTERVAL, *ends)
    made = list(PatchMatch(backend="numba").fill(segment, Dis()))
    return psnr(255 * torch.stack(made), 255 * torch.stack(truth[1:-1]))


def end_to_end(
    height: int, width: int, device: torch.device, count: int, graph: bool = False
) -> dict[str, Any]:
    """Milliseconds a frame of whole segments, as many at once, and their PSNR in dB; ``graph``
    says whether the direct look is a CUDA graph at every size, or at none."""
    frames, truth = clip(height, width)
    # Forwards and backwards: every segment has frames of its own.
    turns = [frames, frames[::-1]]
    whole = frames[:1] + [frame for n in range(count) for frame in turns[n % 2][1:]]
    ends = [truth[0], truth[-1]]
    video = MemoryVideo(whole)
    segments = []
    for n in range(count):
        first = n * INTERVAL
        left, right = Frame(first, ends[n % 2]), Frame(first + INTERVAL, ends[(n + 1) % 2])
        segments.append(Segment(video, first + 1, first + INTERVAL, left, right))
    main = PatchMatch()
    lanes = Lanes(main.guides, main.search, main.tolerance, main.blend, device)
    seconds = []
    for _ in range(3):  # the first one warms up
        started = clock(device)
        with patch.object(chained, "GRAPHED", PIXELS << 3 if graph else 0):
            made = list(lanes.fill(segments, DisTorch()))
        seconds.append(clock(device) - started)
    ms = 1000 * min(seconds[1:]) / len(made)
    quality = psnr(255 * torch.stack(made[: INTERVAL - 1]), 255 * torch.stack(truth[1:-1]))
    row = {"segments": count, "ms": round(ms, 2), "fps": round(1000 / ms, 1), "psnr": quality}
    return row | {"graph": graph} if device.type == "cuda" else row


def clip(height: int, width: int) -> tuple[list[Tensor], list[Tensor]]:
    """Source frames and their true translations, ``[3,H,W]`` in 0..1."""
    drawn = min(512, max(64, min(height, width)))
    source = Demo(motion="fast", frames=INTERVAL + 1, size=drawn).clips()[0]
    assert source.truth is not None

    def scaled(image: Tensor | None) -> Tensor:
        assert image is not None
        return F.interpolate(image[None], (height, width), mode="bilinear")[0].clamp(0, 1)

    every = range(INTERVAL + 1)
    truth = [scaled(source.truth.translation(index)) for index in every]
    return [scaled(source.video[index]) for index in every], truth


def commit() -> str:
    """The commit that is measured, empty where git does not know."""
    command = ["git", "rev-parse", "--short", "HEAD"]
    return subprocess.run(command, capture_output=True, text=True, check=False).stdout.strip()


def opened(height: int, width: int, segments: int, device: torch.device) -> DeviceCase:
    """The same segment as often as asked for."""
    drawn = min(512, max(64, min(height, width)))
    clip = Demo(motion="fast", frames=INTERVAL + 1, size=drawn).clips()[0]
    world = clip.truth
    assert world is not None

    def scaled(image: Tensor | None) -> Tensor:
        assert image is not None
        return 255 * F.interpolate(image[None], (height, width), mode="bilinear")[0].clamp(0, 1)

    ends, scale = (0, INTERVAL), torch.tensor([width / drawn, height / drawn]).view(1, 2, 1, 1)
    flows = [
        F.interpolate(world.flow(MIDDLE, key).offset, (height, width), mode="bilinear") * scale
        for key in ends
    ]
    noise = torch.randn(2, 2, 8, 8, generator=torch.Generator().manual_seed(0))
    offset = torch.cat(flows) + F.interpolate(noise, (height, width), mode="bicubic")
    style = torch.stack([scaled(world.translation(key)) for key in ends])
    source = torch.stack([scaled(clip.video[key]) for key in ends])
    target = scaled(clip.video[MIDDLE]).expand(2, -1, -1, -1)
    truth = scaled(world.translation(MIDDLE))[None].expand(segments, -1, -1, -1)
    style, source, target, offset = (
        part.repeat_interleave(segments, 0).to(device) for part in (style, source, target, offset)
    )
    return DeviceCase(style, source, target, offset, truth.to(device))


def run(lanes: DeviceCase, note: Callable[[str, float], None]) -> Tensor:
    """One frame of every segment ``[B/2,3,H,W]`` in levels; stages are noted with their seconds."""
    main, device = PatchMatch(), lanes.offset.device

    def timed(stage: str, work: Callable[[], Any]) -> Any:
        started = clock(device)
        found = work()
        note(stage, clock(device) - started)
        return found

    style, source, target = (part.permute(0, 2, 3, 1).contiguous() for part in lanes[:3])
    still = torch.zeros_like(target[..., :2])
    both = tensors.paired(style, source)
    keys = tensors.pack(main.guides, style, source, tensors.edges(source), still)
    count = len(target) // 2
    time_ = torch.full((count,), MIDDLE / INTERVAL, device=device)

    levels = lanes.target / 255, lanes.source / 255
    # Only measured: the frames start from the disturbed true flow, which both paths are given.
    timed("flow", lambda: DisTorch().estimate(*levels, lanes.offset))
    offset = timed("refine", lambda: motion.refine(lanes.source, lanes.target, lanes.offset))
    offset = offset.permute(0, 2, 3, 1).contiguous()
    moved = timed("warp", lambda: tensors.warped(both, offset, target))
    packed = timed(
        "guides",
        lambda: tensors.pack(main.guides, moved.image, target, tensors.edges(target), offset),
    )
    frames = [MIDDLE] * len(target)
    matches = timed(
        "search",
        lambda: batched.matched(main.search, main.guides, frames, keys, packed, offset),
    )
    voted = timed("vote", lambda: tensors.settled(batched.vote(both, matches), target))
    merged = timed("merge", lambda: tensors.merge(moved, voted, main.tolerance))
    left, right = (
        merged.each(partial(torch.narrow, dim=0, start=start, length=count)) for start in (0, count)
    )
    assert isinstance(main.blend, TwoBand)
    blend = main.blend
    made: Tensor = timed("blend", lambda: blending.two_band(blend, left, right, time_))
    return made.permute(0, 3, 1, 2)


def clock(device: torch.device) -> float:
    """Seconds, after all that the device was asked for."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return time.perf_counter()


def compiled(lanes: DeviceCase) -> Tensor:
    """The first segment's frame by the compiled path, ``[1,3,H,W]`` in levels."""
    main, count = PatchMatch(), len(lanes.target) // 2
    sides = []
    for lane in (0, count):
        style, source, target, start = (
            part[lane].permute(1, 2, 0).contiguous().cpu().numpy() for part in lanes[:4]
        )
        offset = Refiner(*target.shape[:2]).refine(source, target, start)
        both = cubic.paired(style, source)
        key = main.guides.pack(style, source, guides.edges(source), 0 * start)
        moved = cubic.warped(both, offset, target)
        packed = main.guides.pack(moved.image, target, guides.edges(target), offset)
        task = Task(key, packed, offset, MIDDLE)
        found = votes.vote(both, match(Search(), main.guides, task), target)
        sides.append(Guess(*merge.merge(moved, found, main.tolerance)))
    pair = Bidirectional(sides[0], sides[1], MIDDLE / INTERVAL, FrameMotion(start))
    (made,) = main.blend.run([pair])
    return torch.from_numpy(made).permute(2, 0, 1)[None]


def psnr(found: Tensor, expected: Tensor) -> float:
    """In dB, of levels."""
    error = (found.clamp(0, 255) - expected).square().mean().item()
    return round(10 * float(torch.tensor(255.0**2 / max(error, 1e-9)).log10()), 3)


if __name__ == "__main__":
    main()
