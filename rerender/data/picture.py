"""One picture file, read by our own rules: the only place that decodes pictures of others."""

from __future__ import annotations

import io
import stat
import struct
import threading
import warnings
from pathlib import Path
from typing import Any, NamedTuple

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image, ImageOps, UnidentifiedImageError
from torch import Tensor

from rerender.codec.container import MAX_PIXELS
from rerender.data.exr import MAGIC, read_exr
from rerender.errors import InputError, RerenderError

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
BRIGHT = "light outside of 0 to 1, which is clipped"
PROFILE = "a colour profile other than sRGB, which is not applied"
TURNED = "an EXIF orientation, by which it is turned upright"
NOTES = (SEVERAL, CLEAR, DEEP, BRIGHT, INKS, PROFILE, TURNED)


class Picture(NamedTuple):
    """A picture and what was done to read it.

    Attributes:
        image: ``[3,H,W]`` RGB, float32, 0..1.
        notes: what was reduced or decided, of the constants above.
        alpha: ``[1,H,W]`` in 0..1; None where all is opaque.
        deep: more than eight bits per channel were read.
    """

    image: Tensor
    notes: tuple[str, ...]
    alpha: Tensor | None = None
    deep: bool = False


def read(path: Path) -> Picture:
    """Read a PNG, JPEG, BMP, WebP, TIFF or OpenEXR file, told by its content, whatever its name.

    It is turned as its EXIF orientation says, and composited on black where it is transparent.
    PNG and TIFF keep 16 bits per channel.

    Raises:
        InputError: it cannot be read, is none, is damaged or cut off, holds floating-point values
            that are no EXR's, or claims more pixels than a video may have (told from its header,
            before decoding).
    """
    data = _bytes(path)
    try:
        if data.startswith(MAGIC):
            return _linear(data)
        with _opened(data) as picture:
            width, height = picture.size
            if not 0 < width * height <= MAX_PIXELS:
                problem = f"claims {width}x{height} pixels, at most {MAX_PIXELS} are read"
                raise InputError(path, problem, "make it smaller")
            _require_whole(data, picture.format)
            notes, deep = _notes(picture, data), None
            upright = ImageOps.exif_transpose(picture)
            rgb, alpha = _in_rgb(upright)
            image = _tensor(np.array(rgb, np.float32), 255)
            if DEEP in notes and (deep := _deep(picture, data)) is not None:
                image, alpha = deep
    except (RerenderError, MemoryError):
        raise
    except Image.DecompressionBombError as error:
        problem = f"claims too many pixels, at most {MAX_PIXELS} are read"
        raise InputError(path, problem, "make it smaller") from error
    except Exception as error:  # plugins raise whatever a damaged field leads to
        problem = f"cannot be read as a picture ({_why(data, error)})"
        raise InputError(path, problem, "replace it") from error
    found = set(notes)
    if alpha is not None:
        found.add(CLEAR)
    if deep is not None:
        found.discard(DEEP)
    return Picture(image, _ordered(found), alpha, deep is not None)


def _ordered(found: set[str]) -> tuple[str, ...]:
    return tuple(note for note in NOTES if note in found)


def _linear(data: bytes) -> Picture:
    """An EXR, over black."""
    colours, alpha, clipped = read_exr(data)
    notes = {note for note, so in ((CLEAR, alpha is not None), (BRIGHT, clipped)) if so}
    image = colours if alpha is None else colours * alpha
    return Picture(image.contiguous(), _ordered(notes), alpha, True)


def _tensor(array: NDArray[Any], top: int) -> Tensor:
    return torch.from_numpy(array.astype(np.float32)).permute(2, 0, 1).div(top).contiguous()


def _deep(picture: Image.Image, data: bytes) -> tuple[Tensor, Tensor | None] | None:
    """A whole PNG or TIFF of 16 bits a channel, which Pillow reads in 8, over black, and its alpha;
    None of kinds that are not read in 16."""
    kinds = {"I;16": 1, "RGB": 3, "RGBA": 4}
    plain = picture.getexif().get(_ORIENTATION, 1) == 1 and "transparency" not in picture.info
    if not plain or _bits(picture, data) != 16 or picture.mode not in kinds:
        return None
    codes = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_UNCHANGED)
    if codes is None or codes.dtype != np.uint16:
        return None
    codes = codes.reshape(*codes.shape[:2], -1)
    if codes.shape != (picture.height, picture.width, kinds[picture.mode]):
        return None
    rgba = _tensor(codes, 65535)
    image = rgba[:1].expand(3, -1, -1) if len(rgba) == 1 else rgba[:3].flip(0)  # cv2 has BGR
    if len(rgba) == 4 and rgba[3].min() < 1:
        return (image * rgba[3]).contiguous(), rgba[3:]
    return image.contiguous(), None


def _bytes(path: Path) -> bytes:
    try:
        found = path.stat()
        size = found.st_size
        if not stat.S_ISREG(found.st_mode) and not stat.S_ISDIR(found.st_mode):
            raise InputError(path, "is a pipe or a device, not a file", "give a picture")
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


def _in_rgb(picture: Image.Image) -> tuple[Image.Image, Tensor | None]:
    """A picture in RGB in 8 bits, over black, and its alpha where any of it is transparent."""
    if picture.mode == "F":
        raise ValueError("it holds floating-point values; 8 or 16 bits are read")
    if picture.mode.startswith("I"):  # 16-bit grey, which Pillow would clip
        grey = np.asarray(picture, np.float64)
        if grey.min() < 0 or grey.max() > 65535:
            raise ValueError("it holds 32-bit values; 8 or 16 bits are read")
        eight = (grey / 257).round().clip(0, 255).astype(np.uint8)
        return Image.fromarray(eight).convert("RGB"), None
    if picture.has_transparency_data:
        layered = picture.convert("RGBA")
        if np.asarray(layered)[..., 3].min() < 255:
            black = Image.new("RGBA", layered.size, (0, 0, 0, 255))
            alpha = _tensor(np.asarray(layered)[..., 3:], 255)
            return Image.alpha_composite(black, layered).convert("RGB"), alpha
    return picture.convert("RGB"), None


def _why(data: bytes, error: Exception) -> str:
    if not data:
        return "it is empty"
    if isinstance(error, UnidentifiedImageError):
        return "it is no PNG, JPEG, BMP, WebP, TIFF or EXR"
    return str(error) if isinstance(error, (OSError, EOFError, ValueError)) else "it is damaged"
