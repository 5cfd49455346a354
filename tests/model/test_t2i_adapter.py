"""T2I-Adapters as controls: with no constraint the latents are those of the stock pipeline."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import diffusers
import pytest
import torch
from torch import Tensor

from rerender.errors import WeightsError
from tests.model.making import NOISE, WIDTHS, our_latents, ours, save
from tests.model.test_families import Keeping, Stopped
from tests.scenes import ALL, SCENE, Given, parts, translated

EARLY = {"down_block_types": ("CrossAttnDownBlock2D", "CrossAttnDownBlock2D", "DownBlock2D")}


def adapter(folder: Path, seed: int = 4, **changes: Any) -> str:
    torch.manual_seed(seed)
    settings = {"channels": list(WIDTHS), "num_res_blocks": 1, "downscale_factor": 2, **changes}
    diffusers.T2IAdapter(**settings).eval().save_pretrained(folder)
    return str(folder)


def stock(folder: Path, adapters: list[str], scale: list[float], large: bool = False) -> Tensor:
    kind = (
        diffusers.StableDiffusionXLAdapterPipeline
        if large
        else diffusers.StableDiffusionAdapterPipeline
    )
    nets = [diffusers.T2IAdapter.from_pretrained(each) for each in adapters]
    one = len(nets) == 1
    none = {} if large else {"safety_checker": None, "requires_safety_checker": False}
    pipeline = kind.from_pretrained(folder, adapter=nets[0] if one else nets, **none)
    pipeline.set_progress_bar_config(disable=True)
    map_ = Given().map(SCENE.video[0])[None]
    if nets[0].config.in_channels == 1:
        map_ = map_.mean(1, keepdim=True)
    found: Tensor = pipeline(
        prompt=SCENE.prompt,
        negative_prompt=SCENE.negative_prompt,
        image=map_ if one else [map_] * len(nets),
        latents=NOISE.clone(),
        num_inference_steps=10,
        guidance_scale=5.0,
        adapter_conditioning_scale=scale[0] if one else scale,
        output_type="latent",
        **({"height": 32, "width": 32} if large else {}),
    ).images
    return found


def check(mine: Tensor, theirs: Tensor) -> None:
    assert mine.shape == theirs.shape
    assert torch.allclose(mine, theirs, atol=1e-4), float((mine - theirs).abs().max())


@pytest.mark.parametrize("kind", ["full_adapter", "light_adapter", "grey"])
def test_the_latents_are_the_stock_pipelines(tmp_path: Path, kind: str) -> None:
    folder = save(tmp_path / "sd", unet=EARLY)
    more = {"in_channels": 1} if kind == "grey" else {"adapter_type": kind}
    net = adapter(tmp_path / "t2i", **more)
    mine = our_latents(ours(folder, controlnets={"canny": net}), strength=None)
    check(mine, stock(folder, [net], [1.0]))
    without = our_latents(ours(folder), (), strength=None)
    assert not torch.allclose(mine, without, atol=1e-3)  # it does something


def test_a_large_one(tmp_path: Path) -> None:
    folder = save(tmp_path / "xl", large=True)
    channels = [*WIDTHS, WIDTHS[-1]]
    net = adapter(
        tmp_path / "t2i", adapter_type="full_adapter_xl", channels=channels, downscale_factor=4
    )
    mine = our_latents(ours(folder, controlnets={"canny": net}), strength=None)
    check(mine, stock(folder, [net], [1.0], large=True))


def test_beside_a_controlnet_scale_0_gives_the_bytes_without_it(tmp_path: Path) -> None:
    folder = save(tmp_path / "sd", unet=EARLY)
    one, two = adapter(tmp_path / "one"), adapter(tmp_path / "two", seed=5)
    nets = {"canny": "controlnet", "pose": one, "depth": two}
    model: Any = ours(folder, controlnets=nets).load(tuple(nets))

    def made(*weights: float) -> Tensor:
        control = tuple(Given(weight=weight) for weight in weights)
        return translated(model, replace(parts(), control=control), 1)[0].image

    alone: Any = ours(folder, controlnets=nets).load(("canny",))
    base = translated(alone, parts(), 1)[0].image
    assert torch.equal(made(1, 0, 0), base)
    assert not torch.allclose(made(1, 1, 0), base, atol=1e-3)
    assert not torch.allclose(made(1, 1, 0.5), made(1, 1, 0), atol=1e-3)
    pair: Any = ours(folder, controlnets=nets)
    both = replace(parts(strength=None), control=(Given(weight=0.7), Given(weight=0.4)))
    draw = lambda key: lambda role, step: NOISE  # noqa: E731
    found = translated(pair.load(("pose", "depth")), both, 1, draw=draw)[0].trace.latent
    assert found is not None
    check(found, stock(folder, [one, two], [0.7, 0.4]))


def test_all_constraints_batches_resume_and_half_precision(tmp_path: Path) -> None:
    folder, net = save(tmp_path / "sd", unet=EARLY), adapter(tmp_path / "t2i")
    changes = {"controlnets": {"canny": net}}
    model: Any = ours(folder, **changes).load(("canny",))
    keeping = Keeping()
    one = translated(model, parts(ALL), 3, resume=keeping)
    again = translated(model, parts(ALL), 3, resume=Stopped(one[:2], keeping.seen[1]))
    assert torch.equal(again[-1].image, one[-1].image)
    for mine, other in zip(one, translated(model, parts(ALL, batch_size=4), 3), strict=True):
        assert torch.allclose(mine.image, other.image, atol=1e-4)
    half: Any = ours(folder, dtype="bfloat16", **changes).load(("canny",))
    assert all(each.image.isfinite().all() for each in translated(half, parts(ALL), 3))


@pytest.mark.parametrize(
    ("changes", "problem"),
    [
        ({"channels": [16, 32, 48]}, "channels must be"),
        ({"downscale_factor": 8}, "downscale_factor must be 2 with .*, received 8"),
        ({"adapter_type": "full_adapter_xl"}, 'must be "full_adapter" or "light_adapter"'),
        ({"in_channels": 4}, "in_channels must be 3 or 1"),
    ],
)
def test_another_kind_is_refused_before_loading(
    tmp_path: Path, changes: dict[str, Any], problem: str
) -> None:
    folder, net = save(tmp_path / "sd", unet=EARLY), adapter(tmp_path / "t2i", **changes)
    with pytest.raises(WeightsError, match=problem):
        ours(folder, controlnets={"canny": net}).check(("canny",))
