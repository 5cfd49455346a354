"""Structure, motion, flicker, colour drift and DINO features on pictures with known answers."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from skimage.color import rgb2lab
from torch import Tensor

from eval.metrics.color_drift import ColorDrift, lab
from eval.metrics.dino import Dino
from eval.metrics.flicker import Flicker
from eval.metrics.motion_kept import MotionKept
from eval.metrics.sharpness_drift import SharpnessDrift
from eval.metrics.structure import Structure
from rerender.errors import ConfigError
from rerender.flow.dis import Dis
from tests.eval.toys import Shift, measure, picture


def square(left: int, top: int = 12, side: int = 24, level: float = 1.0) -> Tensor:
    image = torch.zeros(3, 48, 48)
    image[:, top : top + side, left : left + side] = level
    return image


def grey(level: float) -> Tensor:
    return torch.full((3, 16, 16), level)


def test_structure_kept_moved_and_lost() -> None:
    source = [square(12)] * 3
    assert measure(Structure(), source, [square(12, level=0.8)] * 3).value == 1
    assert measure(Structure(), source, [square(14)] * 3).value == 1  # within reach
    moved = measure(Structure(), source, [square(18)] * 3).value
    assert moved is not None and 0.4 < moved < 0.9
    assert measure(Structure(), source, [grey(0.5).repeat(1, 3, 3)] * 3).value == 0


def test_structure_reaches_as_far_in_every_direction() -> None:
    """A dot reaches the pixels of a disc, and no others."""
    edges = Structure(reach=2)
    dot = np.zeros((9, 9), bool)
    dot[4, 4] = True
    near = edges._near(dot)
    y, x = np.mgrid[:9, :9] - 4
    assert (near == (x**2 + y**2 <= 4)).all() and near.sum() == 13


def test_structure_without_source_edges_is_null() -> None:
    row = measure(Structure(), [grey(0.5)] * 2, [picture(16, 16)] * 2)
    assert row.value is None and row.note.startswith("n/a")


def test_structure_noise_is_monotone() -> None:
    made = torch.Generator().manual_seed(0)
    noise = torch.randn(3, 48, 48, generator=made)
    values = [
        measure(Structure(), [square(12)], [(square(12) * 0.8 + s * noise).clamp(0, 1)]).value
        for s in (0, 0.1, 0.15)
    ]
    assert values == sorted(values, key=lambda v: -(v or 0)) and values[0] == 1


def textured(shift: int) -> Tensor:
    wide = F.interpolate(picture(12, 24, 4)[None], scale_factor=8, mode="bicubic")[0].clamp(0, 1)
    return wide[:, :, 40 - shift : 40 - shift + 96]


def test_motion_kept_is_the_end_point_error() -> None:
    moving, still = [textured(2 * i) for i in range(4)], [textured(0)] * 4
    metric = MotionKept(estimator=Dis())
    assert measure(metric, moving, moving).value == pytest.approx(0, abs=1e-6)
    stopped = measure(metric, moving, still)
    assert stopped.value == pytest.approx(2, abs=0.1) and stopped.curve[0] is None
    doubled = measure(metric, [textured(i) for i in range(4)], [textured(3 * i) for i in range(4)])
    assert doubled.value == pytest.approx(2, abs=0.1)


def test_motion_kept_uses_its_own_estimator() -> None:
    frames = [picture()] * 3
    assert measure(MotionKept(estimator=Shift(1)), frames, frames, step=5).value == 0


def test_flicker_knows_a_jump_from_a_drift() -> None:
    source = [grey(0.5)] * 9
    assert measure(Flicker(), source, [grey(0.1 * i) for i in range(9)]).value == pytest.approx(
        0, abs=1e-7
    )
    jumping = measure(Flicker(), source, [grey(0.4 + 0.1 * (i % 2)) for i in range(9)])
    assert jumping.value == pytest.approx(0.2, rel=1e-5)
    assert jumping.curve[:2] == (None, None) and jumping.n == 7
    values = [
        measure(Flicker(), source, [grey(0.5 + a * (i % 2)) for i in range(9)]).value
        for a in (0, 0.05, 0.1)
    ]
    assert values == pytest.approx([0, 0.1, 0.2], abs=1e-6)


def test_flicker_in_one_corner_is_seen_by_cells_only() -> None:
    def corner(i: int) -> Tensor:
        image = grey(0.5)
        image[:, :8, :8] += 0.1 * (i % 2)
        image[:, 8:, 8:] -= 0.1 * (i % 2)  # the mean of the frame stays
        return image

    frames = [corner(i) for i in range(6)]
    assert measure(Flicker(cells=1), frames, frames).value == pytest.approx(0, abs=1e-7)
    assert measure(Flicker(cells=2), frames, frames).value == pytest.approx(0.1, rel=1e-5)


def test_color_drift_is_delta_e_beyond_the_source() -> None:
    # Linear light of 8-bit grey 0.5 and 0.6 gives L* 53.39 and 63.22 (CIE 1976, by hand).
    still = [grey(0.5)] * 2
    row = measure(ColorDrift(), still, [grey(0.5), grey(0.6)])
    assert row.value == pytest.approx(9.83, abs=0.1)
    assert row.curve[0] is None
    fading = [grey(0.5), grey(0.6)]
    assert measure(ColorDrift(), fading, fading).value == pytest.approx(0, abs=1e-6)
    assert measure(ColorDrift(), still, [grey(0.7)] * 2).value == pytest.approx(0, abs=1e-6)


def test_lab_is_exact() -> None:
    """Against scikit-image, whose matrix has six digits, and known values of primaries."""
    image = picture(20, 20, 7)
    theirs = rgb2lab(image.permute(1, 2, 0).double().numpy())
    assert lab(image).permute(1, 2, 0).numpy() == pytest.approx(theirs, abs=0.02)
    white, black, grey_ = (lab(grey(level))[:, 0, 0].tolist() for level in (1.0, 0.0, 0.5))
    assert white == pytest.approx([100, 0, 0], abs=1e-9)
    assert black == pytest.approx([0, 0, 0], abs=1e-9)
    linear = ((0.5 + 0.055) / 1.055) ** 2.4
    assert grey_ == pytest.approx([116 * linear ** (1 / 3) - 16, 0, 0], abs=1e-9)


def test_color_drift_grows_along_the_clip() -> None:
    frames = [grey(0.3 + 0.02 * i) for i in range(20)]
    curve = measure(ColorDrift(), [grey(0.3)] * 20, frames).curve[1:]
    assert list(curve) == sorted(curve, key=lambda v: v or 0) and (curve[-1] or 0) > 30


def test_sharpness_drift_is_gradient_energy_beyond_the_source() -> None:
    """Half the contrast is a quarter of the energy, 6.02 dB less."""
    sharp = picture(24, 24)
    weak = 0.5 + (sharp - 0.5) / 2
    row = measure(SharpnessDrift(), [sharp] * 3, [sharp, weak, sharp])
    assert row.curve[0] is None
    assert list(row.curve[1:]) == pytest.approx([-6.0206, 0], abs=1e-3)
    assert row.value == pytest.approx(3.0103, abs=1e-3)
    fading = [sharp, weak]
    assert measure(SharpnessDrift(), fading, fading).value == pytest.approx(0, abs=1e-6)
    assert measure(SharpnessDrift(), [sharp] * 2, [weak] * 2).value == pytest.approx(0, abs=1e-6)
    flat = measure(SharpnessDrift(), [sharp] * 2, [sharp, grey(0.5).repeat(1, 2, 2)[:, :24, :24]])
    assert flat.value is not None and flat.value > 30


@pytest.fixture(scope="module")
def dino(tmp_path_factory: pytest.TempPathFactory) -> str:
    from transformers import Dinov2Config, Dinov2Model

    path = tmp_path_factory.mktemp("dino")
    torch.manual_seed(0)
    config = Dinov2Config(
        hidden_size=24, num_hidden_layers=2, num_attention_heads=2, image_size=28, patch_size=7
    )
    Dinov2Model(config).save_pretrained(path)
    return str(path)


def test_dino_is_zero_for_the_source_and_monotone_in_noise(dino: str) -> None:
    metric = Dino(weights=dino, size=28)
    source = [picture(28, 28, i) for i in range(2)]
    values = []
    for strength in (0, 0.3, 0.9):
        result = [f * (1 - strength) + strength * picture(28, 28, 9) for f in source]
        values.append(measure(metric, source, result).value or 0)
    assert values[0] == pytest.approx(0, abs=1e-8)
    assert values == sorted(values) and values[2] > values[1] > 0


def test_dino_without_weights(tmp_path: Path) -> None:
    row = measure(Dino(weights=str(tmp_path)), [picture()], [picture()])
    assert row.value is None and row.note.startswith("n/a: weights not found")


@pytest.mark.parametrize(
    "make",
    [
        lambda: Structure(low=200.0, high=100.0),
        lambda: Structure(reach=-1),
        lambda: Flicker(cells=0),
        lambda: Dino(weights="x", size=0),
    ],
)
def test_bad_fields_are_refused(make: type) -> None:
    with pytest.raises(ConfigError, match="received"):
        make()
