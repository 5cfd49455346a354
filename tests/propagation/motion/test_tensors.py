"""The variational step in torch against the compiled one."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from rerender.propagation.motion import tensors
from rerender.propagation.motion.pixels import levels
from rerender.propagation.motion.variational import Refiner
from tests.propagation.scenes import texture

DEVICES = [torch.device("cpu"), pytest.param(torch.device("cuda"), marks=pytest.mark.gpu)]


@pytest.mark.parametrize("device", DEVICES)
def test_flows_are_refined_alike_and_towards_the_truth(
    device: torch.device, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Pictures that moved by two pixels, with flows that are up to a pixel off."""
    wide = [texture(60, 84, seed) for seed in (0, 1)]
    targets = [image[:, :, 2:82] for image in wide]
    sources = [image[:, :, :80] for image in wide]
    random = np.random.default_rng(2)
    starts = []
    for _ in wide:
        slow = torch.from_numpy(random.uniform(-1, 1, (1, 2, 5, 6))).float()
        off = torch.nn.functional.interpolate(slow, (60, 80), mode="bicubic")[0]
        starts.append(off.permute(1, 2, 0).numpy() + np.array([2, 0], np.float32))
    expected = [
        Refiner(60, 80).refine(levels(s), levels(t), np.ascontiguousarray(f))
        for s, t, f in zip(sources, targets, starts, strict=True)
    ]
    source, target = (torch.stack(images).to(device) * 255 for images in (sources, targets))
    offset = torch.from_numpy(np.stack(starts)).permute(0, 3, 1, 2).contiguous().to(device)
    found = tensors.refine(source, target, offset).permute(0, 2, 3, 1).cpu().numpy()
    truth = np.array([2, 0], np.float32)
    before, after = (np.abs(f - truth)[:, 4:-4, 6:-6].mean() for f in (np.stack(starts), found))
    theirs = np.abs(np.stack(expected) - truth)[:, 4:-4, 6:-6].mean()
    assert after < 0.7 * before and after < 1.02 * theirs

    # Both are on the way to the same solution, which six sweeps do not quite reach.
    monkeypatch.setattr(tensors, "SWEEPS", 600)
    solved = tensors.refine(source, target, offset).permute(0, 2, 3, 1).cpu().numpy()
    mine, compiled = (np.abs(f - solved).mean() for f in (found, np.stack(expected)))
    assert mine < 1.1 * compiled
