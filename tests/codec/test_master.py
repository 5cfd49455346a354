"""Formats besides mp4: what is read back is what was given, alpha too; same frames, same bytes."""

from __future__ import annotations

import io
from fractions import Fraction
from pathlib import Path

import av
import cv2
import numpy as np
import pytest
import torch
from torch import Tensor

from rerender.codec import FORMATS, assemble, check_format, open_video, packed, sound_of
from rerender.codec.still import to_light, to_signal
from rerender.errors import ConfigError
from rerender.fitting import fit
from rerender.video import MemoryVideo
from tests.codec.making import make, pictures

SIZE = (131, 257)  # odd: what needs even sides repeats its last column
CLEAR = ("ffv1", "ffv1_16", "qtrle")
LOSSLESS = ("h264_lossless", *CLEAR)


def smooth(count: int = 3, bits: int = 8) -> list[Tensor]:
    y, x = torch.meshgrid(*(torch.linspace(0, 1, side) for side in SIZE), indexing="ij")
    top = 2**bits - 1
    images = [torch.stack([x, y, 1 - x * y]) * (0.7 + 0.1 * k) for k in range(count)]
    return [(image * top).round() / top for image in images]


class Clear(MemoryVideo):
    """Frames laid over black, with alpha of random bytes."""

    transparent = True

    def alpha(self, index: int) -> Tensor:
        noise = torch.Generator().manual_seed(index)
        return torch.randint(0, 256, (1, *self.size), generator=noise) / 255


def film(name: str, video: MemoryVideo, folder: Path) -> Path:
    form = FORMATS[name]  # type: ignore[index]
    frames = [packed(image, video, index, form) for index, image in enumerate(video)]
    path, data = folder / f"{name}{form.suffix}", [io.BytesIO(), io.BytesIO()]
    for file in data:
        made = assemble(form, video, frames.__getitem__, file)
        assert made.frames == len(video)
    assert data[0].getvalue() == data[1].getvalue()
    path.write_bytes(data[0].getvalue())
    return path


@pytest.mark.parametrize("name", LOSSLESS)
def test_lossless_is_exact(name: str, tmp_path: Path) -> None:
    form = FORMATS[name]  # type: ignore[index]
    images = smooth(bits=form.bits)
    found = open_video(film(name, MemoryVideo(images, Fraction(24)), tmp_path))
    assert (len(found), found.size, found.transparent) == (3, SIZE, False)
    for index, image in enumerate(images):
        torch.testing.assert_close(found[index], image, rtol=0, atol=1e-6)


@pytest.mark.parametrize(("name", "levels"), [("prores", 3), ("prores4444", 2), ("dnxhr", 3)])
def test_edit_formats_have_colours_times_and_even_sides(
    name: str, levels: float, tmp_path: Path
) -> None:
    images = smooth()
    found = open_video(film(name, MemoryVideo(images, Fraction(24)), tmp_path))
    height, width = SIZE
    assert found.size == (height, width + ("4444" not in name))
    assert list(found.timestamps) == [Fraction(i, 24) for i in range(3)]
    assert found.end == Fraction(3, 24)
    for index, image in enumerate(images):
        assert (found[index][:, :, :width] - image).abs().max() * 255 <= levels


@pytest.mark.parametrize("name", [*CLEAR, "prores4444"])
def test_alpha_comes_back_to_the_byte(name: str, tmp_path: Path) -> None:
    video = Clear([torch.zeros(3, *SIZE)] * 3)
    found = open_video(film(name, video, tmp_path))
    assert found.transparent
    for index in range(3):
        assert torch.equal((found.alpha(index) * 255).round(), video.alpha(index) * 255)


def test_straight_colours_over_black_are_the_image(tmp_path: Path) -> None:
    alphas = Clear([torch.zeros(3, *SIZE)])
    image = smooth(1)[0] * alphas.alpha(0)  # no pixel is brighter than its alpha
    found = open_video(film("ffv1_16", Clear([image]), tmp_path))
    assert (found[0] - image).abs().max() * 255 < 0.01


