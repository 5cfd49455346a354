"""Flow refined at full resolution."""

from __future__ import annotations

import numpy as np
import torch

from rerender.flow.dis import Dis, hwc
from rerender.propagation.motion import pixels
from rerender.propagation.motion.variational import Refiner
from rerender.video import Frame
from tests.propagation.scenes import texture


def shifted(amount: float) -> tuple[Frame, Frame]:
    """A picture and itself moved to the left by a fraction of a pixel, exactly, in frequencies."""
    image = texture(64, 96)
    spectrum = torch.fft.rfft(image, dim=-1)
    phase = torch.exp(2j * torch.pi * torch.fft.rfftfreq(96) * amount)
    moved = torch.fft.irfft(spectrum * phase, n=96, dim=-1)
    return Frame(0, image), Frame(1, moved.clamp(0, 1))


def error(offset: np.ndarray, amount: float) -> float:
    inner = offset[8:-8, 12:-12] - np.array([amount, 0], np.float32)
    return float(np.linalg.norm(inner, axis=2).mean())


def test_a_step_brings_flow_nearer_to_the_truth() -> None:
    for amount in (0.3, 0.5, 0.8):
        source, target = shifted(amount)
        rough = hwc(Dis("ultrafast").offset(target, source))
        refiner = Refiner(64, 96)
        args = pixels.levels(source.image), pixels.levels(target.image)
        fine = refiner.refine(*args, rough)
        assert error(fine, amount) < error(rough, amount)
        assert error(refiner.refine(*args, np.zeros_like(rough)), amount) < 0.5 * amount


def test_a_still_pair_stays_still() -> None:
    image = pixels.levels(texture(30, 41))
    offset = Refiner(30, 41).refine(image, image, np.zeros((30, 41, 2), np.float32))
    assert np.abs(offset).max() < 1e-6


def test_a_picture_without_texture_keeps_its_flow() -> None:
    flat = np.full((30, 41, 3), 90, np.float32)
    offset = np.full((30, 41, 2), 2.5, np.float32)
    assert np.abs(Refiner(30, 41).refine(flat, flat, offset) - offset).max() < 1e-4


def test_memory_that_is_kept_changes_nothing() -> None:
    first, second = shifted(0.4)
    a, b = pixels.levels(first.image), pixels.levels(second.image)
    still = np.zeros((64, 96, 2), np.float32)
    used = Refiner(64, 96)
    used.refine(b, a, still + 3)
    assert np.array_equal(used.refine(a, b, still), Refiner(64, 96).refine(a, b, still))
