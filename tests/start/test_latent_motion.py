"""Latents that move: whole cells, mirrored borders, still noise for the first frame."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import pytest
import torch
from torch import Tensor

from rerender.errors import ConfigError
from rerender.start.latent_motion import LatentMotion, shifted
from tests.scenes import last_latents, parts, translated

if TYPE_CHECKING:
    from rerender.model.diffusion import StableDiffusion


def grid() -> Tensor:
    return torch.arange(16.0).view(1, 1, 4, 4)


def test_a_shift_moves_whole_cells_and_mirrors_the_border() -> None:
    assert torch.equal(shifted(grid(), 0, 0), grid())
    assert shifted(grid(), 1, 0)[0, 0, 0].tolist() == [0, 0, 1, 2]
    assert shifted(grid(), -2, 0)[0, 0, 0].tolist() == [2, 3, 3, 2]
    assert shifted(grid(), 0, 1)[0, 0, :, 0].tolist() == [0, 0, 4, 8]
    assert torch.equal(shifted(grid(), 0.2, -0.3), grid())


def latents(model: StableDiffusion, start: LatentMotion, keys: int = 3) -> Tensor:
    chosen = replace(parts((), strength=None), start=start)
    return last_latents(translated(model, chosen, keys))


def test_the_first_frame_begins_with_the_noise_itself(tiny: StableDiffusion) -> None:
    plain = last_latents(translated(tiny, parts((), strength=None), 1))
    assert torch.equal(latents(tiny, LatentMotion(right=3.0), 1), plain)


def test_speed_and_depth_matter(tiny: StableDiffusion) -> None:
    first = latents(tiny, LatentMotion(right=4.0))
    assert not torch.allclose(first, latents(tiny, LatentMotion(right=8.0)), atol=1e-2)
    assert not torch.allclose(first, latents(tiny, LatentMotion(right=4.0, depth=1)), atol=1e-2)
    assert not torch.allclose(first, latents(tiny, LatentMotion(right=0.0, down=4.0)), atol=1e-2)


def test_it_begins_with_noise_alone() -> None:
    with pytest.raises(ConfigError, match=r"start\.latent_motion.*strength=null"):
        replace(parts((), strength=0.5), start=LatentMotion())
