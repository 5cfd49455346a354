"""PSNR and SSIM of two images, and the truth that a result is held against."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from eval.contracts import Moment, Trial, UnavailableError
from rerender.fitting import resize
from rerender.video import Truth


def need_truth(trial: Trial) -> None:
    """Refuse clips whose true translation is unknown.

    Raises:
        UnavailableError: there is nothing to compare with.
    """
    truth = trial.clip.truth
    if truth is None or truth.translation(0) is None:
        raise UnavailableError("the true translation is not known (made clips have one)")


def true_image(truth: Truth | None, moment: Moment) -> Tensor | None:
    """The true translation ``[3,H,W]`` of a moment at the result's size, None where unknown."""
    image = truth.translation(moment.index) if truth is not None else None
    height, width = moment.result.shape[-2:]
    return None if image is None else resize(image, (height, width))


def psnr(image: Tensor, reference: Tensor) -> float | None:
    """``-10 log10 MSE`` in dB for values in 0..1; None for identical images (no bound)."""
    error = (image - reference).double().square().mean()
    return float(-10 * torch.log10(error)) if error > 0 else None


def ssim(image: Tensor, reference: Tensor) -> float:
    """Structural similarity in -1..1 (Wang et al. 2004), mean over channels and pixels.

    Gaussian window of sigma 1.5 (11 pixels wide), K1 = 0.01, K2 = 0.03, population covariance;
    the five pixels along the border, where the window would leave the image, do not count.

    Args:
        image: ``[3,H,W]`` in 0..1, sides of at least 11 pixels.
        reference: the same shape.
    """
    a, b = image[:, None].double(), reference[:, None].double()
    mean_a, mean_b = _blur(a), _blur(b)
    var_a, var_b = _blur(a * a) - mean_a**2, _blur(b * b) - mean_b**2
    cov = _blur(a * b) - mean_a * mean_b
    c1, c2 = 0.01**2, 0.03**2
    above = (2 * mean_a * mean_b + c1) * (2 * cov + c2)
    return float((above / ((mean_a**2 + mean_b**2 + c1) * (var_a + var_b + c2))).mean())


def _blur(image: Tensor) -> Tensor:
    """Gaussian mean of ``[C,1,H,W]`` over full windows only."""
    x = torch.arange(-5, 6, dtype=image.dtype)
    weights = torch.exp(-0.5 * (x / 1.5) ** 2)
    weights = weights / weights.sum()
    return F.conv2d(F.conv2d(image, weights.view(1, 1, 1, 11)), weights.view(1, 1, 11, 1))
