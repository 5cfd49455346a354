"""What frames a container claims to hold, found by reading packets without decoding them."""

from __future__ import annotations

import struct
from bisect import bisect_left
from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction
from itertools import pairwise
from pathlib import Path
from typing import Any, NamedTuple

import av
import av.error

from rerender.codec.container import MAX_PIXELS
from rerender.errors import InputError

# These hide frames in packets that are never shown, so that packets do not count frames.
_HIDDEN_FRAMES = ("vp8",)
_STRICT = {"vp8": "libvpx", "vp9": "libvpx-vp9"}
_PLAIN = ("yuv420p", "yuva420p")  # what every build of libvpx decodes
_SLACK = Fraction(1, 2)  # a duration in a header is this exact, in seconds


class Key(NamedTuple):
    """A frame that decoding can start from."""

    pts: int
    seek: int


@dataclass(frozen=True)
class Index:
    """The frames of a stream in display order.

    Attributes:
        pts: presentation times in units of ``unit``, strictly increasing.
        keys: where decoding can start, increasing; the first is the start of the file.
        unit: seconds per tick.
        end: when the last frame stops being shown, in ticks.
        missing: how many frames the container promises beyond these.
        exact: whether packets carry these times; otherwise decoded frames are counted.
        leading: how many frames before these hang on a key frame that was cut off.
        hidden: how many frames an edit list leaves out.
    """

    pts: tuple[int, ...]
    keys: tuple[Key, ...]
    unit: Fraction
    end: int
    missing: int
    exact: bool = True
    leading: int = 0
    hidden: int = 0


def video_stream(container: Any, path: Path) -> Any:
    """The moving picture of a container (cover art and thumbnails do not count).

    Of several it is the one marked as the default, of those the largest, of those the first.

    Raises:
        InputError: there is none, no decoder knows it, or it claims more pixels than are read.
    """
    streams = _moving(container)
    if not streams:
        raise InputError(path, "has no moving picture (sound or cover art only)", "give a video")
    stream = max(streams, key=_precedence)
    if stream.codec_context is None:
        raise InputError(path, "is coded in a way no decoder here knows", "convert it to H.264")
    width, height = stream.codec_context.width, stream.codec_context.height
    if container.format.name == "gif":  # whose decoder says nothing of a size that it refuses
        with path.open("rb") as file:
            width, height = struct.unpack("<HH", file.read(10)[6:])
    if width * height > MAX_PIXELS:
        problem = f"has frames of {width}x{height} pixels, 8K is the most that is read"
        raise InputError(path, problem, "scale it down first")
    stream.thread_type = "AUTO"
    # PyAV keeps a container's options from decoders. To explode is not for them: after a seek into
    # an open group of pictures H.264 refers to frames that are not there, and rightly goes on.
    stream.codec_context.options = {"max_pixels": str(MAX_PIXELS)}
    return stream


def other_streams(container: Any, taken: Any) -> str | None:
    """Which stream of picture is taken and which are not, in words; None where there is one."""
    others = [stream for stream in _moving(container) if stream.index != taken.index]
    if not others:
        return None
    left_out = ", ".join(map(_named, others))
    return f"has {len(others) + 1} pictures; stream {_named(taken)} is read, not {left_out}"


def _moving(container: Any) -> list[Any]:
    still = av.stream.Disposition.attached_pic | av.stream.Disposition.timed_thumbnails
    return [stream for stream in container.streams.video if not stream.disposition & still]


def _precedence(stream: Any) -> tuple[bool, bool, int]:
    context = stream.codec_context
    default = bool(stream.disposition & av.stream.Disposition.default)
    return context is not None, default, context.width * context.height if context else 0


def _named(stream: Any) -> str:
    context = stream.codec_context
    words = f"{context.name}, {context.width}x{context.height}" if context else "unknown codec"
    return f"{stream.index} ({words})"


def scan(container: Any, stream: Any, path: Path) -> Index:
    """Index a freshly opened container.

    Raises:
        InputError: it holds no frames, or frames without usable times.
    """
    packets, reached = _packets(container, stream)
    shown = [p for p in packets if p.shown]
    if container.format.name == "avi" and stream.codec_context.has_b_frames:
        return _by_counting(container, packets, stream, path)
    if stream.codec_context.name in _HIDDEN_FRAMES or any(p.pts is None for p in shown):
        return _by_decoding(container, stream, path, _before_key(packets))
    pts = sorted(p.pts for p in shown if p.pts is not None)
    keys = tuple(sorted(Key(p.pts, p.seek) for p in packets if p.key and p.pts is not None))
    leading = bisect_left(pts, keys[0].pts) if keys else 0
    pts = pts[leading:]
    _require_order(pts, path)
    step = (pts[-1] - pts[0]) // max(len(pts) - 1, 1)
    end = max(pts[-1] + 1, max((p.pts or 0) + p.duration for p in shown))
    if promised := _promised(container, stream, packets):
        missing = max(promised - len(packets), 0)
    else:
        missing = _missing_by_time(container, reached, Fraction(step) * stream.time_base)
    keys = keys or (Key(pts[0], pts[0]),)
    hidden = len(packets) - len(shown)  # decoded for those after them, or beyond the list's end
    hidden += max(stream.frames - promised, 0) if "mp4" in container.format.name else 0
    return Index(tuple(pts), keys, stream.time_base, end, missing, leading=leading, hidden=hidden)