def test_alpha_of_a_file_follows_its_frames_at_any_size(tmp_path: Path) -> None:
    video = Clear([torch.zeros(3, *SIZE)] * 3)
    found = open_video(film("ffv1", video, tmp_path))
    assert torch.equal(found.alpha(2), open_video(found.path, 2).alpha(0))
    assert torch.equal(found.alpha(0), open_video(found.path, 0, 1).alpha(0))
    fitted = fit(found, 64, 8)
    assert fitted.transparent and fitted.alpha(1).shape == (1, *fitted.output_size)


@pytest.mark.parametrize("name", ["png", "png16", "tiff16"])
@pytest.mark.parametrize("clear", [False, True])
def test_pictures_keep_their_depth_and_alpha(name: str, clear: bool) -> None:
    form = FORMATS[name]  # type: ignore[index]
    images, top = smooth(1, form.bits), 2**form.bits - 1
    alpha = Clear(images).alpha(0)
    video = Clear([images[0] * alpha]) if clear else MemoryVideo(images)
    data = packed(video[0], video, 0, form)
    found = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_UNCHANGED)
    assert found is not None
    assert found.dtype == (np.uint8 if form.bits == 8 else np.uint16)
    assert found.shape == (*SIZE, 4 if clear else 3)
    rgb = torch.from_numpy(found[..., 2::-1].astype(np.float64)).permute(2, 0, 1)
    if clear:
        assert torch.equal(
            torch.from_numpy(found[..., 3].astype(np.float32)), (alpha[0] * top).round()
        )
        seen = (alpha[0] > 0).expand(3, -1, -1)
        assert (rgb - images[0] * top).abs()[seen].max() <= 1
    else:
        assert torch.equal(rgb, (images[0].double() * top).round())


def test_exr_holds_linear_light_with_premultiplied_alpha(tmp_path: Path) -> None:
    library = pytest.importorskip("OpenEXR")
    images = smooth(1)
    alpha = Clear(images).alpha(0)
    video = Clear([images[0] * alpha])
    path = tmp_path / "a.exr"
    path.write_bytes(packed(video[0], video, 0, FORMATS["exr"]))
    found = library.File(str(path)).channels()["RGBA"].pixels
    assert found.dtype == np.float16
    rgba = torch.from_numpy(found.astype(np.float64)).permute(2, 0, 1)
    assert torch.equal((rgba[3] * 255).round(), (alpha[0] * 255).round().double())
    expected = to_light(images[0].double()) * alpha
    torch.testing.assert_close(rgba[:3], expected, rtol=2e-3, atol=1e-5)


def test_the_curve_of_srgb_and_back() -> None:
    signal = torch.linspace(0, 1, 1001, dtype=torch.float64)
    torch.testing.assert_close(to_signal(to_light(signal)), signal, rtol=0, atol=1e-6)
    assert to_light(torch.tensor(0.5)).item() == pytest.approx(0.21404, abs=1e-5)


def test_sound_is_kept_in_each_container(tmp_path: Path) -> None:
    source = open_video(make(tmp_path / "a.mp4", pictures(25), sound=1.0))
    for name in ("prores", "ffv1"):
        form = FORMATS[name]
        frames = [packed(image, source, index, form) for index, image in enumerate(source)]
        path = tmp_path / f"out{form.suffix}"
        with path.open("wb+") as file:
            assert assemble(form, source, frames.__getitem__, file).audio == "copied"
        found = open_video(path)
        assert len(found) == 25
        assert found.audio == path
        assert found.timestamps[0] == 0


def test_frames_too_small_for_dnxhr_are_refused() -> None:
    with pytest.raises(ConfigError, match="at least 256x120"):
        check_format(FORMATS["dnxhr"], MemoryVideo([torch.zeros(3, 64, 64)]))


def test_the_sound_beside_pictures(tmp_path: Path) -> None:
    source = open_video(make(tmp_path / "a.mp4", pictures(25), sound=1.0), 5, 15)
    with (tmp_path / "sound.m4a").open("wb+") as file:
        assert sound_of(source, file) == "copied"
    with av.open(str(tmp_path / "sound.m4a")) as found:
        samples = sum(frame.samples for frame in found.decode(audio=0))
        assert not found.streams.video
    assert samples / 16_000 == pytest.approx(0.6, abs=0.13), "whole packets of 64 ms"
    silent = open_video(make(tmp_path / "b.mp4", pictures(3)))
    assert sound_of(silent, io.BytesIO()) == "none"
