"""Frames to an H.264 file that every player shows in the right colours, at the source's times."""

from __future__ import annotations

import logging
import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from fractions import Fraction
from itertools import chain
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
from rerender.fit import to_output
from rerender.video import Video

log = logging.getLogger(__name__)
_BT709, _LIMITED = 1, 1  # H.273 numbers of matrix, primaries, transfer; FFmpeg's of the range
_MAX_TICKS = 2**31 - 1  # an mp4 counts ticks per second in 32 bits
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
    """Write an mp4: H.264 4:2:0, converted to BT.709 and tagged so, constant memory.

    Frame ``i`` is shown from ``video.timestamps[i] - video.timestamps[0]`` on, exactly; the sound
    of that stretch of the source is copied without re-encoding where an mp4 takes it, else brought
    to AAC, else left out, with a warning. Same frames, same bytes.

    Args:
        frames: as many images ``[3,H,W]`` as the video has, of its ``size``; they are brought to
            its ``output_size``. Values outside 0..1 are clipped, odd sides are padded to even ones
            by repeating the last row or column.
        video: the source of times and sound.
        file: a seekable binary file to write to.
        crf: constant rate factor of x264, 0 (lossless) to 51.

    Raises:
        ConfigError: ``crf`` is out of range.
        InputError: the source's times do not fit into an mp4.
        ValueError: the number or size of frames is wrong, or one holds NaN or infinity.
    """
    return encode_planes(planes(frames, video), video, file, crf)


def planes(frames: Iterable[Tensor], video: Video, first: int = 0) -> Iterator[Planes]:
    """Frames as the encoder takes them: Y, U and V of BT.709 in 4:2:0 below each other.

    Args:
        frames: as `encode`.
        video: the source.
        first: number of the first of the frames, for messages.

    Yields:
        ``[3/2 H, W]`` in 8 bits for each frame, H and W even.

    Raises:
        ValueError: the size of a frame is wrong, or it holds NaN or infinity.
    """
    for index, image in enumerate(frames, first):
        _check(index, image, video)
        image = to_output(image, video)
        bottom, right = image.shape[1] % 2, image.shape[2] % 2
        if bottom or right:
            image = F.pad(image[None].float(), (0, right, 0, bottom), mode="replicate")[0]
        yield to_yuv420(image)


def encode_planes(
    pictures: Iterable[Planes], video: Video, file: BinaryIO, crf: int = 17
) -> Encoded:
    """The same as `encode`, from what `planes` makes."""
    if not 0 <= crf <= 51:
        raise ConfigError("crf", f"a rate factor is 0 to 51, received {crf}", "try 17")
    ticks = _ticks(video)
    counted = _counted(pictures, len(video))
    first = next(counted)
    size = (first.shape[0] * 2 // 3, first.shape[1])
    padding = (video.output_size[0] % 2, video.output_size[1] % 2)
    if any(padding):
        words = "output: H.264 in 4:2:0 has even sides; %dx%d becomes %dx%d, its last row or column"
        log.warning(words + " repeated", *video.output_size[::-1], *size[::-1])
    # "bitexact" keeps version and date out of the file.
    with av.open(file, "w", format="mp4", options={"fflags": "+bitexact"}) as container:
        stream = _stream(container, size, ticks, crf)
        with copy_sound(video, container) as sound:
            for picture in chain([first], counted):
                _write(container, stream, sound, picture, ticks)
            _mux(container, sound, stream.encode(None), ticks)
            sound.finish()
    return Encoded(len(video), size, padding, sound.fate)


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
    return _Ticks(tuple(int(time * rate) for time in times), Fraction(1, rate))


def _check(index: int, image: Tensor, video: Video) -> None:
    if image.shape[0] != 3 or tuple(image.shape[1:]) not in (video.size, video.output_size):
        raise ValueError(f"frame {index} is {list(image.shape)}, the video {list(video.size)}")
    if not bool(image.isfinite().all()):
        raise ValueError(f"frame {index} holds NaN or infinity")


def _counted(pictures: Iterable[Planes], count: int) -> Iterator[Planes]:
    index = -1
    for index, picture in enumerate(pictures):
        if index == count:
            raise ValueError(f"more than {count} frames came, as many as the source has")
        yield picture
    if index + 1 < count:
        raise ValueError(f"only {index + 1} frames came, the source has {count}")


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
