"""Slices of H.264 end where their picture does; where they do not, bytes were changed."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest

from rerender.codec import open_video
from rerender.codec.picture_ends import overrun, taller
from rerender.errors import InputError
from tests.codec.making import make, packets, pictures

GRAIN = np.random.default_rng(1).integers(-12, 12, (96, 128, 3))
GRAINY = [np.clip(image + GRAIN, 0, 255).astype(np.uint8) for image in pictures(9, (96, 128))]
KINDS = {
    "plain": {},
    "no arithmetic code": {"profile": "baseline"},
    "several slices": {"slices": "4"},
    "slices of any length": {"x264-params": "slice-max-size=300"},
    "two fields in a frame": {"x264-params": "tff=1"},
    "two fields, slices": {"x264-params": "bff=1:slices=3"},
    "scaling matrices": {"x264-params": "cqm=jvt"},
    "parameter sets at every key frame": {"x264-params": "annexb=1:repeat-headers=1:aud=1"},
}


def made(path: Path, kind: str, height: int = 96, **more: str) -> Path:
    options = {"crf": "20", **KINDS[kind], **more}
    unit = Fraction(1, 25 if path.suffix == ".avi" else 1000)
    return make(path, [image[:height] for image in GRAINY], options=options, unit=unit)


def found(path: Path) -> int | None:
    with av.open(str(path)) as container:
        stream = container.streams.video[0]
        return overrun(container.demux(stream), stream, 2**62)


def parameters(path: Path) -> bytes:
    with av.open(str(path)) as container:
        extra = container.streams.video[0].codec_context.extradata
    assert extra is not None
    return extra[8 : 8 + int.from_bytes(extra[6:8], "big")]


@pytest.mark.parametrize("kind", ["plain", "two fields in a frame", "scaling matrices"])
def test_a_parameter_set_is_that_of_a_taller_picture(kind: str, tmp_path: Path) -> None:
    """As an encoder itself writes it. A unit of height is 16 rows, 32 where a frame has two fields;
    64 rows and 4 units are the fewest bits, 80 and 5 one more."""
    rows = 32 if kind == "two fields in a frame" else 16
    for height in (32, 64):
        given = {"level": "3"}
        low, high = (
            made(tmp_path / f"{size}.mp4", kind, size, **given) for size in (height, height + rows)
        )
        assert taller(parameters(low)) == parameters(high)


@pytest.mark.parametrize("suffix", [".mp4", ".ts", ".avi", ".flv"])
@pytest.mark.parametrize("kind", KINDS)
def test_whole_pictures_end_where_their_slices_do(kind: str, suffix: str, tmp_path: Path) -> None:
    path = made(tmp_path / f"whole{suffix}", kind)
    assert found(path) is None
    assert len(open_video(path)) == len(GRAINY)


@pytest.mark.parametrize("kind", ["plain", "two fields in a frame", "several slices"])
def test_slices_that_go_on_are_damaged(kind: str, tmp_path: Path) -> None:
    """Of changes of one byte of the last picture that its decoder passes, about half are found: its
    end matters little, and what ends with it may be another picture."""
    path = made(tmp_path / "whole.mp4", kind)
    data, last = path.read_bytes(), packets(path, "video")[-1][1]
    begin, passed, told, mutant = data.index(last), 0, 0, tmp_path / "mutant.mp4"
    for offset in range(24, len(last), max(len(last) // 24, 1)):
        damaged = bytearray(data)
        damaged[begin + offset] ^= 0x55
        mutant.write_bytes(damaged)
        if not complains(mutant):
            passed += 1
            told += found(mutant) is not None
    assert passed > 4
    assert told >= 0.4 * passed
    mutant.write_bytes(data)
    assert found(mutant) is None


def complains(path: Path) -> bool:
    with av.open(str(path)) as container:
        stream = container.streams.video[0]
        stream.codec_context.options = {"err_detect": "explode"}
        try:
            frames = [*container.decode(stream)]
        except av.error.FFmpegError:
            return True
    return len(frames) != len(GRAINY) or any(frame.is_corrupt for frame in frames)


def test_such_a_video_is_refused_and_its_beginning_can_be_had(tmp_path: Path) -> None:
    path = made(tmp_path / "whole.mp4", "plain")
    data, last = path.read_bytes(), packets(path, "video")[-1][1]
    mutant, begin = tmp_path / "mutant.mp4", data.index(last)
    for offset in range(24, len(last)):
        damaged = bytearray(data)
        damaged[begin + offset] ^= 0x55
        mutant.write_bytes(damaged)
        if not complains(mutant) and found(mutant) is not None:
            break
    with pytest.raises(InputError, match=r"frame \d of 9 is damaged.*allow_truncated=true"):
        open_video(mutant, allow_truncated=False)
    for _ in range(4):  # FFmpeg leaves out lines that repeat those of the look before
        assert 0 < len(open_video(mutant, allow_truncated=True)) < 9
        assert found(mutant) == found(mutant) is not None


def test_what_is_no_parameter_set_stops_nothing(tmp_path: Path) -> None:
    for unit in (b"", b"\x67", b"\x67\x64\0\x1f", bytes(40)):
        with pytest.raises((ValueError, IndexError)):
            taller(unit)
