"""Video files: the only room that knows codecs and containers."""

from rerender.codec.audio import check_sound
from rerender.codec.container import MAX_PIXELS, SUFFIXES
from rerender.codec.decode import FileVideo, open_video
from rerender.codec.encode import Encoded, Encoder, Planes, encode, planes

__all__ = [
    "MAX_PIXELS",
    "SUFFIXES",
    "Encoded",
    "Encoder",
    "FileVideo",
    "Planes",
    "check_sound",
    "encode",
    "open_video",
    "planes",
]
