"""Which frame to paint next: for the page, as ``python -m rerender.propagate --suggest`` does."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from rerender.contracts import FlowEstimator
from rerender.data.pictures import Pictures
from rerender.keyframes._cuts import Changes
from rerender.keyframes._settling import suggested
from rerender.propagate_keys import CUT, composed, fitted, part
from rerender.studio.frames import opened
from rerender.video import Clip, Window

COUNT = 4  # frames that are suggested
_ONE = threading.Lock()  # it takes the whole machine for a while


def frames_to_paint(
    path: Path, keys: Sequence[Path], start: int, frames: int | None, told: Sequence[str]
) -> list[dict[str, Any]]:
    """The frames to paint next, the most useful first.

    Args:
        path: the clip.
        keys: pictures of the key frames there are, named by their frames in the stretch.
        start, frames: the stretch of the clip.
        told: settings of every run, of which those of the flow count.

    Returns:
        frame: its number in the stretch; gain: by how much the mean squared error of all frames
        falls, dB; first, last: the frames that it lies in; worst: root mean squared error of the
        frame explained worst before, levels.
    """
    settings = [each for each in told if each.partition("=")[0].partition(".")[0] == "flow"]
    flow = part(composed(settings, path), "flow", FlowEstimator)  # type: ignore[type-abstract]
    flow.check()
    source = opened(path)
    stop = len(source) if frames is None else min(start + frames, len(source))
    video = fitted(Window(source, start, stop), Pictures(tuple(keys), rate=1).size, keys[0].parent)
    with _ONE:
        cuts = Changes.of(video).cuts(*CUT)
        numbers = [int(key.stem) for key in keys]
        opened_flow = flow.open(Clip(path.stem, video, prompt=""))
        found = suggested(video, numbers, cuts, opened_flow, COUNT)
    return [
        {
            "frame": each.frame,
            "gain": round(each.gain, 2),
            "first": each.span.start,
            "last": each.span.stop - 1,
            "worst": round(each.worst, 2),
        }
        for each in found
    ]
