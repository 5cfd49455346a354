"""Light taken out in torch against the compiled loops."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from rerender.propagation.motion import exposure_tensors
from rerender.propagation.motion.exposure import Exposure
from rerender.propagation.motion.pixels import levels
from tests.propagation.motion.test_exposure import LIGHTS
from tests.propagation.scenes import texture

DEVICES = [torch.device("cpu"), pytest.param(torch.device("cuda"), marks=pytest.mark.gpu)]


def clip(height: int, width: int) -> tuple[list[torch.Tensor], list[torch.Tensor]]:
    """Frames in every light, in none, and one with a thing in front; and their key frames."""
    image, generator = texture(height, width), torch.Generator().manual_seed(0)
    noisy = image + torch.randn(image.shape, generator=generator) * 2 / 255
    covered = noisy.clone()
    covered[:, 20:52, 30:66] = texture(32, 36, seed=5) * 0.3
    lit = [light(noisy, 1) for light, _ in LIGHTS.values()]
    frames = [*lit, noisy, covered, texture(height, width, seed=7), torch.ones_like(image)]
    return [(frame.clamp(0, 1) * 255).round() / 255 for frame in frames], [image] * len(frames)


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("size", [(72, 96), (150, 200)])
def test_frames_are_levelled_alike(size: tuple[int, int], device: torch.device) -> None:
    targets, sources = clip(*size)
    random = np.random.default_rng(1)
    offset = random.uniform(-0.2, 0.2, (len(targets), *size, 2)).astype(np.float32)
    expected = [
        Exposure(levels(source)).levelled(levels(target), field)
        for target, source, field in zip(targets, sources, offset, strict=True)
    ]
    target, source = (torch.stack(images).to(device) * 255 for images in (targets, sources))
    motion = torch.from_numpy(offset).permute(0, 3, 1, 2).to(device)
    found = exposure_tensors.levelled(target, source, motion).permute(0, 2, 3, 1).cpu().numpy()
    for target, mine, theirs in zip(targets, found, expected, strict=True):
        left_alone = np.array_equal(theirs, levels(target))
        assert np.array_equal(mine, levels(target)) == left_alone
        step = np.abs(mine - theirs)
        assert step.mean() < 0.05 and np.quantile(step, 0.999) < 1.0
    changed = [not np.array_equal(e, levels(t)) for t, e in zip(targets, expected, strict=True)]
    assert sum(changed) == len(LIGHTS) and all(changed[: len(LIGHTS)])
