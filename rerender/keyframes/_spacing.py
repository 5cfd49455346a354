"""Key frames inside one shot; the first and the last frame are always among them."""

from __future__ import annotations

from collections.abc import Iterable, Sequence


def every(interval: int, shot: range) -> list[int]:
    """Every ``interval``-th frame of a shot, and its last."""
    return with_ends(shot[::interval], shot)


def with_ends(indices: Iterable[int], shot: range) -> list[int]:
    """The indices that lie in a shot, increasing, with its first and last frame."""
    return sorted({shot[0], shot[-1], *(index for index in indices if index in shot)})


def by_change(
    change: Sequence[float], amount: float, gaps: tuple[int, int], shot: range
) -> list[int]:
    """A key frame wherever the picture has changed by an amount since the last one.

    Args:
        change: change of every frame of the video from the one before it.
        amount: sum of changes that calls for a key frame.
        gaps: least and most frames between key frames; the last gap of a shot may be less.
        shot: the frames.
    """
    least, most = gaps
    keys, changed = [shot[0]], 0.0
    for index in shot[1:]:
        changed += float(change[index])
        gap = index - keys[-1]
        if gap >= most or (gap >= least and changed >= amount):
            keys.append(index)
            changed = 0.0
    return with_ends(keys, shot)
