"""How propagation grows: with the size of frames, with cores, with the length of a clip.

    python -m experiments.bench.propagation.scale CLIPS [--parts size cores memory large poisson]

CLIPS is a folder that holds the three clips. Writes propagation_scale.json and .md beside this
file; parts that are not asked for stay as they are there, with their own date, commit and load.
Memory is measured in processes of their own.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import time
from collections.abc import Iterator
from datetime import date
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from scipy.sparse import csr_array, diags_array, eye_array, kron, vstack
from scipy.sparse.linalg import lsqr

from experiments.bench.propagation import measures as measures
from experiments.bench.propagation.__main__ import HERE, RAW, choice, commit, dis_medium_ms
from experiments.bench.propagation.cases import case, tensor
from rerender import files
from rerender.flow.dis import Dis
from rerender.propagate import propagate
from rerender.propagation.blending.poisson import screened
from rerender.scene import Trace, Translation
from rerender.video import KeyFrame, MemoryVideo, Segment, Video

LENGTHS = (50, 200, 800)
SHORT_SIDES = (288, 480, 720, 960)
INTERVAL = 10
LARGE = (("warp", (1920, 1080)), ("patchmatch", (1920, 1080)), ("patchmatch", (3840, 2160)))
"""Methods and the size of the frames, (width, height), whose peak memory is taken."""


class Looped(Video):
    """Eleven frames there and back again, as often as it takes."""

    def __init__(self, frames: MemoryVideo, length: int) -> None:
        self._frames, self._length = frames, length

    @property
    def size(self) -> tuple[int, int]:
        return self._frames.size

    @property
    def timestamps(self) -> Any:
        return range(self._length)

    def __getitem__(self, index: int) -> torch.Tensor:
        place = index % (2 * INTERVAL)
        return self._frames[min(place, 2 * INTERVAL - place)]


def main() -> None:
    """Measure, write the results and say where they are."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=RAW)
    parser.add_argument("clips", type=Path, help="folder that holds the three clips")
    parser.add_argument("--parts", nargs="+", choices=PARTS, default=PARTS)
    options = parser.parse_args()
    torch.set_num_threads(1)
    cv2.setNumThreads(1)
    path = HERE / "scale.json"
    results = json.loads(path.read_text()) if path.is_file() else {}
    for part in options.parts:
        load = os.getloadavg()[0]
        figures = measured(part, options.clips)
        head = {"date": date.today().isoformat(), "commit": commit(), "load": load}
        head["dis_medium_ms"] = dis_medium_ms(options.clips)
        results[part] = {**head, "figures": figures}
        # What is measured is kept, whatever becomes of the rest.
        files.put_json(path, results)
        files.put(path.with_suffix(".md"), markdown(results).encode())
    print(path.with_suffix(".md"))


PARTS = ("size", "cores", "memory", "large", "poisson")


def measured(part: str, clips: Path) -> Any:
    """The figures of one part."""
    if part == "poisson":
        return poisson()
    if part == "cores":
        return cores(clips)
    return list({"size": sizes, "memory": memory, "large": large}[part](clips))


def markdown(results: dict[str, Any]) -> str:
    """Every part with the state of the machine it was measured in."""
    lines = ["# How propagation grows", ""]
    lines += ["`python -m experiments.bench.propagation.scale CLIPS --parts PART`", ""]
    for part in PARTS:
        if part in results:
            found = results[part]
            lines += [f"## {part}", "", f"{found['date']}, commit {found['commit']}; "]
            lines[-1] += f"load {found['load']:.1f} on {os.cpu_count()} cores, "
            lines[-1] += f"DIS medium {found['dis_medium_ms']:.1f} ms."
            lines += ["", "```", json.dumps(found["figures"], indent=1), "```", ""]
    return "\n".join(lines)


def clip(clips: Path, short_side: int = 288) -> MemoryVideo:
    """The interval of the case kool, enlarged."""
    frames = case("kool", "ident", clips).segment().video
    size = (short_side, short_side * 4 // 3)
    return MemoryVideo(
        [
            torch.nn.functional.interpolate(frames[i][None], size, mode="bilinear")[0]
            for i in range(INTERVAL + 1)
        ]
    )


def sizes(clips: Path) -> Iterator[dict[str, float]]:
    """Processor time for a pixel at growing sizes."""
    for side in SHORT_SIDES:
        video = clip(clips, side)
        segment = Segment(video, 1, INTERVAL, video.frame(0), video.frame(INTERVAL))
        for name in ("warp", "patchmatch"):
            part = choice(name)
            spent = measures.cpu_ms(lambda p=part, s=segment: list(p.fill(s, Dis())), 1, 9)  # type: ignore[misc]
            microseconds = 1000 * spent / (side * side * 4 / 3)
            yield {"short_side": side, "method": name, "ms": spent, "us_per_pixel": microseconds}  # type: ignore[dict-item]


def keys(video: Video) -> Iterator[Translation]:
    """Every tenth frame as its own translation."""
    for index in sorted({*range(0, len(video), INTERVAL), len(video) - 1}):
        yield Translation(KeyFrame(index, video[index]), Trace(image=video[index]))


def whole(video: Video, ahead: int, name: str = "patchmatch") -> None:
    """Propagate over a clip and drop the frames."""
    for image in propagate(video, keys(video), choice(name), Dis(), ahead=ahead):
        del image


def cores(clips: Path) -> dict[str, float]:
    """Best wall time of three runs over 41 frames on one core and on two. Means nothing where other
    work keeps the cores busy: see the load."""
    context = multiprocessing.get_context("spawn")
    found: dict[str, float] = {}
    for count in (1, 2):  # threads keep the cores they were started on: a process each
        with context.Pool(1) as pool:
            found[f"wall_s_{count}"] = pool.apply(walled, (clips, count))
    found["speed_up"] = found["wall_s_1"] / found["wall_s_2"]
    found["load"] = os.getloadavg()[0]
    return found


def walled(clips: Path, count: int) -> float:
    """Best wall time of three runs on so many cores, in seconds."""
    os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[:count])
    whole(Looped(clip(clips), 11), 2)
    video, walls = Looped(clip(clips), 41), []
    for _ in range(3):
        before = time.perf_counter()
        whole(video, ahead=2)
        walls.append(time.perf_counter() - before)
    return min(walls)


