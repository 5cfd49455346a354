"""A result in a format of `rerender.codec.formats`: frames packed one by one, then made a file.

Packed frames of pictures are the files themselves; those of videos are the planes that the encoder
takes. So a run that was stopped has to pack no frame again, and nothing but a frame is in memory.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from fractions import Fraction
from itertools import pairwise
from typing import Any, BinaryIO

import av
import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from rerender.codec.audio import copy_sound
from rerender.codec.color import to_yuv
from rerender.codec.encode import Encoded, frame_times
from rerender.codec.formats import Format
from rerender.codec.still import openexr, still
from rerender.errors import ConfigError
from rerender.fitting import to_output
from rerender.video import Video

log = logging.getLogger(__name__)
_BT709, _LIMITED, _FULL, _RGB = 1, 1, 2, 0  # H.273 numbers; FFmpeg's of the ranges
_CHANNELS = {"bgr0": "bgr0", "bgra": "bgra", "rgb24": "rgb", "argb": "argb"}  # one plane
_PLANAR = {"gbrp16le": "gbr", "gbrap16le": "gbra"}


def check_format(form: Format, video: Video) -> None:
    """Refuse a video that a format cannot hold, before anything heavy starts.

    Raises:
        ConfigError: its frames are too small, or a library is missing.
    """
    if form.name == "exr":
        openexr()
    height, width = video.output_size
    if height < form.least[0] or width < form.least[1]:
        problem = f"{form.name} takes frames of at least {form.least[1]}x{form.least[0]}"
        problem += f", the result has {width}x{height}"
        raise ConfigError("format", problem, "take prores or ffv1, or raise data.size")


def packed(image: Tensor, video: Video, index: int, form: Format) -> bytes:
    """A frame as it is kept until the file is made; of pictures, the file.

    Where the source is transparent and the format carries alpha, the frame gets the alpha of its
    source frame, and the straight colours that laid over black are the image:
    ``colour = image / alpha``, clipped to 0..1, and 0 where ``alpha`` is 0.

    Args:
        image: ``[3,H,W]`` in 0..1, of the video's ``size`` or ``output_size``.
        video: the source.
        index: number of the frame.
        form: the format.

    Raises:
        ValueError: the frame holds NaN or infinity.
    """
    image = to_output(image, video).detach().float().cpu()
    if not bool(image.isfinite().all()):
        raise ValueError(f"frame {index} holds NaN or infinity")
    image, alpha = image.clamp(0, 1), None
    if form.keeps_alpha and video.transparent:
        alpha = video.alpha(index)
        image = torch.where(alpha > 0, image / alpha.clamp(min=1e-6), 0).clamp(0, 1)
    if form.pictures:
        return still(image, alpha, form)
    kind = form.clear if alpha is not None else form.opaque
    return b"".join(plane.tobytes() for plane in _planes(image, alpha, kind, form.bits))


def _planes(image: Tensor, alpha: Tensor | None, kind: str, bits: int) -> list[NDArray[Any]]:
    """The planes of a frame in the order of its pixel format."""
    if kind in _CHANNELS or kind in _PLANAR:
        top, full = 2**bits - 1, torch.ones_like(image[:1])
        rgba = torch.cat([image, full if alpha is None else alpha])
        codes = (rgba.double() * top).round().numpy().astype(np.uint8 if bits == 8 else "<u2")
        named = dict(zip("rgba", codes, strict=True)) | {"0": np.zeros_like(codes[0])}
        planes = [named[channel] for channel in _CHANNELS.get(kind) or _PLANAR[kind]]
        return [np.stack(planes, -1)] if kind in _CHANNELS else planes
    narrow = "422" in kind
    if narrow and image.shape[2] % 2:
        image = F.pad(image[None], (0, 1, 0, 0), mode="replicate")[0]
    planes = to_yuv(image, bits, narrow)
    if alpha is not None:
        top = 2**bits - 1
        planes.append((alpha[0].double() * top).round().numpy().astype("<u2"))
    return planes


def assemble(form: Format, video: Video, read: Callable[[int], bytes], file: BinaryIO) -> Encoded:
    """Make the file of a video format, with the times and the sound of the source; constant memory,
    same frames, same bytes. Matroska rounds times to milliseconds.

    Args:
        form: of a video.
        video: the source; there are as many frames as it has.
        read: gives the packed frame of a number.
        file: a seekable binary file to write to.
    """
    clear = form.keeps_alpha and video.transparent
    kind = form.clear if clear else form.opaque
    height, width = video.output_size
    padding = (0, width % 2 if "422" in kind else 0)
    size = (height, width + padding[1])
    if padding[1]:
        log.warning(
            "output: %s has an even width; %dx%d becomes %dx%d, its last column repeated",
            *(form.name, width, height, *size[::-1]),
        )
    unit, times = frame_times(video)
    options = {"fflags": "+bitexact"}
    with av.open(file, "w", format=form.container, options=options) as container:
        stream = _stream(container, form, kind, size, unit, times)
        with copy_sound(video, container, form.container) as sound:
            ends = dict(pairwise(times))
            for index in range(len(video) + 1):
                frame = None
                if index < len(video):
                    frame = _frame(read(index), kind, size)
                    frame.time_base, frame.pts = unit, times[index]
                for packet in stream.encode(frame):
                    packet.duration = ends[packet.pts] - packet.pts
                    sound.until(packet.pts * unit)
                    container.mux(packet)
            sound.finish()
            fate = sound.fate
    return Encoded(len(video), size, padding, fate)


def _stream(
    container: Any, form: Format, kind: str, size: tuple[int, int], unit: Fraction, times: Any
) -> Any:
    rate = Fraction(len(times) - 1) / (times[-1] * unit)
    stream = container.add_stream(form.codec, rate=rate.limit_denominator(1001))
    stream.height, stream.width = size
    stream.pix_fmt = kind
    context = stream.codec_context
    context.time_base = stream.time_base = unit
    context.color_primaries = context.color_trc = _BT709
    context.colorspace = _BT709 if kind.startswith("yuv") else _RGB
    context.color_range = _LIMITED if kind.startswith("yuv") else _FULL
    context.sample_aspect_ratio = Fraction(1)
    context.thread_count = 1  # more threads do not always make the same bytes
    context.options = {**form.options, "flags": "+bitexact"}
    return stream


def _frame(data: bytes, kind: str, size: tuple[int, int]) -> Any:
    """A packed frame as the encoder takes it."""
    frame = av.VideoFrame(size[1], size[0], kind)
    start, depth = 0, 2 if kind.endswith("le") else len(_CHANNELS[kind])
    for plane in frame.planes:
        wide, rows = plane.width * depth, plane.height
        codes = np.frombuffer(data, np.uint8, wide * rows, start).reshape(rows, wide)
        padded = np.zeros((rows, plane.line_size), np.uint8)
        padded[:, :wide] = codes
        plane.update(padded)
        start += wide * rows
    assert start == len(data)
    frame.color_primaries = frame.color_trc = _BT709
    frame.colorspace = _BT709 if kind.startswith("yuv") else _RGB
    frame.color_range = _LIMITED if kind.startswith("yuv") else _FULL
    return frame
