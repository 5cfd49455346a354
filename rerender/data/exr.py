"""OpenEXR pictures, read by the library of the Academy Software Foundation (optional).

Scene-linear RGB (or Y) with primaries of BT.709 and premultiplied alpha, as `rerender.codec.still`
writes it: light becomes a signal by the curve of sRGB, and what is outside 0..1 is clipped.
"""

from __future__ import annotations

import io
from typing import Any

import numpy as np
import torch
from torch import Tensor

from rerender.codec.container import MAX_PIXELS
from rerender.codec.still import openexr, to_signal

MAGIC = b"v/1\x01"


def read_exr(data: bytes) -> tuple[Tensor, Tensor | None, bool]:
    """(straight colours ``[3,H,W]`` in 0..1, alpha ``[1,H,W]`` or None, whether light was clipped).

    Raises:
        ConfigError: the library is not installed.
        ValueError: the picture is of a kind that is not read, or has too many pixels.
        RuntimeError: it is damaged.
    """
    library = openexr()
    header = library.File(io.BytesIO(data), header_only=True, num_threads=0).parts
    if len(header) > 1:
        raise ValueError("it has several parts; one is read")
    said = header[0].header
    if said["type"] not in (library.scanlineimage, library.tiledimage):
        raise ValueError("it holds deep pixels; flat ones are read")
    window = [[int(side) for side in corner] for corner in said["dataWindow"]]
    if window != [[int(side) for side in corner] for corner in said["displayWindow"]]:
        raise ValueError("its data window is not its display window; crop it to that")
    (left, top), (right, bottom) = window
    width, height = right - left + 1, bottom - top + 1
    if not 0 < width * height <= MAX_PIXELS or min(width, height) < 1:
        raise ValueError(f"it claims {width}x{height} pixels, at most {MAX_PIXELS} are read")
    file = library.File(io.BytesIO(data), separate_channels=True, num_threads=0)
    found = {name: channel.pixels for name, channel in file.channels().items()}
    names = "RGB" if "R" in found else "YYY"
    missing = [name for name in names if name not in found]
    if missing:
        raise ValueError(f"it has channels {', '.join(found)}; R, G, B or Y are needed")
    light = torch.stack([_plane(found[name], (height, width)) for name in names])
    alpha = None
    if "A" in found:
        whole = _plane(found["A"], (height, width))[None].clamp(0, 1)
        if whole.min() < 1:
            alpha = whole
            light = torch.where(alpha > 0, light / alpha.clamp(min=1e-6), 0)
    # Half floats of a fully white pixel are off by their last bit once divided by alpha.
    clipped = bool((light > 1.002).any() or (light < -0.002).any())
    return to_signal(light).float(), None if alpha is None else alpha.float(), clipped


def _plane(pixels: Any, size: tuple[int, int]) -> Tensor:
    plane = np.asarray(pixels)
    if plane.shape != size or plane.dtype.kind != "f":
        raise ValueError("its channels are subsampled or whole numbers; floating point is read")
    if np.isnan(plane).any():
        raise ValueError("it holds NaN")
    return torch.from_numpy(plane.astype(np.float64)).clamp(-1e6, 1e6)
