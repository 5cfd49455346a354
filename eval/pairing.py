"""Which frame of a result stands for which frame of its source.

As many frames are paired one by one. Where the counts differ, a video file says by its times which
frames it has, and pictures by their numbers; what neither says is not guessed.
"""

from __future__ import annotations

import bisect
from dataclasses import dataclass

from eval.contracts import UnavailableError
from eval.results import OFFSET
from rerender.data.pictures import Pictures
from rerender.video import Video

_CURE = f"write the number of the source's frame that its first one stands for to {OFFSET}"


@dataclass(frozen=True)
class Pairing:
    """Frames that show the same moment.

    Attributes:
        pairs: (frame of the source, frame of the result), increasing in both.
        remark: what a reader of the values must know; "" where all frames are paired one by one.
    """

    pairs: tuple[tuple[int, int], ...]
    remark: str = ""


def pair(source: Video, result: Video, offset: int | None = None) -> Pairing:
    """The frames of two videos that belong together.

    Args:
        source: the source video.
        result: what was made of it.
        offset: the source's frame that the result's first frame stands for, and so on from there;
            None finds out.

    Raises:
        UnavailableError: it cannot be known which frames a result of another length has.
    """
    wanted, found = len(source), len(result)
    if offset is not None:
        pairs = [(j + offset, j) for j in range(found) if j + offset < wanted]
        how = f"from frame {offset} on, as its {OFFSET} says"
    elif wanted == found:
        return Pairing(tuple((i, i) for i in range(wanted)))
    elif isinstance(result, Pictures):
        pairs, how = _by_number(wanted, result), "paired by number"
    else:
        pairs, how = _by_time(source, result), "paired by time"
    if not pairs:
        raise UnavailableError("no frame of the result is one of the source")
    if offset == 0 and wanted == found:
        return Pairing(tuple(pairs))
    return Pairing(tuple(pairs), f"{len(pairs)} of {wanted} frames, {how}")


def _by_number(wanted: int, result: Pictures) -> list[tuple[int, int]]:
    """Pictures say their frame in their names, counted from 0 or from 1; which one is clear where
    there is a frame 0, or where the last number is that of the last frame counted from 1."""
    numbers = result.numbers
    several = f"{len(result)} pictures, the source has {wanted} frames"
    if numbers is None:
        raise UnavailableError(f"{several}, and their names hold no frame numbers ({_CURE})")
    first, last = numbers[0], numbers[-1]
    if first == 0 and last < wanted:
        base = 0
    elif first >= 1 and last == wanted:
        base = 1
    else:
        problem = f"numbered {first} to {last}, which may be counted from 0 or from 1"
        raise UnavailableError(f"{several}, {problem} ({_CURE})")
    return [(number - base, place) for place, number in enumerate(numbers)]


def _by_time(source: Video, result: Video) -> list[tuple[int, int]]:
    """Each frame of the result with the source's frame nearest in time, both counted from their
    first frames; of several with the same one the nearest. A video that does not last as long shows
    something else at these times, or nobody knows what."""
    times, others = _times(source), _times(result)
    steps = [_length(video) / len(video) for video in (source, result)]
    if abs(_length(source) - _length(result)) > max(steps) * 1.01:
        problem = (
            f"{len(result)} frames in {_length(result):.3g} s, the source has {len(source)} in "
            f"{_length(source):.3g} s: which ones they are is not known"
        )
        raise UnavailableError(f"{problem} ({_CURE})")
    nearest: dict[int, tuple[float, int]] = {}
    for j, time in enumerate(others):
        place = bisect.bisect_left(times, time)
        around = [i for i in (place - 1, place) if 0 <= i < len(times)]
        i = min(around, key=lambda i: abs(times[i] - time))
        gap = abs(times[i] - time)
        if gap <= steps[0] / 2 * 1.01 and gap < nearest.get(i, (float("inf"), 0))[0]:
            nearest[i] = gap, j
    return [(i, nearest[i][1]) for i in sorted(nearest)]


def _times(video: Video) -> list[float]:
    return [float(stamp - video.timestamps[0]) for stamp in video.timestamps]


def _length(video: Video) -> float:
    return float(video.end - video.timestamps[0])
