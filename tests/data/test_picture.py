"""A picture is read right or refused by name, whatever its bytes are; what is lost is said."""

from __future__ import annotations

import io
import os
import random
import struct
import time
import zlib
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from eval.results import discover
from rerender.codec import FORMATS
from rerender.codec.still import still
from rerender.data import picture
from rerender.data.folder import Folder
from rerender.data.pictures import Pictures
from rerender.errors import InputError
from rerender.exits import failure
from rerender.keyframes._numbered import numbered
from tests.codec.making import picture as drawn

KINDS: dict[str, dict[str, Any]] = {
    "PNG": {},
    "JPEG": {"quality": 95},
    "WEBP": {"lossless": True},
    "TIFF": {},
    "TIFF lzw": {"compression": "tiff_lzw"},
    "BMP": {},
    "GIF": {},
    "AVIF": {},
    "JPEG2000": {},
}
READ = [kind for kind in KINDS if kind.split()[0] in ("PNG", "JPEG", "WEBP", "TIFF", "BMP")]
PHOTO = Image.fromarray(drawn(3))


def encoded(kind: str, image: Image.Image = PHOTO, **more: Any) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind.split()[0], **{**KINDS[kind], **more})
    return buffer.getvalue()


def put(path: Path, data: bytes) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)
    return path


def mutant(data: bytes, seed: int) -> bytes:
    """Damage as it happens: flipped, cut, blanked, inserted and repeated bytes."""
    rolled, made = random.Random(seed), bytearray(data)
    place = rolled.randrange(len(made))
    match seed % 5:
        case 0:
            for _ in range(rolled.choice([1, 4, 16])):
                made[rolled.randrange(min(len(made), rolled.choice([64, 10**9])))] ^= (
                    1 + rolled.randrange(255)
                )
        case 1:
            del made[place:]
        case 2:
            made[place : place + 16] = bytes(len(made[place : place + 16]))
        case 3:
            made[place:place] = rolled.randbytes(8)
        case _:
            made[place:place] = made[: rolled.randrange(200)]
    return bytes(made)


@pytest.mark.parametrize("kind", KINDS)
def test_damaged_pictures_are_read_or_refused(kind: str, tmp_path: Path) -> None:
    """Sixty mutants of each format: code 3 naming the file, never 70, none slow."""
    whole, codes = encoded(kind), Counter[int]()
    for seed in range(60):
        path, begun = put(tmp_path / "key-0001.png", mutant(whole, seed)), time.process_time()
        try:
            image = picture.read(path).image
            assert image.shape[0] == 3 and image.isfinite().all()
            codes[0] += 1
        except Exception as error:
            code, line = failure(error)
            codes[code] += 1
            assert line.startswith(f"{path}: ") and "0x" not in line and "\n" not in line
        assert time.process_time() - begun < 1
    assert set(codes) <= {0, 3} and codes[3] >= 12  # all that were cut at least


