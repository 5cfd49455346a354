"""Optical flow files in Middlebury's format (.flo).

Little-endian: the float 202021.25, width and height as 32-bit integers, then for each pixel, row by
row, u and v as 32-bit floats in pixels (Baker et al. 2011, "A Database and Evaluation Methodology
for Optical Flow"). ``target(x, y) = source(x + u, y + v)``; the centre of the top-left pixel is
(0, 0).
"""

from __future__ import annotations

import struct

import numpy as np
import torch
from torch import Tensor

TAG = 202021.25
_HEAD = struct.Struct("<fii")


def dump(offset: Tensor) -> bytes:
    """The file of an offset ``[1,2,H,W]`` in pixels (x, y)."""
    height, width = offset.shape[-2:]
    values = offset[0].permute(1, 2, 0).contiguous().numpy().astype("<f4")
    return _HEAD.pack(TAG, width, height) + values.tobytes()


def load(data: bytes) -> Tensor:
    """The offset ``[1,2,H,W]`` in a file.

    Raises:
        ValueError: it is no .flo file, or not whole.
    """
    if len(data) < _HEAD.size:
        raise ValueError("too short for a .flo file")
    tag, width, height = _HEAD.unpack_from(data)
    if tag != TAG or width < 1 or height < 1 or len(data) != _HEAD.size + 8 * width * height:
        raise ValueError("no .flo file, or not whole")
    values = np.frombuffer(data, "<f4", offset=_HEAD.size).reshape(height, width, 2)
    return torch.from_numpy(values.astype(np.float32)).permute(2, 0, 1)[None]
