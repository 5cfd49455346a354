"""Formats of a result besides mp4: what editors and compositors take, by the names they use."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal, TypeAlias

FormatName: TypeAlias = Literal[
    "mp4",
    "prores",
    "prores4444",
    "dnxhr",
    "h264_lossless",
    "ffv1",
    "ffv1_16",
    "qtrle",
    "png",
    "png16",
    "tiff16",
    "exr",
]


@dataclass(frozen=True)
class Format:
    """How frames are written.

    Attributes:
        name: as the configuration says it.
        suffix: of its file, or of each picture.
        bits: of a channel: 8, 10 or 16; in an exr those of half floats.
        opaque: FFmpeg's name of its pixels, where the source has no transparency.
        clear: the same with alpha; "" where the format carries none.
        container: FFmpeg's name of the file format; "" for a file for each frame.
        codec: FFmpeg's name of the encoder; "" for a file for each frame.
        options: of the encoder.
        least: (height, width) of the smallest frames that the encoder takes.
    """

    name: FormatName
    suffix: str
    bits: int
    opaque: str
    clear: str = ""
    container: str = ""
    codec: str = ""
    options: dict[str, str] = field(default_factory=dict)
    least: tuple[int, int] = (1, 1)

    @property
    def pictures(self) -> bool:
        """Whether each frame is a file of its own."""
        return not self.container

    @property
    def keeps_alpha(self) -> bool:
        """Whether transparency can be written."""
        return bool(self.clear)


_ALL = (
    # Profiles 3 and 4 are those called HQ and 4444; alpha is written in 16 bits, without loss.
    Format("prores", ".mov", 10, "yuv422p10le", "", "mov", "prores_ks", {"profile": "3"}),
    Format(
        "prores4444",
        ".mov",
        10,
        "yuv444p10le",
        "yuva444p10le",
        "mov",
        "prores_ks",
        {"profile": "4", "alpha_bits": "16"},
    ),
    Format(
        "dnxhr",
        ".mov",
        10,
        "yuv422p10le",
        "",
        "mov",
        "dnxhd",
        {"profile": "dnxhr_hqx"},
        (120, 256),
    ),
    # No quantisation, of RGB itself; every frame stands alone, so that editors scrub.
    Format(
        "h264_lossless",
        ".mov",
        8,
        "rgb24",
        "",
        "mov",
        "libx264rgb",
        {"qp": "0", "g": "1", "preset": "medium"},
    ),
    Format("ffv1", ".mkv", 8, "bgr0", "bgra", "matroska", "ffv1", {"level": "3"}),
    Format("ffv1_16", ".mkv", 16, "gbrp16le", "gbrap16le", "matroska", "ffv1", {"level": "3"}),
    Format("qtrle", ".mov", 8, "rgb24", "argb", "mov", "qtrle"),
    Format("png", ".png", 8, "rgb", "rgba"),
    Format("png16", ".png", 16, "rgb", "rgba"),
    Format("tiff16", ".tiff", 16, "rgb", "rgba"),
    Format("exr", ".exr", 16, "rgb", "rgba"),
)
FORMATS = {each.name: each for each in _ALL}
"""Every format but mp4, by its name."""