class _Packet(NamedTuple):
    pts: int | None
    seek: int
    duration: int
    key: bool
    shown: bool


def _packets(container: Any, stream: Any) -> tuple[list[_Packet], Fraction]:
    """The whole packets of a stream, and the time that any stream reaches."""
    found, reached = [], Fraction(0)
    for packet in _demux(container):
        start = packet.dts if packet.pts is None else packet.pts
        if start is not None and packet.time_base:
            reached = max(reached, (start + (packet.duration or 0)) * packet.time_base)
        if packet.stream_index != stream.index or not packet.size or packet.is_corrupt:
            continue
        seek = packet.dts if packet.dts is not None else (packet.pts or 0)
        duration = packet.duration or 0
        shown = not packet.is_discard
        found.append(_Packet(packet.pts, seek, duration, packet.is_keyframe, shown))
    return found, reached


def _demux(container: Any) -> Iterator[Any]:
    try:
        yield from container.demux()
    except av.error.FFmpegError:
        return  # the file ends here; what is missing is counted by the caller


def _missing_by_time(container: Any, reached: Fraction, step: Fraction) -> int:
    """Frames between the time that was reached and the duration the header gives, if any."""
    if container.duration is None or step <= 0:
        return 0
    start = Fraction(container.start_time or 0, av.time_base)
    lack = Fraction(container.duration, av.time_base) + start - reached
    return int(lack / step) if lack > max(_SLACK, 2 * step) else 0


def _by_counting(container: Any, packets: list[_Packet], stream: Any, path: Path) -> Index:
    """An AVI stores no presentation times: its frames follow each other at its fixed rate."""
    leading = _before_key(packets)
    pts = tuple(sorted(p.seek for p in packets[leading:]))
    _require_order(list(pts), path)
    missing = max(_promised(container, stream, packets) - len(packets), 0)
    key, end = Key(pts[0], pts[0]), pts[-1] + 1
    return Index(pts, (key,), stream.time_base, end, missing, exact=False, leading=leading)


def _promised(container: Any, stream: Any, packets: list[_Packet]) -> int:
    """How many packets of a stream its container promises to give; 0 where it does not say.

    A count in a header is not that: an AVI counts empty chunks where frames were dropped, an mp4
    samples that its edit list leaves out.
    """
    if container.format.name == "avi" and packets:
        empty = max(p.seek for p in packets) + 1 - len(packets)
        return max(int(stream.frames) - max(empty, 0), 0)
    if "mp4" in container.format.name:
        return sum(entry.size > 0 for entry in stream.index_entries)
    return int(stream.frames)


def _before_key(packets: list[_Packet]) -> int:
    """How many packets come before the first key frame; 0 where a container marks none."""
    return next((number for number, packet in enumerate(packets) if packet.key), 0)


def strict_decoder(stream: Any) -> Any:
    """A fresh decoder that notices the most damage, for a stream that `decoded` is to read.

    FFmpeg's own decoders of VP8 and VP9 hardly ever notice any; those of libvpx refuse a frame
    whose data ends too early, and read alpha.
    """
    name = _STRICT.get(stream.codec_context.name)
    if name not in av.codecs_available or stream.codec_context.pix_fmt not in _PLAIN:
        return stream.codec_context
    decoder = av.CodecContext.create(name, "r")
    decoder.extradata = stream.codec_context.extradata
    decoder.options = {"max_pixels": str(MAX_PIXELS)}
    return decoder


def has_alpha_beside(stream: Any) -> bool:
    """Whether alpha lies beside each frame, as in WebM: only libvpx's decoders read that."""
    return stream.metadata.get("alpha_mode") == "1" and stream.codec_context.name in _STRICT


def decoded(container: Any, stream: Any, decoder: Any, leading: int) -> Iterator[Any]:
    """Frames of a freshly opened container, without packets that come before the first key frame.

    Args:
        container: where packets come from.
        stream: which to decode.
        decoder: what decodes its packets.
        leading: whether there are such packets.
    """
    begun = not leading
    for packet in container.demux(stream):
        begun = begun or packet.is_keyframe
        if begun:
            yield from decoder.decode(packet if packet.size else None)


def _by_decoding(container: Any, stream: Any, path: Path, leading: int) -> Index:
    pts, length = [], 0
    try:
        container.seek(0)
        for frame in decoded(container, stream, stream.codec_context, leading):
            pts.append(frame.dts if frame.pts is None else frame.pts)
            length = frame.duration or length
    except av.error.FFmpegError:
        pass  # the strict pass over the frames asked for names the place
    _require_order(pts, path)
    promised = max(stream.frames - len(pts), 0) if stream.codec_context.name != "vp8" else 0
    end = pts[-1] + max(length, 1)
    key = Key(pts[0], pts[0])
    return Index(tuple(pts), (key,), stream.time_base, end, promised, exact=False, leading=leading)


def _require_order(pts: list[int], path: Path) -> None:
    cure = "convert it first: ffmpeg -i FILE -fps_mode passthrough -c:v libx264 NEW.mp4"
    if not pts:
        raise InputError(path, "holds no frame that can be decoded", "copy or download it again")
    if any(time is None for time in pts):
        raise InputError(path, "has frames without a time", cure)
    for index, (before, after) in enumerate(pairwise(pts), 1):
        if after <= before:
            raise InputError(path, f"frame {index} is not later than the one before it", cure)
