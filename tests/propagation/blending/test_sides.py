"""Both directions at once or one after the other, and what is kept of them."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from rerender.flow.dis import Dis
from rerender.propagate import propagate
from rerender.propagation.blending import sides
from rerender.propagation.blending.blend import Guess
from rerender.propagation.blending.sides import StoredDirection
from rerender.propagation.patchmatch import PatchMatch
from tests.propagation.scenes import keys, moving


def test_large_frames_are_made_one_direction_after_the_other_with_the_same_bytes(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    video = moving(6)
    once = list(propagate(video, keys(video, [0, 5]), PatchMatch(), Dis()))
    monkeypatch.setattr(sides, "SIDE_BY_SIDE", 0)
    again = list(propagate(video, keys(video, [0, 5]), PatchMatch(), Dis()))
    assert all(map(torch.equal, once, again))


def test_what_is_kept_is_off_by_a_sixteenth_of_a_level_at_most() -> None:
    random = np.random.default_rng(0)
    image = random.uniform(-20, 275, (9, 11, 3)).astype(np.float32)
    error = random.uniform(0, 90000, (9, 11)).astype(np.float32)
    kept = StoredDirection.of(Guess(image, error))
    found = kept.guess()
    assert np.abs(found.image - image)[image <= 255].max() <= 1 / 16
    assert np.isfinite(found.error).all()
    assert kept.image.nbytes * 2 == image.nbytes
