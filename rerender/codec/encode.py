"""Frames to an H.264 file that every player shows in the right colours, at the source's times."""

from __future__ import annotations

import logging
import math
from collections.abc import Iterable
from contextlib import ExitStack
from dataclasses import dataclass
from fractions import Fraction
from itertools import pairwise
from typing import Any, BinaryIO, TypeAlias

import av
import av.error
import numpy as np
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from rerender.codec.audio import Sound, copy_sound
from rerender.codec.color import to_yuv420
from rerender.errors import ConfigError, InputError
from rerender.fitting import to_output
from rerender.video import Video

log = logging.getLogger(__name__)
_BT709, _LIMITED = 1, 1  # H.273 numbers of matrix, primaries, transfer; FFmpeg's of the range
_MAX_TICKS = 2**31 - 1  # an mp4 counts ticks per second, and those of a frame, in 32 bits
_FEWEST_TICKS = 10_000  # per second, to which FFmpeg doubles them
_KEY_EVERY = 50

Planes: TypeAlias = NDArray[np.uint8]


@dataclass(frozen=True)
class Encoded:
    """What was written.

    Attributes:
        frames: number of frames.
        size: (height, width) of the file's frames.
        padding: (rows below, columns right) repeated to make both sides even.
        audio: "none", "copied", "transcoded to AAC: …" or "left out: …" with the reason.
    """

    frames: int
    size: tuple[int, int]
    padding: tuple[int, int]
    audio: str


def encode(frames: Iterable[Tensor], video: Video, file: BinaryIO, crf: int = 17) -> Encoded:
    """Write all frames of an mp4 (see `Encoder`)."""
    with Encoder(video, file, crf) as encoder:
        for index, image in enumerate(frames):
            encoder.write(planes(image, video, index))
    return encoder.encoded


def planes(image: Tensor, video: Video, index: int = 0) -> Planes:
    """A frame as the encoder takes it: Y, U and V of BT.709 in 4:2:0 below each other.

    Args:
        image: ``[3,H,W]`` of the video's ``size``; it is brought to its ``output_size``. Values
            outside 0..1 are clipped, odd sides are padded to even ones by repeating the last row or
            column.
        video: the source.
        index: number of the frame, for messages.

    Returns:
        ``[3/2 H, W]`` in 8 bits, H and W even.

    Raises:
        ValueError: the size of the frame is wrong, or it holds NaN or infinity.
    """
    _check(index, image, video)
    image = to_output(image, video)
    bottom, right = image.shape[1] % 2, image.shape[2] % 2
    if bottom or right:
        image = F.pad(image[None].float(), (0, right, 0, bottom), mode="replicate")[0]
    return to_yuv420(image)