def memory(clips: Path) -> Iterator[dict[str, float]]:
    """Peak memory beyond what was held before, for clips of growing length."""
    context = multiprocessing.get_context("spawn")
    frames = np.stack(case("kool", "ident", clips).source)
    for length in LENGTHS:
        with context.Pool(1) as pool:
            yield pool.apply(peak, (frames, length))


def peak(frames: NDArray[np.uint8], length: int) -> dict[str, float]:
    """Peak memory of one clip in a fresh process, in MB, beyond what it held when all was imported
    and compiled."""
    torch.set_num_threads(1)
    video = Looped(MemoryVideo([tensor(frame) for frame in frames]), length)
    tiny = MemoryVideo([video[index][:, :16, :16] for index in range(3)])
    whole(tiny, ahead=1)
    before = high_water()
    whole(video, ahead=1)
    after = high_water()
    return {"frames": length, "mb_before": before, "mb_beyond": after - before}


def large(clips: Path) -> Iterator[dict[str, Any]]:
    """Peak memory of one interval of K = 10 in large frames."""
    context = multiprocessing.get_context("spawn")
    source = case("kool", "ident", clips).source
    for name, size in LARGE:
        frames = np.stack([cv2.resize(frame, size) for frame in source])
        with context.Pool(1) as pool:
            yield pool.apply(large_peak, (frames, name))


def large_peak(frames: NDArray[np.uint8], name: str) -> dict[str, Any]:
    """Peak memory of one method in a fresh process, in MB, beyond what it held when all was
    imported and compiled and the frames were there, 8 bits each."""
    torch.set_num_threads(1)
    tiny = MemoryVideo([tensor(frame[:16, :16]) for frame in frames[:3]])
    whole(tiny, ahead=1, name=name)
    before = high_water()
    whole(Unpacked(frames), ahead=1, name=name)
    size = [*frames.shape[2:0:-1]]
    return {"method": name, "size": size, "mb_beyond": high_water() - before}


class Unpacked(Video):
    """Frames ``[T,H,W,3]`` of 8 bits, BGR, each unpacked when it is read."""

    def __init__(self, frames: NDArray[np.uint8]) -> None:
        self._frames = frames

    @property
    def size(self) -> tuple[int, int]:
        height, width = self._frames.shape[1:3]
        return height, width

    @property
    def timestamps(self) -> Any:
        return range(len(self._frames))

    def __getitem__(self, index: int) -> torch.Tensor:
        return tensor(self._frames[index])


def high_water() -> float:
    """Peak resident memory of this process in MB; getrusage would tell the parent's."""
    status = Path("/proc/self/status").read_text()
    return int(status.partition("VmHWM:")[2].split()[0]) / 1024


def poisson() -> dict[str, float]:
    """The exact solver against LSQR on the same 384x288 plane, as the published code calls it."""
    height, width = 288, 384
    random = np.random.default_rng(0)
    smooth = cv2.GaussianBlur(random.normal(0, 40, (height, width)), (0, 0), 3)
    across, down = np.zeros_like(smooth), np.zeros_like(smooth)
    across[:, :-1], down[:-1] = np.diff(smooth, axis=1) * 1.5, np.diff(smooth, axis=0) * 1.5
    weight = 2.5

    def forward(n: int) -> csr_array:
        steps = diags_array([-np.ones(n), np.ones(n - 1)], offsets=[0, 1]).tolil()
        steps[-1] = 0
        return steps.tocsr()

    dx, dy = kron(eye_array(height), forward(width)), kron(forward(height), eye_array(width))
    system = vstack([weight * dx, weight * dy, eye_array(height * width)]).tocsr()
    right = np.concatenate([weight * across.ravel(), weight * down.ravel(), smooth.ravel()])
    exact = screened(smooth, across, down, weight)
    data, gx, gy = (plane.astype(np.float32) for plane in (smooth, across, down))
    answer = lsqr(system, right)[0].reshape(height, width)
    slow = measures.cpu_ms(lambda: lsqr(system, right), 3, 1)
    fast = measures.cpu_ms(lambda: screened(data, gx, gy, weight), 9, 1)
    return {
        "lsqr_ms": slow,
        "dct_ms": fast,
        "ratio": slow / fast,
        "lsqr_error": float(np.abs(answer - exact).max()),
        "float32_error": float(np.abs(screened(data, gx, gy, weight) - exact).max()),
    }


if __name__ == "__main__":
    main()
