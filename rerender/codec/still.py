"""A frame as a picture file: PNG and TIFF in 8 or 16 bits, and OpenEXR.

An EXR holds scene-linear light in half floats, with primaries of BT.709 and premultiplied alpha, as
compositors expect; signals become light by the curve of sRGB (IEC 61966-2-1). It is written by the
OpenEXR library of the Academy Software Foundation (BSD-3-Clause), an optional dependency.
"""

from __future__ import annotations

import importlib
import struct
import zlib
from typing import Any

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from rerender import files
from rerender.codec.formats import Format
from rerender.errors import ConfigError


def still(image: Tensor, alpha: Tensor | None, form: Format) -> bytes:
    """A picture file; same pixels, same bytes.

    Args:
        image: straight colours ``[3,H,W]`` in 0..1.
        alpha: ``[1,H,W]`` in 0..1, or None.
        form: one of the formats of pictures.
    """
    if form.name == "exr":
        return _exr(image, alpha)
    channels = [image.flip(0)] if alpha is None else [image.flip(0), alpha]  # cv2 has BGR
    whole = torch.cat(channels).double() * (2**form.bits - 1)
    kind = np.uint8 if form.bits == 8 else np.uint16
    codes = np.ascontiguousarray(whole.round().numpy().astype(kind).transpose(1, 2, 0))
    if form.suffix == ".tiff":
        return _tiff(codes[..., [2, 1, 0, 3][: codes.shape[2]]])
    written, data = cv2.imencode(form.suffix, codes)
    assert written, f"OpenCV wrote no {form.suffix}"
    return bytes(data.tobytes())


def _tiff(codes: NDArray[np.uint16]) -> bytes:
    """A TIFF 6.0 file of ``[H,W,C]`` in one strip, deflated; the fourth channel is straight alpha,
    which OpenCV's own writer does not say."""
    height, width, count = codes.shape
    strip = zlib.compress(codes.astype("<u2").tobytes(), 6)
    fields = [  # tag, type (3 is 16 bits, 4 is 32), values
        (256, 4, [width]),
        (257, 4, [height]),
        (258, 3, [16] * count),
        (259, 3, [8]),  # deflate
        (262, 3, [2]),  # RGB
        (273, 4, [8 + count * 2]),  # where the strip begins
        (277, 3, [count]),
        (278, 4, [height]),
        (279, 4, [len(strip)]),
        (284, 3, [1]),  # channels side by side
        *([(338, 3, [2])] if count == 4 else []),  # straight alpha
    ]
    start = 8 + count * 2 + len(strip)
    start += start % 2
    table = struct.pack("<H", len(fields))
    for tag, kind, values in fields:
        said = struct.pack("<I", 8)  # the bits of the channels, which do not fit here
        if len(values) == 1:
            said = struct.pack("<HH" if kind == 3 else "<I", *values, *([0] if kind == 3 else []))
        table += struct.pack("<HHI", tag, kind, len(values)) + said
    body = struct.pack(f"<{count}H", *[16] * count) + strip
    head = struct.pack("<2sHI", b"II", 42, start)
    return head + body.ljust(start - 8, b"\0") + table + bytes(4)


def to_light(signal: Tensor) -> Tensor:
    """Linear light of an sRGB signal, both in 0..1."""
    return torch.where(signal <= 0.04045, signal / 12.92, ((signal + 0.055) / 1.055) ** 2.4)


def to_signal(light: Tensor) -> Tensor:
    """The sRGB signal of linear light, both in 0..1."""
    light = light.clamp(0, 1)
    curve = 1.055 * light.clamp(min=1e-8) ** (1 / 2.4) - 0.055
    return torch.where(light <= 0.0031308, light * 12.92, curve)


def openexr() -> Any:
    """The OpenEXR library.

    Raises:
        ConfigError: it is not installed.
    """
    try:
        return importlib.import_module("OpenEXR")
    except ImportError as error:
        raise ConfigError(
            "format", "exr needs the library OpenEXR", "pip install OpenEXR"
        ) from error


def _exr(image: Tensor, alpha: Tensor | None) -> bytes:
    library, light = openexr(), to_light(image.double())
    planes = light if alpha is None else torch.cat([light * alpha, alpha.double()])
    half = np.ascontiguousarray(planes.numpy().transpose(1, 2, 0).astype(np.float16))
    header = {"compression": library.ZIP_COMPRESSION, "type": library.scanlineimage}
    with files.scratch_folder() as folder:  # the library writes to paths only
        path = folder / "frame.exr"
        library.File(header, {"RGB" if alpha is None else "RGBA": half}).write(str(path))
        return path.read_bytes()
