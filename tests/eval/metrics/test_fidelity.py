"""PSNR and SSIM agree with scikit-image, and know the truth."""

from __future__ import annotations

import math

import pytest
import torch
from skimage.metrics import peak_signal_noise_ratio, structural_similarity

from eval.metrics.fidelity import psnr, ssim
from eval.metrics.psnr import Psnr
from eval.metrics.ssim import Ssim
from tests.eval.toys import Known, measure, picture, shifting


@pytest.mark.parametrize("seed", range(3))
def test_equal_scikit_image(seed: int) -> None:
    a = picture(40, 33, seed)
    b = (a + 0.2 * picture(40, 33, seed + 9)).clamp(0, 1)
    theirs = structural_similarity(
        a.numpy().astype("float64"),
        b.numpy().astype("float64"),
        channel_axis=0,
        data_range=1.0,
        gaussian_weights=True,
        sigma=1.5,
        use_sample_covariance=False,
    )
    assert ssim(a, b) == pytest.approx(theirs, abs=1e-6)
    expected = peak_signal_noise_ratio(a.double().numpy(), b.double().numpy(), data_range=1.0)
    assert psnr(a, b) == pytest.approx(expected, abs=1e-5)


def test_closed_forms() -> None:
    black, grey = torch.zeros(3, 16, 16), torch.full((3, 16, 16), 0.1)
    assert psnr(black, grey) == pytest.approx(20, abs=1e-5)
    assert psnr(black, black) is None
    assert ssim(grey, grey) == pytest.approx(1)


def test_truth_is_best_and_noise_is_monotone() -> None:
    source = shifting()
    truth = Known(tuple(1 - frame for frame in source))
    made = torch.Generator().manual_seed(0)
    noise = [torch.randn(frame.shape, generator=made) for frame in source]
    for metric in (Psnr(), Ssim()):
        values = []
        for sigma in (0.01, 0.05, 0.2):
            pairs = zip(truth.frames, noise, strict=True)
            result = [frame + sigma * grain for frame, grain in pairs]
            value = measure(metric, source, result, truth=truth).value
            assert value is not None
            values.append(value)
        assert values == sorted(values, reverse=True)
    assert measure(Ssim(), source, list(truth.frames), truth=truth).value == pytest.approx(1)
    row = measure(Psnr(), source, list(truth.frames), truth=truth)
    assert row.value is None and "no bound" in row.note


def test_psnr_of_a_clip_is_that_of_its_mean_squared_error() -> None:
    """One perfect frame and one that is off by .1: half of the squared error, 3 dB more than it."""
    grey = torch.full((3, 16, 16), 0.5)
    truth = Known((grey, grey))
    row = measure(Psnr(), [grey, grey], [grey, grey + 0.1], truth=truth)
    assert row.value == pytest.approx(20 + 10 * math.log10(2), abs=1e-4)
    assert row.curve[0] is None and row.n == 2
    nearly = [grey + 1e-4, grey + 0.1]
    assert measure(Psnr(), [grey] * 2, nearly, truth=truth).value == pytest.approx(23.01, abs=0.01)


def test_unknown_truth_says_so() -> None:
    row = measure(Psnr(), shifting(), shifting())
    assert row.value is None and row.note.startswith("n/a: the true translation is not known")
    assert row.curve == ()


def test_tiny_frames_have_no_ssim() -> None:
    small = [picture(8, 8)] * 2
    assert "11 x 11" in measure(Ssim(), small, small, truth=Known(tuple(small))).note
