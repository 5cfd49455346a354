"""The sound of a clip: copied packet by packet, or brought to AAC where an mp4 does not take it.

What can be done is tried out on an mp4 that is kept nowhere, with every packet, so that it is known
before anything heavy starts; the same trial decides again when the video is written.
"""

from __future__ import annotations

import io
import logging
from collections.abc import Iterator
from contextlib import contextmanager
from fractions import Fraction
from typing import Any, BinaryIO

import av
import av.error

from rerender.codec.container import open_container, reason
from rerender.codec.resound import AAC, Resound
from rerender.video import Video

log = logging.getLogger(__name__)
_READ_BACK = 64  # packets that a trial reads again from what it wrote


class Sound:
    """Packets of sound waiting to be written between pictures; this one has none.

    Attributes:
        fate: what became of the sound.
    """

    def __init__(self, fate: str = "none") -> None:
        self.fate = fate

    def until(self, time: Fraction) -> None:
        """Write what is heard before ``time``, in seconds from the first frame."""

    def finish(self) -> None:
        """Write the rest."""


def check_sound(video: Video) -> str:
    """Find out what will become of the sound of a video, before anything heavy starts.

    Returns:
        The fate as `Sound` has it. Whatever is not copied is warned of in one line, as are second
        streams of sound.
    """
    if video.audio is None:
        return "none"
    with open_container(video.audio) as source:
        stream = source.streams.best("audio")
        others = [each for each in source.streams.audio if stream and each.index != stream.index]
        if stream and others:
            log.warning(
                "%s: has %d streams of sound; stream %s is kept, left out: %s",
                *(video.audio, len(others) + 1, _named(stream), ", ".join(map(_named, others))),
            )
    way, fate = _plan(video)
    _say(video, way, fate)
    return fate


@contextmanager
def copy_sound(video: Video, output: Any, kind: str = "mp4") -> Iterator[Sound]:
    """The sound from the first frame of a video to its end, shifted so that it starts with it.

    Packets that reach into the stretch are taken whole; what sticks out before it is skipped by an
    edit list, as FFmpeg's own stream copy does. Sound that the container does not take is decoded
    and encoded again; damage in it becomes silence, said in a warning.

    Args:
        video: the source.
        output: an open container.
        kind: FFmpeg's name of its format.
    """
    way, fate = _plan(video, kind)
    _say(video, way, fate)
    if way is None:
        yield Sound(fate)
        return
    with open_container(video.audio) as source:  # type: ignore[arg-type]  # a way needs a file
        sound = _Waiting(way(source, source.streams.best("audio"), output, video), output, fate)
        if kind == "matroska":  # without edit lists, a packet from before would delay all frames
            sound.skip_before(Fraction(0))
        yield sound


def sound_of(video: Video, file: BinaryIO) -> str:
    """Write the sound of a video alone, as an m4a; nothing where there is none that can be kept.

    Returns:
        Its fate as `Sound` has it.
    """
    way, fate = _plan(video)
    if way is not None:
        with (
            av.open(file, "w", format="mp4", options={"fflags": "+bitexact"}) as container,
            copy_sound(video, container) as sound,
        ):
            sound.finish()
    return fate


class _Waiting(Sound):
    """Packets that a way of keeping sound makes, in the order of their times."""

    def __init__(self, way: _Copy | Resound, output: Any, fate: str) -> None:
        super().__init__(fate)
        self._output, self._packets = output, way.packets()
        self._waiting = next(self._packets, None)

    def skip_before(self, time: Fraction) -> None:
        """Leave out packets that begin before ``time``."""
        while self._waiting is not None and self._waiting[0] < time:
            self._waiting = next(self._packets, None)

    def until(self, time: Fraction) -> None:
        while self._waiting is not None and self._waiting[0] < time:
            self._output.mux(self._waiting[1])
            self._waiting = next(self._packets, None)

    def finish(self) -> None:
        while self._waiting is not None:
            self._output.mux(self._waiting[1])
            self._waiting = next(self._packets, None)


