"""Video files: the only package that knows codecs and containers."""

from rerender.codec.audio import check_sound, sound_of
from rerender.codec.container import MAX_PIXELS, SUFFIXES
from rerender.codec.decode import FileVideo
from rerender.codec.deliver import check_folder, deliver, say_times
from rerender.codec.encode import Encoded, Encoder, Planes, encode, planes
from rerender.codec.formats import FORMATS, Format, FormatName
from rerender.codec.master import assemble, check_format, packed
from rerender.codec.opening import open_video

__all__ = [
    "FORMATS",
    "MAX_PIXELS",
    "SUFFIXES",
    "Encoded",
    "Encoder",
    "FileVideo",
    "Format",
    "FormatName",
    "Planes",
    "assemble",
    "check_folder",
    "check_format",
    "check_sound",
    "deliver",
    "encode",
    "open_video",
    "packed",
    "planes",
    "say_times",
    "sound_of",
]
