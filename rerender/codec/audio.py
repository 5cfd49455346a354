"""The sound of a clip, copied packet by packet."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from fractions import Fraction
from typing import Any

import av
import av.error

from rerender.codec.container import open_container, reason
from rerender.errors import InputError
from rerender.video import Video


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


@contextmanager
def copy_sound(video: Video, output: Any) -> Iterator[Sound]:
    """The sound from the first frame of a video to its end, shifted so that it starts with it.

    Packets that reach into the stretch are taken whole; what sticks out before it is skipped by an
    edit list, as FFmpeg's own stream copy does.
    """
    if video.audio is None:
        yield Sound()
        return
    with open_container(video.audio) as source:
        stream = source.streams.best("audio")
        codec = stream.codec_context.name if stream and stream.codec_context else None
        if codec is None:
            yield Sound("none" if stream is None else "left out: an unknown codec")
        elif stream.codec_context.codec.canonical_name not in output.supported_codecs:
            yield Sound(f"left out: mp4 does not hold {codec}")
        else:
            yield _Copy(source, stream, output, video)


class _Copy(Sound):
    def __init__(self, source: Any, stream: Any, output: Any, video: Video) -> None:
        super().__init__("copied")
        self._output, self._path = output, video.audio
        self._stream = output.add_stream_from_template(stream)
        self._start, self._end = video.timestamps[0], video.end
        self._packets = self._wanted(source, stream)
        self._waiting = next(self._packets, None)

    def until(self, time: Fraction) -> None:
        while self._waiting is not None and self._begin(self._waiting) - self._start < time:
            self._send(self._waiting)
            self._waiting = next(self._packets, None)

    def finish(self) -> None:
        self.until(self._end)

    def _begin(self, packet: Any) -> Fraction:
        return Fraction(packet.pts * packet.time_base)

    def _send(self, packet: Any) -> None:
        shift = round(self._start / packet.time_base)
        packet.pts -= shift
        packet.dts = packet.pts
        packet.stream = self._stream
        self._output.mux(packet)

    def _wanted(self, source: Any, stream: Any) -> Iterator[Any]:
        try:
            for packet in source.demux(stream):
                if packet.pts is None or not packet.size:
                    continue
                begin = self._begin(packet)
                if begin >= self._end:
                    return
                if begin + (packet.duration or 0) * packet.time_base >= self._start:
                    yield packet
        except av.error.FFmpegError as error:
            problem = f"its sound cannot be read ({reason(error)})"
            raise InputError(self._path, problem, "copy or download it again") from error
