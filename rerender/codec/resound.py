"""Sound decoded and encoded again as AAC, for codecs that an mp4 does not hold."""

from __future__ import annotations

from collections.abc import Iterator
from fractions import Fraction
from typing import Any

import av
import av.error
import numpy as np
import numpy.typing as npt

from rerender.codec.container import reason
from rerender.video import Video

AAC = "AAC"
_RATES = (96000, 88200, 64000, 48000, 44100, 32000, 24000, 22050, 16000, 12000, 11025, 8000, 7350)
_LAYOUTS = {1: "mono", 2: "stereo", 6: "5.1"}  # anything else is mixed to stereo
_BITS = 96_000  # per second and channel
_SLACK = Fraction(1, 20)  # times that are off by less than this many seconds are rounding

Samples = npt.NDArray[np.float32]


class Resound:
    """The sound of a stretch as AAC, in step with the frames.

    A rate that AAC does not know becomes 48 kHz; more than two channels that are not 5.1 are mixed
    to stereo. Packets that cannot be decoded are left out and counted.

    Attributes:
        problem: what of the sound is lost or reduced, in words, or None.
    """

    def __init__(self, source: Any, stream: Any, output: Any, video: Video) -> None:
        self._source, self._stream = source, stream
        self._start, self._length = video.timestamps[0], video.end - video.timestamps[0]
        context = stream.codec_context
        self._rate = context.sample_rate if context.sample_rate in _RATES else 48_000
        self._layout = _LAYOUTS.get(context.channels, "stereo")
        self._coder = output.add_stream("aac", rate=self._rate)
        self._coder.layout = self._layout
        self._coder.codec_context.bit_rate = _BITS * len(self._coder.layout.channels)
        self._coder.codec_context.options = {"flags": "+bitexact"}
        self._lost, self._end_of_reading = 0, ""
        self._mixed = "" if context.channels in _LAYOUTS else f"{context.channels} channels"

    @property
    def problem(self) -> str | None:
        said = [
            f"is mixed from {self._mixed} to stereo" if self._mixed else "",
            f"lacks {self._lost} packets that cannot be decoded" if self._lost else "",
            self._end_of_reading,
        ]
        return ", ".join(filter(None, said)) or None

    def packets(self) -> Iterator[tuple[Fraction, Any]]:
        """(seconds from the first frame on, packet)."""
        self._coder.codec_context.open()
        size = self._coder.codec_context.frame_size or 1024
        held, begin = np.zeros((len(self._coder.layout.channels), 0), np.float32), 0
        for place, samples in self._placed():
            if held.shape[1] and abs(place - begin - held.shape[1]) > _SLACK * self._rate:
                yield from self._encoded(_padded(held, size), begin)  # a gap: nothing is heard
                begin, held = begin + size, held[:, :0]
            if not held.shape[1]:
                # Never back in time, where packets overlap.
                begin, samples = max(begin, place), samples[:, max(begin - place, 0) :]
            held = np.concatenate([held, samples], 1)
            while held.shape[1] >= size:
                yield from self._encoded(held[:, :size], begin)
                begin, held = begin + size, held[:, size:]
        if held.shape[1]:
            yield from self._encoded(held, begin)
        for packet in self._coder.encode(None):
            yield Fraction(packet.pts, self._rate), packet

    def _encoded(self, samples: Samples, begin: int) -> Iterator[tuple[Fraction, Any]]:
        samples = np.ascontiguousarray(np.clip(np.nan_to_num(samples), -1, 1))
        frame = av.AudioFrame.from_ndarray(samples, format="fltp", layout=self._layout)
        frame.sample_rate, frame.time_base, frame.pts = self._rate, Fraction(1, self._rate), begin
        for packet in self._coder.encode(frame):
            yield Fraction(packet.pts, self._rate), packet

    def _placed(self) -> Iterator[tuple[int, Samples]]:
        """(number of the first sample from the first frame on, samples ``[channels, n]``)."""
        end = int(self._length * self._rate)
        place = 0  # where the next samples belong if they do not say
        for frame in self._converted():
            if frame.pts is not None and frame.time_base:
                place = round((frame.pts * frame.time_base - self._start) * self._rate)
            if place >= end:
                return
            samples = frame.to_ndarray()[:, max(-place, 0) : end - place]
            if samples.dtype == np.int16:
                samples = samples.astype(np.float32) / 2**15
            if samples.shape[1]:
                yield max(place, 0), samples
            place += frame.samples

    def _converted(self) -> Iterator[Any]:
        """Decoded sound at our rate and layout, as floating-point planes."""
        made: tuple[Any, ...] | None = None
        resampler: Any = None
        for frame in self._decoded():
            kind = (frame.format.name, frame.layout.name, frame.sample_rate)
            if kind != made:  # it may change on the way, as broadcasts do
                if resampler is not None:
                    yield from resampler.resample(None)
                made = kind
                # Whole numbers make FFmpeg mix channels without going beyond full scale.
                sample = "s16p" if self._mixed else "fltp"
                resampler = av.AudioResampler(sample, self._layout, self._rate)
            yield from resampler.resample(frame)
        if resampler is not None:
            yield from resampler.resample(None)

    def _decoded(self) -> Iterator[Any]:
        packets = self._source.demux(self._stream)
        while True:
            try:
                packet = next(packets, None)
            except av.error.FFmpegError as error:
                self._end_of_reading = f"cannot be read to its end ({reason(error)})"
                return
            if packet is None:
                return
            try:
                yield from packet.decode()
            except av.error.FFmpegError:
                self._lost += 1


def _padded(samples: Samples, size: int) -> Samples:
    return np.pad(samples, ((0, 0), (0, size - samples.shape[1])))
