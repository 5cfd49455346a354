"""Pixels between a codec's Y'CbCr and our RGB, in floating point.

Reading honours the matrix and range tags. A missing matrix tag means BT.709 where the coded
height is at least 720 and BT.601 below, as players assume; a missing range tag means limited
range. High dynamic range and wide gamuts are brought to BT.709 by the rule of
``rerender.codec.gamut``; what is transparent is laid over black; interlaced frames are taken as
they come. Chroma is interpolated as centred, which is FFmpeg's habit.

Writing converts to limited-range BT.709; the encoder tags the file so.
"""

from __future__ import annotations

import re
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from av.video.reformatter import Interpolation
from torch import Tensor

from rerender.codec.gamut import to_bt709

# (Kr, Kb) of ITU-T H.273 MatrixCoefficients, by FFmpeg's number.
_BT709, _BT601, _BT2020 = (0.2126, 0.0722), (0.299, 0.114), (0.2627, 0.0593)
_MATRICES = {
    1: _BT709,
    4: (0.30, 0.11),
    5: _BT601,
    6: _BT601,
    7: (0.212, 0.087),
    9: _BT2020,
    10: _BT2020,  # constant luminance, read as the usual non-constant kind
}
_ALPHA = re.compile(r"yuva|rgba|bgra|argb|abgr|gbrap|ya\d|ayuv|vuya|uyva")
_UNTAGGED = (0, 2, 3)
_FULL = 2
_SCALING = int(
    Interpolation.BICUBIC
    | Interpolation.ACCURATE_RND
    | Interpolation.FULL_CHR_H_INT
    | Interpolation.FULL_CHR_H_INP
    | Interpolation.BITEXACT
)


def is_known(frame: Any) -> bool:
    """Whether the colour matrix of a decoded frame is one that can be converted."""
    return _is_rgb(frame) or frame.colorspace in _MATRICES or frame.colorspace in _UNTAGGED


def to_rgb(frame: Any, size: tuple[int, int]) -> Tensor:
    """A decoded frame as ``[3,H,W]`` RGB, float32, 0..1.

    Args:
        frame: the decoder's frame, of any pixel format and bit depth.
        size: (height, width) wanted, for pixels that are not square.
    """
    image = _rgb(frame, size) if _is_rgb(frame) else _from_codes(frame, size)
    image = to_bt709(image, frame.color_trc, frame.color_primaries)
    return over_black(image, frame, size) if has_alpha(frame) else image


def has_alpha(frame: Any) -> bool:
    """Whether the pixel format of a frame has an alpha channel."""
    return frame.format.name == "pal8" or _ALPHA.match(frame.format.name) is not None


def is_transparent(frame: Any) -> bool:
    """Whether any pixel of a frame with an alpha channel is not opaque."""
    return bool(_alpha(frame, (frame.height, frame.width)).min() < 1)


def alpha_of(frame: Any, size: tuple[int, int]) -> Tensor:
    """Alpha ``[1,H,W]`` of a decoded frame in 0..1, all 1 where it has none."""
    if not has_alpha(frame):
        return torch.ones(1, *size)
    return torch.from_numpy(_alpha(frame, size))[None]


def over_black(image: Tensor, frame: Any, size: tuple[int, int]) -> Tensor:
    """Straight alpha laid over black, as signals are mixed by players."""
    alpha = _alpha(frame, size)
    return image if alpha.min() == 1 else image * torch.from_numpy(alpha)


def _alpha(frame: Any, size: tuple[int, int]) -> npt.NDArray[np.float32]:
    """Alpha ``[H,W]``, 1 where a pixel is opaque."""
    height, width = size
    if _is_rgb(frame) and _bits(frame) <= 8:
        converted = frame.reformat(
            width=width, height=height, format="rgba", interpolation=_SCALING
        )
        codes, opaque = converted.to_ndarray()[..., 3], 255
    else:
        kind = "rgba64le" if _is_rgb(frame) else "yuva444p16le"
        converted = frame.reformat(
            width=width,
            height=height,
            format=kind,
            src_colorspace=1,
            dst_colorspace=1,
            src_color_range=1,
            dst_color_range=1,
            interpolation=_SCALING,
        )
        # FFmpeg widens the largest value of 8 to 16 bits in several ways, this is the smallest; of
        # more bits it widens by a shift.
        bits = _bits(frame)
        codes = converted.to_ndarray()[..., 3]
        opaque = 255 << 8 if bits <= 8 else (2**bits - 1) << (16 - bits)
    alpha: npt.NDArray[np.float32] = np.minimum(codes.astype(np.float32) / opaque, 1)
    return alpha


def _from_codes(frame: Any, size: tuple[int, int]) -> Tensor:
    codes, full_format = _codes(frame, size)
    full = full_format or frame.color_range == _FULL
    gain, offset = _decoding(_matrix(frame), full, _bits(frame))
    # Made float by torch, which aligns its memory: a product of matrices may depend on that.
    flat = torch.from_numpy(codes).float().view(-1, 3)
    return torch.addmm(offset, gain, flat.T).clamp_(0, 1).view(3, *size)


