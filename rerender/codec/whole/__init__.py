"""Whether a file is whole, by the structure of its container alone: sizes, counts, checksums.

Decoders forgive: a reader of FFmpeg skips what it cannot follow and ends where the file ends. What
a container says of itself is held against it here: that boxes end within the file and begin where
others end, that counters count and checksums fit, that what closes a file is there.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from rerender.codec.whole.chunks import inspect_asf, inspect_avi, inspect_mp4
from rerender.codec.whole.ebml import inspect_ebml, summed_ebml
from rerender.codec.whole.gif import inspect_gif
from rerender.codec.whole.pages import inspect_flv, inspect_ogg, inspect_ps, inspect_ts
from rerender.codec.whole.report import Bytes, DamageError, Whole

__all__ = ["Whole", "inspect"]

_BY_FORMAT: dict[str, Callable[[Bytes], bool]] = {
    "mov,mp4,m4a,3gp,3g2,mj2": inspect_mp4,
    "matroska,webm": inspect_ebml,
    "avi": inspect_avi,
    "mpegts": inspect_ts,
    "mpeg": inspect_ps,
    "flv": inspect_flv,
    "asf": inspect_asf,
    "ogg": inspect_ogg,
    "gif": inspect_gif,
}


def inspect(path: Path, kind: str) -> Whole:
    """Walk the structure of a file.

    Args:
        path: the file.
        kind: FFmpeg's name of its format, one of ``rerender.codec.container.CONTAINERS``.
    """
    with path.open("rb") as file:
        try:
            data = Bytes(file)
            known = _BY_FORMAT[kind](data)
            summed = kind == "ogg" or (kind == "matroska,webm" and summed_ebml(data))
            return Whole(None, known, summed)
        except DamageError as damage:
            return Whole(str(damage), True)