class _Copy:
    """The packets as they are.

    Attributes:
        problem: where they end before the video does because no more can be read, or None.
    """

    def __init__(self, source: Any, stream: Any, output: Any, video: Video) -> None:
        self._source, self._stream = source, stream
        self._copy = output.add_stream_from_template(stream)
        self._start, self._end = video.timestamps[0], video.end
        self.problem: str | None = None

    def packets(self) -> Iterator[tuple[Fraction, Any]]:
        """(seconds from the first frame on, packet)."""
        reached = Fraction(0)
        try:
            for packet in self._source.demux(self._stream):
                if not packet.size:
                    continue
                if packet.pts is None:  # then it follows the one before it
                    packet.pts = (
                        round(reached / packet.time_base) if packet.dts is None else packet.dts
                    )
                begin = Fraction(packet.pts * packet.time_base)
                reached = begin + (packet.duration or 0) * packet.time_base
                if begin >= self._end:
                    return
                if reached >= self._start:
                    packet.pts -= round(self._start / packet.time_base)
                    packet.dts = packet.pts
                    packet.stream = self._copy
                    yield begin - self._start, packet
        except av.error.FFmpegError as error:
            self.problem = f"cannot be read beyond {float(reached):.2f} s ({reason(error)})"


def _plan(video: Video, kind: str = "mp4") -> tuple[type[_Copy] | type[Resound] | None, str]:
    """How the sound of a video is kept (None: it is not), and its fate in words."""
    if video.audio is None:
        return None, "none"
    with open_container(video.audio) as source:
        stream = source.streams.best("audio")
        if stream is None:
            return None, "none"
        if stream.codec_context is None:
            return None, "left out: an unknown codec"
        name = stream.codec_context.name
        holds = stream.codec_context.codec.canonical_name in _supported(kind)
    refusal, cut = _trial(_Copy, video, kind) if holds else (f"{kind} does not hold {name}", None)
    if refusal is None:
        return _Copy, "copied" if cut is None else f"copied: it {cut}"
    problem, cut = _trial(Resound, video, kind)
    if problem is not None:
        return None, f"left out: {refusal}, and as {AAC} {problem}"
    return Resound, f"transcoded to {AAC}: {refusal}" + (f"; it {cut}" if cut else "")


def _say(video: Video, way: Any, fate: str) -> None:
    if fate not in ("none", "copied"):
        log.warning("%s: its sound is %s", video.audio, fate)


def _supported(kind: str) -> set[str]:
    with av.open(io.BytesIO(), "w", format=kind) as container:
        return set(container.supported_codecs)


def _trial(
    way: type[_Copy] | type[Resound], video: Video, kind: str
) -> tuple[str | None, str | None]:
    """(why a container does not take the sound in this way, what of it is lost), None where not so.

    The first packets are read again from what was written; what comes after is written to nowhere.
    """
    for file, most in ((io.BytesIO(), _READ_BACK), (_Nowhere(), None)):
        with open_container(video.audio) as source:  # type: ignore[arg-type]
            stream = source.streams.best("audio")
            name = stream.codec_context.name
            try:
                with av.open(file, "w", format=kind) as output:
                    tried = way(source, stream, output, video)
                    count = 0
                    for count, (_, packet) in enumerate(tried.packets(), 1):
                        output.mux(packet)
                        if count == most:
                            break
                if isinstance(file, io.BytesIO) and count and not _plays(file):
                    return f"{kind} gives no {name} back", None
            # PyAV says in many ways that it cannot: errors of FFmpeg, of values and of lookups.
            except (av.error.FFmpegError, ValueError, LookupError, TypeError) as error:
                return f"{kind} does not take this {name} ({reason(error)})", None
    return None, tried.problem


def _plays(file: io.BytesIO) -> bool:
    """Whether some sound can be decoded from an mp4 in memory."""
    file.seek(0)
    with av.open(file) as container:
        for packet in container.demux(container.streams.audio[0]):
            try:
                if packet.decode():
                    return True
            except av.error.FFmpegError:
                continue  # the source may be damaged there
    return False


def _named(stream: Any) -> str:
    """A stream of sound in words: its number, codec and language."""
    context = stream.codec_context
    words = [context.name if context else "unknown codec", stream.language]
    return f"{stream.index} ({', '.join(word for word in words if word)})"


class _Nowhere(io.RawIOBase):
    """A file that forgets what is written to it."""

    def __init__(self) -> None:
        self._place = 0

    def writable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._place

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        assert whence == io.SEEK_SET  # all that a muxer does
        self._place = offset
        return offset

    def write(self, data: Any) -> int:
        size = len(data)
        self._place += size
        return size
