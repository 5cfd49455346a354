"""What reading a video loses or changes is said in one line, and done by the stated rule."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
import torch

from rerender.codec import open_video
from rerender.codec.gamut import HLG, PQ, to_bt709
from tests.codec.making import make, picture, pictures
from tests.codec.test_decode import error

UNIT = Fraction(1, 25)


def streams(path: Path, sizes: list[tuple[int, int]], default: int | None) -> Path:
    """A file with a stream of pictures of each (height, width)."""
    with av.open(str(path), "w") as out:
        made = []
        for number, (height, width) in enumerate(sizes):
            stream = out.add_stream("libx264", rate=25)
            stream.height, stream.width, stream.pix_fmt = height, width, "yuv420p"
            stream.codec_context.options, stream.codec_context.thread_count = {"bf": "0"}, 1
            marks = av.stream.Disposition.default if number == default else 0
            stream.disposition = marks
            made.append(stream)
        for index in range(5):
            for stream in made:
                image = picture(index, (stream.height, stream.width))
                frame = av.VideoFrame.from_ndarray(image, format="rgb24").reformat(format="yuv420p")
                frame.pts, frame.time_base = index, UNIT
                out.mux(stream.encode(frame))
        for stream in made:
            out.mux(stream.encode(None))
    return path


@pytest.mark.parametrize(
    ("sizes", "default", "taken"),
    [
        ([(32, 32), (96, 128)], 1, 1),
        ([(96, 128), (32, 32)], 1, 1),
        ([(32, 32), (96, 128)], 0, 0),
        ([(32, 32), (96, 128), (64, 64)], None, 1),
        ([(64, 64), (64, 64)], None, 0),
    ],
)
def test_the_default_or_largest_picture_is_read(
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
    sizes: list[tuple[int, int]],
    default: int | None,
    taken: int,
) -> None:
    path = streams(tmp_path / "two.mkv", sizes, default)
    video = open_video(path)
    assert video.size == sizes[taken]
    assert all(error(video[i], picture(i, sizes[taken])) < 12 for i in range(5))
    (said,) = caplog.messages
    height, width = sizes[taken]
    assert (
        f"has {len(sizes)} pictures; stream {taken} (h264, {width}x{height}) is read, not" in said
    )


def test_alpha_is_laid_over_black(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """In every kind of pixel with alpha that is written here; opaque ones are left alone."""
    kinds = {
        ("ffv1", "yuva420p"): "mkv",
        ("ffv1", "bgra"): "mkv",
        ("ffv1", "yuva444p10le"): "mkv",
        ("prores_ks", "yuva444p10le"): "mov",
        ("qtrle", "argb"): "mov",
        ("png", "rgba"): "mov",
        ("libvpx-vp9", "yuva420p"): "webm",
        ("libvpx", "yuva420p"): "webm",
    }
    for (codec, pixels), suffix in kinds.items():
        for alpha in (255, 128):
            image = np.full((32, 32, 4), 200, np.uint8)
            image[..., 3] = 255
            image[:16, :, 3] = alpha
            path = tmp_path / f"{codec}-{pixels}-{alpha}.{suffix}"
            with av.open(str(path), "w") as out:
                stream = out.add_stream(codec, rate=25)
                stream.width = stream.height = 32
                stream.pix_fmt = pixels
                if codec.startswith("libvpx"):
                    stream.codec_context.options = {"auto-alt-ref": "0", "crf": "4", "b": "1M"}
                for index in range(3):
                    frame = av.VideoFrame.from_ndarray(image, format="rgba")
                    frame = frame.reformat(format=pixels)
                    frame.pts, frame.time_base = index, UNIT
                    out.mux(stream.encode(frame))
                out.mux(stream.encode(None))
            caplog.clear()
            video = open_video(path)
            upper, lower = video[1][:, 4:12].mean() * 255, video[1][:, 20:28].mean() * 255
            assert upper == pytest.approx(200 * alpha / 255, abs=3), path.name
            assert lower == pytest.approx(200, abs=3), path.name
            said = [f"{path}: what is transparent is laid over black"] if alpha < 255 else []
            assert [line for line in caplog.messages if "checksums" not in line] == said


def test_interlacing_is_said(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    for flags in ("", "+ildct+ilme"):
        path = tmp_path / f"fields{flags}.mpg"
        with av.open(str(path), "w") as out:
            stream = out.add_stream("mpeg2video", rate=25)
            stream.width, stream.height, stream.pix_fmt = 64, 64, "yuv420p"
            stream.codec_context.options = {"flags": flags} if flags else {}
            for index, image in enumerate(pictures(4, (64, 64))):
                frame = av.VideoFrame.from_ndarray(image, format="rgb24").reformat(format="yuv420p")
                frame.pts, frame.time_base = index, UNIT
                out.mux(stream.encode(frame))
            out.mux(stream.encode(None))
        caplog.clear()
        open_video(path)
        words = "is marked as interlaced; its two fields are read as one picture"
        assert any(words in line for line in caplog.messages) == bool(flags)


@pytest.mark.parametrize(
    ("transfer", "primaries", "matrix", "words"),
    [
        (HLG, 9, 9, "its high dynamic range (HLG) is tone-mapped to BT.709"),
        (PQ, 9, 9, "its high dynamic range (PQ) is tone-mapped to BT.709"),
        (14, 9, 9, "its wide gamut (BT.2020) is brought to BT.709"),
        (1, 12, 1, "its wide gamut (Display P3) is brought to BT.709"),
        (8, 1, 1, "its linear transfer curve is read as that of BT.709"),
        (1, 1, 1, None),
        (6, 6, 6, None),
    ],
)
def test_high_range_and_wide_gamut_are_said(
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
    transfer: int,
    primaries: int,
    matrix: int,
    words: str | None,
) -> None:
    tags: dict[str, Any] = {"transfer": transfer, "primaries": primaries, "matrix": matrix}
    path = make(tmp_path / "tags.mp4", pictures(3), pix_fmt="yuv420p10le", **tags)
    open_video(path)
    assert caplog.messages == ([f"{path}: {words}"] if words else [])


def grey(value: float) -> torch.Tensor:
    return torch.full((3, 1, 1), value)


@pytest.mark.parametrize(
    ("transfer", "black", "white", "peak"),
    # Reference white, 203 cd/m2, is 58 % of PQ and 75 % of HLG (ITU-R BT.2408, table 1); 1000 cd/m2
    # are 75.2 % of PQ and all of HLG.
    [(PQ, 0.0, 0.5807, 0.7518), (HLG, 0.0, 0.75, 1.0)],
)
def test_tone_mapping_in_known_points(
    transfer: int, black: float, white: float, peak: float
) -> None:
    points = [to_bt709(grey(value), transfer, 9) for value in (black, white, peak)]
    expected = (0.0, 0.889, 1.0)
    for found, value in zip(points, expected, strict=True):
        assert found.flatten().tolist() == pytest.approx([value] * 3, abs=4e-3)


@pytest.mark.parametrize("transfer", [PQ, HLG])
def test_tone_mapping_keeps_order_and_greys(transfer: int) -> None:
    ramp = torch.linspace(0, 1, 101).view(1, 1, -1).expand(3, -1, -1)
    mapped = to_bt709(ramp, transfer, 9)
    torch.testing.assert_close(mapped[0], mapped[1], atol=1e-4, rtol=0)
    assert (mapped[0, 0].diff() >= 0).all()
    assert mapped.min() >= 0
    assert mapped.max() <= 1


def test_wide_gamut_in_closed_form() -> None:
    """Greys stay; the red of BT.709, as BT.2020 and P3 write it, comes out as pure red."""
    torch.testing.assert_close(to_bt709(grey(0.4), 14, 9), grey(0.4), atol=1e-5, rtol=0)
    for primaries, red in ((9, (0.6274, 0.0691, 0.0164)), (12, (0.8225, 0.0332, 0.0171))):
        signal = torch.tensor(red).view(3, 1, 1) ** (1 / 2.4)
        found = to_bt709(signal, 1, primaries).flatten()
        assert found[0] == pytest.approx(1, abs=2e-3)
        assert found[1:].max() < 0.06