class Encoder:
    """Writes an mp4, a frame at a time: H.264 4:2:0, converted to BT.709 and tagged so, constant
    memory. A context manager: the file is whole when it is left without an error.

    Frame ``i`` is shown from ``video.timestamps[i] - video.timestamps[0]`` on, exactly; the sound
    of that stretch of the source is copied without re-encoding where an mp4 takes it, else brought
    to AAC, else left out, with a warning. Same frames, same bytes.

    Args:
        video: the source of times and sound; as many frames are to be written as it has.
        file: a seekable binary file to write to.
        crf: constant rate factor of x264, 0 (lossless) to 51.

    Attributes:
        encoded: what was written, when it is whole.

    Raises:
        ConfigError: ``crf`` is out of range.
        InputError: the source's times do not fit into an mp4.
        ValueError: the number of frames is wrong.
    """

    encoded: Encoded

    def __init__(self, video: Video, file: BinaryIO, crf: int = 17) -> None:
        if not 0 <= crf <= 51:
            raise ConfigError("crf", f"a rate factor is 0 to 51, received {crf}", "try 17")
        self._video, self._file, self._crf = video, file, crf
        self._ticks = _ticks(video)
        self._open = ExitStack()

    def __enter__(self) -> Encoder:
        return self

    def write(self, picture: Planes) -> None:
        """Add the next frame, as `planes` makes it."""
        done, count = self._ticks.done, len(self._video)
        if done == count:
            raise ValueError(f"more than {count} frames came, as many as the source has")
        if not done:
            self._begin((picture.shape[0] * 2 // 3, picture.shape[1]))
        _write(self._container, self._stream, self._sound, picture, self._ticks)

    def _begin(self, size: tuple[int, int]) -> None:
        padding = (self._video.output_size[0] % 2, self._video.output_size[1] % 2)
        if any(padding):
            log.warning(
                "output: H.264 in 4:2:0 has even sides; %dx%d becomes %dx%d, its last row or "
                "column repeated",
                *self._video.output_size[::-1],
                *size[::-1],
            )
        # "bitexact" keeps version and date out of the file.
        options = {"fflags": "+bitexact"}
        container = av.open(self._file, "w", format="mp4", options=options)
        self._container: Any = self._open.enter_context(container)
        self._stream = _stream(self._container, size, self._ticks, self._crf)
        self._sound = self._open.enter_context(copy_sound(self._video, self._container))
        self._size, self._padding = size, padding

    def __exit__(self, *error: Any) -> bool | None:
        if error[0] is not None:
            return self._open.__exit__(*error)
        with self._open:
            done, count = self._ticks.done, len(self._video)
            if done < count:
                raise ValueError(f"only {done} frames came, the source has {count}")
            _mux(self._container, self._sound, self._stream.encode(None), self._ticks)
            self._sound.finish()
        self.encoded = Encoded(count, self._size, self._padding, self._sound.fate)
        return None


@dataclass
class _Ticks:
    """Times of frames in ticks from the first frame on, with the end of the last; a cursor."""

    times: tuple[int, ...]
    unit: Fraction
    done: int = 0

    def duration(self, time: int) -> int:
        """How long the frame shown at ``time`` stays."""
        place = self.times.index(time)
        return self.times[place + 1] - time


def _ticks(video: Video) -> _Ticks:
    start = video.timestamps[0]
    times = [time - start for time in (*video.timestamps, video.end)]
    rate = math.lcm(*(time.denominator for time in times))
    if rate > _MAX_TICKS:
        problem = f"its frame times need {rate} ticks per second, an mp4 holds {_MAX_TICKS}"
        raise InputError("video", problem, "convert the source to a constant frame rate")
    longest = max(after - before for before, after in pairwise(times))
    if longest * rate * 2 ** max(math.ceil(math.log2(_FEWEST_TICKS / rate)), 0) > _MAX_TICKS:
        problem = (
            f"a frame of it stays for {float(longest) / 3600:.1f} hours, longer than an mp4 can say"
        )
        raise InputError("video", problem, "correct its frame rate: ffmpeg -r 25 -i FILE NEW.mp4")
    return _Ticks(tuple(int(time * rate) for time in times), Fraction(1, rate))


def frame_times(video: Video) -> tuple[Fraction, tuple[int, ...]]:
    """(seconds of a tick, times of frames in ticks from the first on, the end of the last too).

    Raises:
        InputError: they need more ticks per second than a file can count.
    """
    ticks = _ticks(video)
    return ticks.unit, ticks.times


def _check(index: int, image: Tensor, video: Video) -> None:
    if image.shape[0] != 3 or tuple(image.shape[1:]) not in (video.size, video.output_size):
        raise ValueError(f"frame {index} is {list(image.shape)}, the video {list(video.size)}")
    if not bool(image.isfinite().all()):
        raise ValueError(f"frame {index} holds NaN or infinity")


def _stream(container: Any, size: tuple[int, int], ticks: _Ticks, crf: int) -> Any:
    span = ticks.times[-1] * ticks.unit
    rate = Fraction(len(ticks.times) - 1) / span
    stream = container.add_stream("libx264", rate=rate.limit_denominator(1001))
    stream.height, stream.width = size
    stream.pix_fmt = "yuv420p"
    context = stream.codec_context
    context.time_base = stream.time_base = ticks.unit
    context.colorspace = context.color_primaries = context.color_trc = _BT709
    context.color_range = _LIMITED
    context.sample_aspect_ratio = Fraction(1)
    context.thread_count = 1  # more threads do not always make the same bytes
    # Without B-frames the first frame sits at time 0 in every reader, with no edit list.
    context.options = {"crf": str(crf), "preset": "medium", "bf": "0", "g": str(_KEY_EVERY)}
    return stream


def _write(container: Any, stream: Any, sound: Sound, picture: Planes, ticks: _Ticks) -> None:
    frame = av.VideoFrame.from_ndarray(picture, format="yuv420p")
    frame.colorspace = frame.color_primaries = frame.color_trc = _BT709
    frame.color_range = _LIMITED
    frame.time_base, frame.pts = ticks.unit, ticks.times[ticks.done]
    ticks.done += 1
    _mux(container, sound, stream.encode(frame), ticks)


def _mux(container: Any, sound: Sound, packets: Iterable[Any], ticks: _Ticks) -> None:
    for packet in packets:
        packet.duration = ticks.duration(packet.pts)
        sound.until(packet.pts * ticks.unit)
        container.mux(packet)
