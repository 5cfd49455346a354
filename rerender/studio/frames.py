"""Frames of videos for the page, decoded as every run decodes them."""

from __future__ import annotations

import io
import threading
from collections import OrderedDict
from functools import lru_cache
from pathlib import Path

import numpy as np
from PIL import Image
from torch import Tensor

from rerender import files
from rerender.codec import FileVideo, open_video
from rerender.errors import InputError
from rerender.fitting import resize

SHOWN = 1280  # pixels of the longer side of a frame on the page
_QUALITY = 88  # of JPEG, 0..100
_OPEN = 4  # videos that are kept open
_KEPT = 96 * 2**20  # bytes of pictures that are kept


@lru_cache(_OPEN)
def _opened(path: Path, changed: int) -> FileVideo:
    return open_video(path)


def opened(path: Path) -> FileVideo:
    """A video, opened, and kept open for the next frame."""
    return _opened(path, path.stat().st_mtime_ns)


def frame_of(path: Path, index: int) -> Tensor:
    """A frame of a video, ``[3,H,W]`` in 0..1.

    Raises:
        InputError: it has no such frame, or cannot be decoded.
    """
    video = opened(path)
    if not 0 <= index < len(video):
        raise InputError("frame", f"{index} is not in the clip of {len(video)}", "choose another")
    return video[index]


def jpeg(image: Tensor) -> bytes:
    """An image ``[3,H,W]`` in 0..1 as a JPEG file."""
    pixels = files.levels(image).permute(1, 2, 0).contiguous().numpy()
    buffer = io.BytesIO()
    Image.fromarray(np.ascontiguousarray(pixels)).save(buffer, "JPEG", quality=_QUALITY)
    return buffer.getvalue()


class JpegFrames:
    """Frames as JPEG files, kept in memory up to a limit."""

    def __init__(self) -> None:
        self._kept: OrderedDict[tuple[Path, int, int, int], bytes] = OrderedDict()
        self._bytes, self._lock = 0, threading.Lock()

    def frame(self, path: Path, index: int, longest: int) -> bytes:
        """A frame of a video as a JPEG file.

        Args:
            path: the video.
            index: number of the frame, from 0.
            longest: pixels that its longer side has at most.

        Raises:
            InputError: it has no such frame, or cannot be decoded.
        """
        key = (path, path.stat().st_mtime_ns, index, longest)
        with self._lock:
            if key in self._kept:
                self._kept.move_to_end(key)
                return self._kept[key]
        image = frame_of(path, index)
        height, width = image.shape[1:]
        scale = min(1.0, longest / max(height, width))
        size = max(1, round(height * scale)), max(1, round(width * scale))
        data = jpeg(resize(image, size))
        with self._lock:
            self._kept[key] = data
            self._bytes += len(data)
            while self._bytes > _KEPT:
                self._bytes -= len(self._kept.popitem(last=False)[1])
        return data
