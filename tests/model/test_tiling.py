"""Decoding and encoding in tiles, against the whole."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import diffusers
import pytest
import torch
from torch import Tensor, nn

from rerender.demo.weights import FOLDER
from rerender.model._tiling import Tiles, _spans, tiled
from rerender.model.diffusion import StableDiffusion
from rerender.model.tiny import components

TILES = Tiles(above=0, side=384, overlap=128)


@pytest.fixture(scope="module")
def vae() -> Any:
    return diffusers.AutoencoderKL.from_pretrained(str(FOLDER / "vae")).requires_grad_(False).eval()


def picture(height: int, width: int) -> Tensor:
    """Waves over a slope, -1..1, darker at one side: tiles differ in their statistics."""
    y, x = torch.meshgrid(torch.arange(height), torch.arange(width), indexing="ij")
    waves = [torch.sin(x / a) * torch.cos(y / b) for a, b in ((9, 14), (23, 11), (6, 31))]
    return torch.stack([0.4 * wave + (x / width - 0.5) for wave in waves])[None].clamp(-1, 1)


def levels(difference: Tensor) -> Tensor:
    return difference.abs() * 127.5


def test_the_demo_autoencoder_shows_no_seams(vae: Any) -> None:
    with torch.no_grad():
        shown = picture(192, 544)
        latent = vae.encode(shown).latent_dist.mode()
        whole = vae.decode(latent).sample.clamp(-1, 1)

        def error(norms: nn.Module) -> Tensor:
            made = tiled(norms, lambda z: vae.decode(z).sample, latent, TILES, 8, False)
            return (made.clamp(-1, 1) - whole) * 127.5

        shared, own = error(vae), error(nn.Identity())
        encoded = tiled(vae, lambda x: vae.encode(x).latent_dist.mode(), shown, TILES, 8, True)
        decoded = vae.decode(encoded).sample.clamp(-1, 1)
    # With statistics of their own tiles differ by 1.5 levels in the mean, and by 10 at most.
    assert own.abs().mean() > 1 and own.abs().max() > 5
    assert shared.abs().mean() < 0.02 and shared.abs().max() < 0.5
    assert levels(decoded - whole).max() < 0.5


@pytest.mark.parametrize("cells", [5, 64, 65, 97, 128, 240])
def test_tiles_cover_an_axis_once(cells: int) -> None:
    spans = _spans(cells, 64, 16)
    owned = [i for span in spans for i in range(span.own_start, span.own_stop)]
    assert owned == list(range(cells))
    assert all(span.stop - span.start <= 64 for span in spans)
    assert all(b.start >= a.start for a, b in pairwise(spans))
    assert all(c.start >= a.stop for a, c in zip(spans, spans[2:], strict=False))
    assert all(a.after == a.stop - b.start >= 16 for a, b in pairwise(spans))


def test_a_norm_alone_is_that_of_the_whole() -> None:
    norm, x = nn.GroupNorm(2, 4).requires_grad_(False), torch.randn(1, 4, 40, 56)
    made = tiled(norm, norm, x, Tiles(0, 24, 8), 1, False)
    torch.testing.assert_close(made, norm(x), atol=1e-5, rtol=1e-5)
    assert "forward" not in vars(norm)


def test_small_pictures_and_gradients_are_whole() -> None:
    torch.manual_seed(0)
    parts = components(0)
    whole = StableDiffusion(parts)
    cut = StableDiffusion(parts, tiles=Tiles(above=64, side=32, overlap=8))
    small, large = torch.rand(3, 64, 96), torch.rand(3, 72, 96)
    assert torch.equal(whole.encode(small), cut.encode(small))
    latent = whole.encode(large)
    assert not torch.equal(latent, cut.encode(large))
    assert latent.shape == cut.encode(large).shape
    assert not torch.equal(whole.decode(latent), cut.decode(latent))
    asked = latent.clone().requires_grad_()
    assert torch.equal(whole.decode(latent), cut.decode(asked))


def test_the_tiny_autoencoder_is_cut_too() -> None:
    torch.manual_seed(0)
    taesd = diffusers.AutoencoderTiny(
        encoder_block_out_channels=(8, 8),
        decoder_block_out_channels=(8, 8),
        num_encoder_blocks=(1, 1),
        num_decoder_blocks=(1, 1),
    ).requires_grad_(False)
    x = torch.rand(1, 3, 48, 80) * 2 - 1
    tiles = Tiles(above=0, side=48, overlap=16)
    latent = taesd.encode(x).latents
    # No norms, and a tile knows all that its kept pixels see.
    made = tiled(taesd, lambda part: taesd.encode(part).latents, x, tiles, 2, True)
    torch.testing.assert_close(made, latent, atol=1e-3, rtol=1e-3)
    decoded = tiled(taesd, lambda part: taesd.decode(part).sample, latent, tiles, 2, False)
    torch.testing.assert_close(decoded, taesd.decode(latent).sample, atol=1e-2, rtol=1e-2)
