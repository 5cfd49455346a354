"""Video files: the only room that knows codecs and containers."""

from rerender.codec.decode import FileVideo, open_video
from rerender.codec.encode import Encoded, encode

__all__ = ["Encoded", "FileVideo", "encode", "open_video"]
