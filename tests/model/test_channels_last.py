"""Networks in channels_last: the layout changes, and nothing else."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest
import torch
from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

from rerender.model.diffusion import StableDiffusion
from rerender.model.tiny import components
from tests.model.test_diffusion import request

pytest.importorskip("triton")

INTERPRETED = """
import torch
from torch import nn
from rerender.model import _group_norm as kernels

generator = torch.Generator().manual_seed(0)
shapes = ((2, 32, 8, 8, 8), (1, 96, 5, 7, 32), (3, 320, 9, 16, 32), (1, 8, 40, 40, 4))
for *shape, groups in shapes:
    norm = nn.GroupNorm(groups, shape[1]).double().requires_grad_(False)
    norm.weight.normal_(generator=generator), norm.bias.normal_(generator=generator)
    x = torch.randn(shape, generator=generator) + 30
    last = x.to(memory_format=torch.channels_last)
    for silu in (False, True):
        expected = norm(x.double())
        expected = nn.functional.silu(expected) if silu else expected
        found = []
        for limit in (1 << 15, 0):  # by one program each, and by shares of the pixels
            kernels.WHOLE = limit
            made = kernels.group_norm(last, groups, norm.weight, norm.bias, norm.eps, silu)
            assert made.is_contiguous(memory_format=torch.channels_last)
            assert (made - expected).abs().max() < 5e-5, (shape, silu, limit)
"""


def test_the_kernels_are_group_norm() -> None:
    """By Triton's interpreter, which needs no GPU; it is chosen before Triton is imported."""
    environment = {**os.environ, "TRITON_INTERPRET": "1"}
    command = [sys.executable, "-c", INTERPRETED]
    done = subprocess.run(command, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def made(channels_last: bool) -> StableDiffusion:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return StableDiffusion(components(1), channels_last=channels_last)


def test_only_the_layout_is_another() -> None:
    turned, plain = made(True), made(False)
    assert turned.digest() == plain.digest()
    (found,), (expected,) = (each.predict_noise([request(each)]) for each in (turned, plain))
    assert torch.allclose(found, expected, atol=1e-5)
    image = torch.rand(3, 16, 16, generator=torch.Generator().manual_seed(1))
    latents = [each.encode(image) for each in (turned, plain)]
    assert torch.allclose(latents[0], latents[1], atol=1e-5)
    assert torch.allclose(turned.decode(latents[0]), plain.decode(latents[0]), atol=1e-5)
    latent = latents[0].requires_grad_()
    (slope,) = torch.autograd.grad(turned.decode(latent).sum(), latent)
    (expected,) = torch.autograd.grad(plain.decode(latent).sum(), latent)
    assert torch.allclose(slope, expected, rtol=1e-3, atol=1e-3)


def test_no_map_of_a_network_is_turned() -> None:
    model = made(True)
    turned: list[str] = []

    def watch(name: str, module: nn.Module) -> RemovableHandle:
        def look(own: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> None:
            for each in (*inputs, output):
                wide = min(each.shape[1:]) > 1
                if wide and not each.is_contiguous(memory_format=torch.channels_last):
                    turned.append(name)

        return module.register_forward_hook(look)

    networks = (model.parts.unet, model.parts.vae.decoder)
    watched = [
        watch(name, module)
        for network in networks
        for name, module in network.named_modules()
        if isinstance(module, nn.Conv2d) and not name.endswith("conv_in")
    ]
    model.predict_noise([request(model)])
    model.decode(torch.zeros(1, 4, 8, 8))
    assert len(watched) > 40 and not turned


@pytest.mark.gpu
@pytest.mark.parametrize("dtype", [torch.float16, torch.float32])
@pytest.mark.parametrize("silu", [False, True])
@pytest.mark.parametrize(
    "shape", [(2, 320, 64, 64), (2, 2560, 8, 8), (2, 960, 32, 32), (1, 128, 512, 512)]
)
def test_the_kernels_on_a_device(shape: tuple[int, ...], silu: bool, dtype: torch.dtype) -> None:
    from rerender.model._group_norm import group_norm

    generator = torch.Generator("cuda").manual_seed(0)
    x = torch.randn(shape, device="cuda", generator=generator).to(dtype) * 2 + 5
    weight, bias = (torch.randn(shape[1], device="cuda", generator=generator) for _ in range(2))
    exact = nn.functional.group_norm(x.double(), 32, weight.double(), bias.double())
    exact = nn.functional.silu(exact) if silu else exact
    last = x.to(memory_format=torch.channels_last)
    found = group_norm(last, 32, weight, bias, 1e-5, silu)
    assert found.is_contiguous(memory_format=torch.channels_last)
    bound = 1e-2 if dtype == torch.float16 else 1e-4
    assert (found - exact).abs().max() < bound