def to_yuv420(image: Tensor) -> npt.NDArray[np.uint8]:
    """An image ``[3,H,W]`` (even sides) as planar 4:2:0 limited-range BT.709, ``[H*3/2, W]``."""
    red, green, blue = image.detach().float().cpu().clamp(0, 1).numpy().astype(np.float64)
    kr, kb = _BT709
    luma = kr * red + (1 - kr - kb) * green + kb * blue
    planes = [16 + 219 * luma]
    for difference, k in ((blue - luma, kb), (red - luma, kr)):
        planes.append(128 + 224 * _halved(difference) / (2 * (1 - k)))
    flat: npt.NDArray[np.uint8] = np.rint(np.concatenate([p.ravel() for p in planes])).astype(
        np.uint8
    )
    return flat.reshape(-1, luma.shape[1])


def to_yuv(image: Tensor, bits: int, narrow: bool) -> list[npt.NDArray[np.uint16]]:
    """An image ``[3,H,W]`` in 0..1 as planes Y, Cb and Cr of limited-range BT.709.

    Args:
        image: the image.
        bits: of a code, 9..16 (ITU-T H.273, equations 20 to 25).
        narrow: halve the width of Cb and Cr (4:2:2); the width is even.
    """
    red, green, blue = image.double().numpy()
    kr, kb = _BT709
    luma = kr * red + (1 - kr - kb) * green + kb * blue
    planes = [16 + 219 * luma]
    for difference, k in ((blue - luma, kb), (red - luma, kr)):
        wide = 128 + 224 * difference / (2 * (1 - k))
        planes.append(wide.reshape(len(wide), -1, 2).mean(2) if narrow else wide)
    return [np.rint(plane * 2 ** (bits - 8)).astype(np.uint16) for plane in planes]


def _halved(plane: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    height, width = plane.shape
    means = plane.reshape(height // 2, 2, width // 2, 2).mean((1, 3))
    return np.asarray(means, dtype=np.float64)


def _is_rgb(frame: Any) -> bool:
    return bool(frame.format.is_rgb or frame.format.has_palette)


def _bits(frame: Any) -> int:
    return int(frame.format.components[0].bits)


def _rgb(frame: Any, size: tuple[int, int]) -> Tensor:
    deep = _bits(frame) > 8
    # Deep planes with alpha come out wrong where FFmpeg is asked for planes without.
    kind = ("gbrap16le" if has_alpha(frame) else "gbrp16le") if deep else "rgb24"
    converted = frame.reformat(
        width=size[1], height=size[0], format=kind, interpolation=_SCALING
    ).to_ndarray()
    levels = torch.from_numpy(converted[..., :3].astype(np.float32)).permute(2, 0, 1)
    return levels.div(65535 if deep else 255).contiguous()


def _matrix(frame: Any) -> tuple[float, float]:
    guess = _BT709 if frame.height >= 720 else _BT601
    return _MATRICES.get(frame.colorspace, guess)


def _codes(frame: Any, size: tuple[int, int]) -> tuple[npt.NDArray[np.uint16], bool]:
    """Y'CbCr ``[H,W,3]`` in 16 bits, and whether the pixel format itself means full range."""
    # Declaring the same range on both sides keeps the code values: they are only shifted to 16
    # bits, so that nothing is rounded to 8.
    if frame.format.name.startswith("gray"):
        return _gray_codes(frame.reformat(width=size[1], height=size[0])), False
    full_format = frame.format.name.startswith("yuvj")
    span = _FULL if full_format else 1
    converted = frame.reformat(
        width=size[1],
        height=size[0],
        format="yuv444p16le",
        src_colorspace=1,
        dst_colorspace=1,
        src_color_range=span,
        dst_color_range=span,
        interpolation=_SCALING,
    )
    return converted.to_ndarray(), full_format


def _gray_codes(frame: Any) -> npt.NDArray[np.uint16]:
    luma = frame.to_ndarray().astype(np.uint16) << (16 - _bits(frame))
    codes = np.full((*luma.shape, 3), 128 * 256, np.uint16)
    codes[..., 0] = luma
    return codes


def _decoding(matrix: tuple[float, float], full: bool, bits: int) -> tuple[Tensor, Tensor]:
    """(gain [3,3], offset [3,1]) that take 16-bit codes to RGB (ITU-T H.273, equations 11-60)."""
    kr, kb = matrix
    kg = 1 - kr - kb
    red, blue = 2 * (1 - kr), 2 * (1 - kb)
    rows = [[1, 0, red], [1, -blue * kb / kg, -red * kr / kg], [1, blue, 0]]
    top = (2**bits - 1) * 2 ** (16 - bits)
    zero, luma, chroma = (0, top, top) if full else (16 * 256, 219 * 256, 224 * 256)
    gain = torch.tensor(rows, dtype=torch.float64) / torch.tensor([luma, chroma, chroma])
    offset = -gain @ torch.tensor([[zero], [128 * 256], [128 * 256]], dtype=torch.float64)
    return gain.float(), offset.float()
