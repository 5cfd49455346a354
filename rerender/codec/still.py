"""A frame as a picture file: PNG and TIFF in 8 or 16 bits, and OpenEXR.

An EXR holds scene-linear light in half floats, with primaries of BT.709 and premultiplied alpha, as
compositors expect; signals become light by the curve of sRGB (IEC 61966-2-1). It is written by the
OpenEXR library of the Academy Software Foundation (BSD-3-Clause), an optional dependency.
"""

from __future__ import annotations

import importlib
import tempfile
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
from torch import Tensor

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
    written, data = cv2.imencode(form.suffix, codes)
    assert written, f"OpenCV wrote no {form.suffix}"
    return bytes(data.tobytes())


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
    with tempfile.TemporaryDirectory() as folder:  # the library writes to paths only
        path = Path(folder) / "frame.exr"
        library.File(header, {"RGB" if alpha is None else "RGBA": half}).write(str(path))
        return path.read_bytes()
