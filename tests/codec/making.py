"""Small video files of every kind, made on the spot."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
import numpy.typing as npt


def picture(index: int, size: tuple[int, int] = (48, 64)) -> npt.NDArray[np.uint8]:
    """``[H,W,3]``: smooth colours that move, and the index as a bright bar."""
    y, x = np.mgrid[: size[0], : size[1]] / max(size)
    waves = [np.sin(4 * (x + k * y) + 0.3 * index + k) for k in range(3)]
    image = np.stack(waves, -1) * 60 + 128
    image[:6, : 4 + index] = 230
    return image.astype(np.uint8)


def pictures(count: int, size: tuple[int, int] = (48, 64)) -> list[npt.NDArray[np.uint8]]:
    return [picture(index, size) for index in range(count)]


@contextmanager
def same_scheduling() -> Iterator[None]:
    """The thread is scheduled as before. For root, SVT-AV1 makes the thread that opens it a
    real-time one, which takes the processor from everything else for as long as it computes."""
    if not hasattr(os, "sched_getscheduler"):
        yield
        return
    before = os.sched_getscheduler(0), os.sched_getparam(0)
    try:
        yield
    finally:
        os.sched_setscheduler(0, *before)


def make(
    path: Path,
    images: Sequence[npt.NDArray[Any]],
    times: Sequence[Fraction] | None = None,
    codec: str = "libx264",
    pix_fmt: str = "yuv420p",
    matrix: int = 1,
    full: bool = False,
    options: dict[str, str] | None = None,
    **more: Any,
) -> Path:
    """Write RGB images ``[H,W,3]`` (8 or 16 bits), or planes as they are (``planes=True``).

    Further arguments: ``rotation`` (degrees), ``hflip``, ``sar``, ``untagged``, ``primaries``,
    ``transfer``, ``sound`` (seconds of a tone), ``muxing`` (container options), ``planes``,
    ``unit`` (seconds per tick).
    """
    times = times or [Fraction(i, 25) for i in range(len(images))]
    unit = more.get("unit", Fraction(1, 90_000))
    height, width = images[0].shape[:2]
    if more.get("planes") and "420" in pix_fmt:
        height = height * 2 // 3
    muxing = more.get("muxing", {})
    with same_scheduling(), av.open(str(path), "w", options=muxing) as container:
        stream = container.add_stream(codec, rate=25)
        stream.width, stream.height, stream.pix_fmt = width, height, pix_fmt
        context = stream.codec_context
        context.options = {"crf": "4", "g": "12", **(options or {})} if "264" in codec else {}
        context.time_base, context.thread_count = unit, 1  # same bytes every time
        if not more.get("untagged"):
            context.colorspace = matrix
            context.color_primaries = more.get("primaries", matrix)
            context.color_trc = more.get("transfer", matrix)
            context.color_range = 2 if full else 1
        if "sar" in more:
            context.sample_aspect_ratio = more["sar"]
        if "rotation" in more:
            stream.set_display_rotation(more["rotation"], hflip=more.get("hflip", False))
        if "sound" in more:
            sound = container.add_stream(more.get("sound_codec", "aac"), rate=16_000)
            sound.layout = "mono"
        for image, time in zip(images, times, strict=True):
            frame = _frame(image, pix_fmt, matrix, full, bool(more.get("planes")))
            frame.time_base, frame.pts = unit, int(time / unit)
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
        if "sound" in more:
            _tone(container, sound, more["sound"])
    return path


def _frame(image: npt.NDArray[Any], pix_fmt: str, matrix: int, full: bool, planes: bool) -> Any:
    if planes:
        return av.VideoFrame.from_ndarray(image, format=pix_fmt)
    kind = "rgb24" if image.dtype == np.uint8 else "rgb48le"
    return av.VideoFrame.from_ndarray(image, format=kind).reformat(
        format=pix_fmt,
        src_colorspace=matrix,
        dst_colorspace=matrix,
        src_color_range=2,
        dst_color_range=2 if full else 1,
    )


def _tone(container: Any, stream: Any, seconds: float) -> None:
    count = int(seconds * 16_000)
    wave = (np.sin(np.arange(count) / 16_000 * 440 * 2 * np.pi) * 8000).astype(np.int16)
    for start in range(0, count, 1024):
        part = wave[None, start : start + 1024]
        frame = av.AudioFrame.from_ndarray(np.ascontiguousarray(part), format="s16", layout="mono")
        frame.sample_rate, frame.pts, frame.time_base = 16_000, start, Fraction(1, 16_000)
        container.mux(stream.encode(frame))
    container.mux(stream.encode(None))


def packets(path: Path, kind: str) -> list[tuple[Fraction, bytes]]:
    """(time, bytes) of every packet of the first stream of a kind."""
    with av.open(str(path)) as container:
        found = [p for p in container.demux(**{kind: 0}) if p.pts is not None and p.size]
        return [(p.pts * p.time_base, bytes(p)) for p in found]