@pytest.mark.parametrize("kind", READ)
def test_pictures_that_are_cut_off_are_refused(kind: str, tmp_path: Path) -> None:
    whole = encoded(kind)
    true = torch.from_numpy(drawn(3)).permute(2, 0, 1) / 255
    read = picture.read(put(tmp_path / "a.png", whole)).image
    assert (read - true).abs().mean() < (0.02 if kind == "JPEG" else 1e-6)
    for length in (
        0,
        1,
        7,
        20,
        *range(30, len(whole) - 2, max(len(whole) // 40, 1)),
        len(whole) - 2,
    ):
        with pytest.raises(InputError, match="cannot be read as a picture"):
            picture.read(put(tmp_path / "a.png", whole[:length]))


def by_keys(folder: Path) -> object:
    return Pictures(tuple(numbered(folder).values()), rate=1)


def by_folder(folder: Path) -> object:
    return Folder(folder, "oil").clips()


def by_eval(folder: Path) -> object:
    (outcome,) = discover(folder.parent.parent)
    return outcome.alone()


@pytest.mark.parametrize("reader", [by_keys, by_folder, by_eval])
@pytest.mark.parametrize("content", [b"hello", b"", b"\x89PNG\r\n\x1a\n", b"II*\0" + b"\xff" * 40])
def test_every_reader_names_the_file(
    reader: Callable[[Path], object], content: bytes, tmp_path: Path
) -> None:
    folder = tmp_path / "method" / "clip"
    for index in range(2):
        put(folder / f"{index:05d}.png", encoded("PNG"))
    put(folder / "00002.png", content)
    with pytest.raises(InputError, match=r"00002\.png: cannot be read as a picture"):
        reader(folder)


def claiming(kind: str, width: int, height: int) -> bytes:
    """A small file whose header claims a size."""
    data = bytearray(encoded(kind))
    match kind:
        case "PNG":
            header = b"IHDR" + struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
            data[12:33] = header + struct.pack(">I", zlib.crc32(header))
        case "BMP":
            data[18:26] = struct.pack("<ii", width, height)
        case "WEBP":
            canvas = struct.pack("<I", width - 1)[:3] + struct.pack("<I", height - 1)[:3]
            data[12:12] = b"VP8X" + struct.pack("<I", 10) + bytes(4) + canvas
            data[4:8] = struct.pack("<I", len(data) - 8)
        case "JPEG":
            place = data.index(b"\xff\xc0")
            data[place + 5 : place + 9] = struct.pack(">HH", height, width)
        case _:
            for tag, value in ((256, width), (257, height)):
                entry = struct.pack("<HHI", tag, 4, 1)
                short = struct.pack("<HHI", tag, 3, 1)
                place = max(data.find(entry), data.find(short))
                data[place : place + 12] = entry + struct.pack("<I", value)
    return bytes(data)


@pytest.mark.parametrize("kind", READ)
@pytest.mark.parametrize("size", [(16_000, 16_000), (12_000, 9_000), (8_000, 4_200)])
def test_a_small_header_with_a_huge_claim_is_refused_at_once(
    kind: str, size: tuple[int, int], tmp_path: Path
) -> None:
    """The limit is that of videos, and is told from the header."""
    path, begun = put(tmp_path / "a.png", claiming(kind, *size)), time.process_time()
    words = "pixels, at most|could not create decoder"  # the latter where WebP opens nothing
    with pytest.raises(InputError, match=rf"a\.png: .*({words})"):
        picture.read(path)
    assert time.process_time() - begun < 1


def test_a_file_without_end_is_not_read(tmp_path: Path) -> None:
    with (tmp_path / "a.png").open("wb") as file:
        file.truncate(2**40)
    with pytest.raises(InputError, match="no picture of"):
        picture.read(tmp_path / "a.png")


def deep(path: Path) -> None:
    Image.fromarray(drawn(0)[..., 0].astype(np.uint16) * 257).save(path)


def deep_colour(path: Path) -> None:
    rows = b"".join(b"\0" + bytes(48) for _ in range(8))
    chunks = [(b"IHDR", struct.pack(">IIBBBBB", 8, 8, 16, 2, 0, 0, 0))]
    chunks += [(b"IDAT", zlib.compress(rows)), (b"IEND", b"")]
    packed = (
        struct.pack(">I", len(b)) + a + b + struct.pack(">I", zlib.crc32(a + b)) for a, b in chunks
    )
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + b"".join(packed))


def turned(path: Path) -> None:
    tags = Image.Exif()
    tags[0x0112] = 6
    PHOTO.save(path, exif=tags)


def moving(path: Path) -> None:
    PHOTO.save(path, save_all=True, append_images=[Image.fromarray(drawn(9))])


def profiled(path: Path) -> None:
    PHOTO.save(path, icc_profile=b"\0" * 128 + b"D\0i\0s\0p\0l\0a\0y\0 \0P\0003")


@pytest.mark.parametrize(
    ("name", "write", "note"),
    [
        ("a.png", lambda path: PHOTO.convert("P").save(path), None),
        ("a.png", lambda path: PHOTO.convert("L").save(path), None),
        ("a.png", lambda path: PHOTO.convert("1").save(path), None),
        ("a.png", lambda path: PHOTO.convert("RGBA").save(path), None),
        ("a.png", lambda path: Image.new("RGBA", (8, 8), (9, 9, 9, 254)).save(path), picture.CLEAR),
        ("a.png", lambda path: Image.new("LA", (8, 8), (9, 0)).save(path), picture.CLEAR),
        ("a.png", lambda path: Image.new("P", (8, 8)).save(path, transparency=0), picture.CLEAR),
        ("a.webp", lambda path: Image.new("RGBA", (8, 8)).save(path), picture.CLEAR),
        ("a.tif", lambda path: Image.new("RGBA", (8, 8)).save(path), picture.CLEAR),
        ("a.png", deep, None),
        ("a.tif", deep, None),
        ("a.png", deep_colour, None),
        ("a.jpg", lambda path: PHOTO.convert("CMYK").save(path), picture.INKS),
        ("a.tif", lambda path: PHOTO.convert("CMYK").save(path), picture.INKS),
        ("a.jpg", turned, picture.TURNED),
        ("a.png", turned, picture.TURNED),
        ("a.png", moving, picture.SEVERAL),
        ("a.webp", moving, picture.SEVERAL),
        ("a.tif", moving, picture.SEVERAL),
        ("a.png", profiled, picture.PROFILE),
    ],
)
def test_what_reading_reduces_is_said(
    name: str,
    write: Callable[[Path], None],
    note: str | None,
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
) -> None:
    write(tmp_path / name)
    assert picture.read(tmp_path / name).notes == ((note,) if note else ())
    Pictures([tmp_path / name], 25)
    assert caplog.messages == (
        [f"{tmp_path}: 1 of 1 pictures have {note} ({name})"] if note else []
    )


def test_transparency_is_composited_on_black(tmp_path: Path) -> None:
    half = Image.new("RGBA", (4, 4), (200, 100, 50, 128))
    half.save(tmp_path / "a.png")
    levels = picture.read(tmp_path / "a.png").image[:, 0, 0] * 255
    assert levels.round().tolist() == [100, 50, 25]


def test_a_picture_is_turned_upright(tmp_path: Path) -> None:
    turned(tmp_path / "a.png")
    upright = torch.from_numpy(np.rot90(drawn(3), -1).copy()).permute(2, 0, 1) / 255
    torch.testing.assert_close(picture.read(tmp_path / "a.png").image, upright)


@pytest.mark.parametrize("values", [np.float32(0.5), np.int32(2**20), np.int32(-5)])
def test_values_that_are_no_levels_are_refused(values: Any, tmp_path: Path) -> None:
    Image.fromarray(np.full((8, 8), values)).save(tmp_path / "a.tif")
    with pytest.raises(InputError, match="8 or 16 bits are read"):
        picture.read(tmp_path / "a.tif")


@pytest.mark.parametrize("name", ["png16", "tiff16", "exr"])
@pytest.mark.parametrize("clear", [False, True])
def test_what_is_written_deep_is_read_deep(name: Any, clear: bool, tmp_path: Path) -> None:
    """16 bits and alpha there and back; a whole folder of them, and a damaged one."""
    if name == "exr":
        pytest.importorskip("OpenEXR")
    form, noise = FORMATS[name], torch.Generator().manual_seed(1)
    colours = torch.randint(0, 65536, (3, 40, 56), generator=noise) / 65535
    alpha = torch.randint(1, 256, (1, 40, 56), generator=noise) / 255 if clear else None
    for index in range(2):
        put(tmp_path / f"{index:06d}{form.suffix}", still(colours, alpha, form))
    video = Pictures.of(tmp_path, 25)
    assert (len(video), video.size, video.transparent) == (2, (40, 56), clear)
    if alpha is None:
        near = 2 / 65535 if name != "exr" else 1e-3
        torch.testing.assert_close(video[1], colours, rtol=0, atol=near)
        assert (video[1] * 255 % 1).std() > 0.2, "between the levels of 8 bits"
    else:
        assert torch.equal((video.alpha(1) * 255).round(), (alpha * 255).round())
        torch.testing.assert_close(video[1], colours * alpha, rtol=0, atol=2e-3)
    whole = still(colours, alpha, form)
    for length in (5, 100, len(whole) // 2, len(whole) - 9):
        with pytest.raises(InputError, match="cannot be read as a picture"):
            picture.read(put(tmp_path / f"000001{form.suffix}", whole[:length]))
    put(tmp_path / f"000001{form.suffix}", still(colours[:, :30], None, form))
    with pytest.raises(InputError, match="is 56x30, 000000"):
        Pictures.of(tmp_path, 25)


def test_damaged_exr_is_read_or_refused(tmp_path: Path) -> None:
    pytest.importorskip("OpenEXR")
    colours = torch.rand(3, 24, 32, generator=torch.Generator().manual_seed(2))
    whole, codes = still(colours, None, FORMATS["exr"]), Counter[int]()
    for seed in range(60):
        path = put(tmp_path / "a.exr", mutant(whole, seed))
        try:
            assert picture.read(path).image.isfinite().all()
            codes[0] += 1
        except Exception as error:
            code, line = failure(error)
            codes[code] += 1
            assert line.startswith(f"{path}: ") and "\n" not in line
    assert set(codes) <= {0, 3} and codes[3] >= 12


def test_light_that_an_exr_holds(tmp_path: Path) -> None:
    library = pytest.importorskip("OpenEXR")
    header = {"type": library.scanlineimage}

    def put_exr(**channels: Any) -> Path:
        library.File(header, channels).write(str(tmp_path / "a.exr"))
        return tmp_path / "a.exr"

    grey = np.full((4, 6), 0.21404, np.float32)
    assert picture.read(put_exr(Y=grey)).image[:, 0, 0].tolist() == pytest.approx(
        [0.5] * 3, abs=1e-4
    )
    bright = picture.read(put_exr(RGB=np.full((4, 6, 3), 7, np.float32)))
    assert bright.image.max() == 1 and bright.notes == (picture.BRIGHT,)
    for channels, problem in (
        ({"Z": grey}, "R, G, B or Y"),
        ({"Y": grey * np.nan}, "NaN"),
        ({"Y": grey.astype(np.uint32)}, "whole numbers"),
    ):
        with pytest.raises(InputError, match=problem):
            picture.read(put_exr(**channels))


def test_exr_passes_beside_frames_are_passed_over(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    for index in range(2):
        put(tmp_path / f"{index:04d}.png", encoded("PNG"))
        put(tmp_path / f"{index:04d}_depth.exr", b"v/1\x01")
    assert len(Pictures.of(tmp_path, 25)) == 2
    assert "passed over: 0000_depth.exr, 0001_depth.exr" in caplog.text


def test_a_pipe_is_no_picture(tmp_path: Path) -> None:
    """Nobody waits for who might write to it."""
    os.mkfifo(tmp_path / "pipe.png")
    with pytest.raises(InputError, match="is a pipe or a device"):
        picture.read(tmp_path / "pipe.png")
