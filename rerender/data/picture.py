"""One picture file, read by our own rules: the only place that decodes pictures of others."""

from __future__ import annotations

import io
import struct
import threading
import warnings
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from PIL import Image, ImageOps, UnidentifiedImageError
from torch import Tensor

from rerender.codec.container import MAX_PIXELS
from rerender.errors import InputError

SUFFIXES = (".png", ".jpg", ".jpeg", ".bmp", ".webp", ".tif", ".tiff")
_FORMATS = ("PNG", "JPEG", "BMP", "WEBP", "TIFF")
_MOST_BYTES = 16 * MAX_PIXELS  # twice what the largest picture takes that is not compressed at all
_ORIENTATION, _BITS = 0x0112, 258  # tags of EXIF and TIFF
_SRGB = ("srgb", "gray", "grey", "dot gain")  # words in the names of profiles that need no telling
_OPENING = threading.Lock()  # warnings are made errors for the whole process

# What reading reduces or decides, in the order in which it is said.
SEVERAL = "several pictures or an animation, of which the first is taken"
CLEAR = "transparency, composited on black"
DEEP = "more than 8 bits a channel, of which 8 are kept"
INKS = "inks (CMYK), turned to RGB without their colour profile"
PROFILE = "a colour profile other than sRGB, which is not applied"
TURNED = "an EXIF orientation, by which it is turned upright"
NOTES = (SEVERAL, CLEAR, DEEP, INKS, PROFILE, TURNED)


class Picture(NamedTuple):
    """A picture and what was done to read it.

    Attributes:
        image: ``[3,H,W]`` RGB, float32, 0..1, of eight bits per channel.
        notes: what was reduced or decided, of the constants above.
    """

    image: Tensor
    notes: tuple[str, ...]


def read(path: Path) -> Picture:
    """Read a picture: PNG, JPEG, BMP, WebP or TIFF, told by its content, whatever its name.

    It is turned as its EXIF orientation says, and composited on black where it is transparent.

    Raises:
        InputError: it cannot be read, is none, is damaged or cut off, holds floating-point values,
            or claims more pixels than a video may have (told from its header, before decoding).
    """
    data = _bytes(path)
    try:
        with _opened(data) as picture:
            width, height = picture.size
            if not 0 < width * height <= MAX_PIXELS:
                problem = f"claims {width}x{height} pixels, at most {MAX_PIXELS} are read"
                raise InputError(path, problem, "make it smaller")
            _require_whole(data, picture.format)
            notes = _notes(picture, data)
            rgb, clear = _in_rgb(ImageOps.exif_transpose(picture))
            array = np.array(rgb, np.float32)
    except (InputError, MemoryError):
        raise
    except Image.DecompressionBombError as error:
        problem = f"claims too many pixels, at most {MAX_PIXELS} are read"
        raise InputError(path, problem, "make it smaller") from error
    except Exception as error:  # plugins raise whatever a damaged field leads to
        problem = f"cannot be read as a picture ({_why(data, error)})"
        raise InputError(path, problem, "replace it") from error
    if clear:
        notes.add(CLEAR)
    image = torch.from_numpy(array).permute(2, 0, 1).div(255).contiguous()
    return Picture(image, tuple(note for note in NOTES if note in notes))


def _bytes(path: Path) -> bytes:
    try:
        size = path.stat().st_size
        if size > _MOST_BYTES:
            problem = f"has {size} bytes, no picture of {MAX_PIXELS} pixels has so many"
            raise InputError(path, problem, "replace it")
        return path.read_bytes()
    except OSError as error:
        why = (error.strerror or "cannot be read").lower()
        raise InputError(path, f"cannot be opened ({why})", "check the path") from error


def _opened(data: bytes) -> Image.Image:
    """The picture with only its header read."""
    with _OPENING, warnings.catch_warnings():
        warnings.simplefilter("error", Image.DecompressionBombWarning)
        try:
            return Image.open(io.BytesIO(data), formats=_FORMATS)
        except Image.DecompressionBombWarning as error:
            raise Image.DecompressionBombError(str(error)) from error


def _require_whole(data: bytes, kind: str | None) -> None:
    """Refuse what decoders let pass: an end that is missing, a PNG whose checksums are wrong."""
    if kind == "PNG":
        with _opened(data) as again:
            again.verify()
        if b"IEND\xaeB`\x82" not in data:
            raise EOFError("its end is missing")
    elif kind in ("JPEG", "MPO"):
        if data.rfind(b"\xff\xd9") < data.rfind(b"\xff\xda"):
            raise EOFError("its end is missing")
    elif kind == "WEBP":
        (size,) = struct.unpack("<I", data[4:8])
        if len(data) < size + 8:
            raise EOFError("its end is missing")


def _notes(picture: Image.Image, data: bytes) -> set[str]:
    """What the header says of things that reading reduces or decides."""
    notes = set()
    if getattr(picture, "n_frames", 1) > 1:
        notes.add(SEVERAL)
    if _bits(picture, data) > 8:
        notes.add(DEEP)
    if picture.mode == "CMYK":
        notes.add(INKS)
    elif not _is_srgb(picture.info.get("icc_profile")):
        notes.add(PROFILE)
    if picture.getexif().get(_ORIENTATION, 1) in range(2, 9):
        notes.add(TURNED)
    return notes


def _bits(picture: Image.Image, data: bytes) -> int:
    """Bits of a channel."""
    if picture.format == "PNG":
        return data[24]
    bits = getattr(picture, "tag_v2", {}).get(_BITS, 8)
    return int(max(bits) if isinstance(bits, tuple) else bits)


def _is_srgb(profile: object) -> bool:
    """Whether a colour profile changes nothing, going by the name that it gives itself."""
    if not isinstance(profile, bytes) or not profile:
        return True
    text = profile.replace(b"\0", b"").lower()  # names are in ASCII or in UTF-16
    return any(word.encode() in text for word in _SRGB)


def _in_rgb(picture: Image.Image) -> tuple[Image.Image, bool]:
    """A picture in RGB, and whether any of it was transparent."""
    if picture.mode == "F":
        raise ValueError("it holds floating-point values; 8 or 16 bits are read")
    if picture.mode.startswith("I"):  # 16-bit grey, which Pillow would clip
        grey = np.asarray(picture, np.float64)
        if grey.min() < 0 or grey.max() > 65535:
            raise ValueError("it holds 32-bit values; 8 or 16 bits are read")
        eight = (grey / 257).round().clip(0, 255).astype(np.uint8)
        return Image.fromarray(eight).convert("RGB"), False
    if picture.has_transparency_data:
        layered = picture.convert("RGBA")
        if np.asarray(layered)[..., 3].min() < 255:
            black = Image.new("RGBA", layered.size, (0, 0, 0, 255))
            return Image.alpha_composite(black, layered).convert("RGB"), True
    return picture.convert("RGB"), False


def _why(data: bytes, error: Exception) -> str:
    if not data:
        return "it is empty"
    if isinstance(error, UnidentifiedImageError):
        return "it is no PNG, JPEG, BMP, WebP or TIFF"
    return str(error) if isinstance(error, (OSError, EOFError, ValueError)) else "it is damaged"
