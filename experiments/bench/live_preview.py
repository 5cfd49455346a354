"""The studio's live preview: seconds from a change to the first frame, and frames per second after.

``python -m experiments.bench.live_preview`` writes a table to standard output. The warm process,
the process of previews and what is between them are the studio's own; what the browser adds
(0.12 s in which nothing more is changed, and showing a JPEG) is not in it. Every line is measured
with previews that were not asked for before.
"""

from __future__ import annotations

import asyncio
import os
import statistics
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from pathlib import Path

from rerender import write_video
from rerender.demo.world import HELD_OUT, World
from rerender.exits import Parser, command
from rerender.studio.answers import Studio
from rerender.studio.settings import StudioSettings
from rerender.studio.warm import WarmWorker
from rerender.video import MemoryVideo

STYLES = ("watercolor", "oil", "neon", "pencil", "mosaic", "pixel art")
CHANGES: Mapping[str, Sequence[Mapping[str, object]]] = {
    "the prompt": [{"prompt": f"{style} {number}"} for number, style in enumerate(STYLES)],
    "the strength": [{"strength": 0.5 + 0.05 * number} for number in range(6)],
    "the constraints": [
        {"constraints": chosen}
        for chosen in (["color"], ["shape"], ["cross_frame"], ["cross_frame", "shape"], [])
    ],
}


def timed(studio: Studio, asked: StudioSettings) -> tuple[float, float]:
    """Seconds to the first frame of a preview, and frames per second from there to its last."""
    assert studio.previews is not None
    begun = time.perf_counter()
    id = studio.preview(asked)["id"]
    first, frames, end = 0.0, 0, None
    while end is None:
        state = studio.previews.state(id, frames, 60.0)
        if not frames and state["frames"]:
            first = time.perf_counter()
        frames, end = state["frames"], state["end"]
    if end or not first:
        raise RuntimeError(f"no preview: {end}")
    took = time.perf_counter() - first
    return first - begun, (frames - 1) / took if frames > 1 else float("nan")


async def blocks(path: Path) -> AsyncIterator[bytes]:
    """A file as an upload."""
    yield path.read_bytes()


def measured(clip: Path, folder: Path) -> Iterator[tuple[str, list[tuple[float, float]]]]:
    """For each kind of change the times of its previews."""
    warm = WarmWorker(())
    studio = Studio(folder, (), 2**31, warm)
    try:
        studio.warm_up()
        id = asyncio.run(studio.clips.add(clip.name, None, blocks(clip))).id
        plain = {"clip": id, "prompt": "oil painting", "strength": 0.75}
        timed(studio, StudioSettings.of(plain))  # reads the clip
        for name, changes in CHANGES.items():
            yield name, [timed(studio, StudioSettings.of({**plain, **each})) for each in changes]
    finally:
        studio.close()


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; returns the exit code (see `rerender.exits`)."""
    return command(_main, arguments)


def _main(arguments: list[str]) -> None:
    parser = Parser(prog="python -m experiments.bench.live_preview", description=__doc__)
    parser.add_argument("--clip", type=Path, help="a video; a clip of the demo world if not given")
    clip = parser.parse_args(arguments).clip
    with tempfile.TemporaryDirectory() as room:
        if clip is None:
            world = World(HELD_OUT, frames=41)
            images = [world.frame(index) for index in range(world.frames)]
            clip = Path(room) / "demo.mp4"
            write_video(clip, images, MemoryVideo(images))
        before = os.getloadavg()[0]
        lines = ["| changed | previews | first frame, s | slowest, s | frames per second |"]
        lines.append("|---|---|---|---|---|")
        for name, times in measured(clip, Path(room) / "studio"):
            firsts, rates = zip(*times, strict=True)
            median, rate = statistics.median(firsts), statistics.median(rates)
            lines.append(
                f"| {name} | {len(times)} | {median:.2f} | {max(firsts):.2f} | {rate:.1f} |"
            )
        load = f"{before:.1f} before, {os.getloadavg()[0]:.1f} after"
        lines.append(f"\n{os.cpu_count()} cores; load of the machine {load}.")
    sys.stdout.write("\n".join(lines) + "\n")


if __name__ == "__main__":
    sys.exit(main())
