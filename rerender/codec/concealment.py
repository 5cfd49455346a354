"""Damage that a decoder hides: parts of a picture that do not decode are filled from others.

FFmpeg's decoders of H.264 and MPEG go on after an error inside a picture and mark the frame as
corrupt only where others refer to it. Told to stop at errors (``err_detect=explode``) they also
stop at what costs no picture, such as a broken message beside it; what they log tells the two
apart.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from contextlib import suppress
from typing import Any

from av.error import FFmpegError

from rerender.codec.container import MAX_PIXELS
from rerender.codec.decoder_log import decoder_log

CONCEALING = ("h264", "mpeg1video", "mpeg2video", "mpeg4")
"""FFmpeg's names of the decoders that do so."""


def stopping(stream: Any) -> None:
    """Have the decoder of a freshly opened stream stop at the first error."""
    stream.codec_context.options = {"max_pixels": str(MAX_PIXELS), "err_detect": "explode"}


def concealed(packets: Iterable[Any], stream: Any) -> int | None:
    """The time, in ticks, of the first frame of which parts are concealed; None if there is none.

    Args:
        packets: of the stream, in order of decoding, from a key frame on.
        stream: freshly opened; it is decoded by one thread, which is this one.
    """
    stream.thread_type, stream.codec_context.thread_count = "NONE", 1

    def decode(packet: Any) -> None:
        with suppress(FFmpegError):
            stream.codec_context.decode(packet if packet.size else None)

    with suppress(FFmpegError):  # who decodes for the frames finds where packets end, too
        return first_concealed(packets, decode)
    return None


def first_concealed(packets: Iterable[Any], decode: Callable[[Any], None]) -> int | None:
    """The time, in ticks, of the first packet after which a decoder says that it conceals errors;
    None if there is none.

    Args:
        packets: in order of decoding.
        decode: decodes one, in this thread.
    """
    with decoder_log() as said:
        for packet in packets:
            decode(packet)
            if any(line[2].startswith("concealing ") for line in said):
                time: int | None = packet.pts
                return time
            said.clear()
    return None
