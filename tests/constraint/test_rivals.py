"""The constraints of other methods: the law that each one's definition implies."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest
import torch
from torch import Tensor

from rerender.constraint.cross_frame import CrossFrame
from rerender.constraint.first_frame import FirstFrame
from rerender.constraint.guided import Guided
from rerender.errors import ConfigError
from rerender.sampler.unipc import UniPC
from rerender.video import MemoryVideo
from tests.scenes import SCENE, last_latents, parts, translated

if TYPE_CHECKING:
    from rerender.model.diffusion import StableDiffusion


def latents(
    model: StableDiffusion, constraint: Sequence[Any], keys: int = 3, **more: Any
) -> Tensor:
    clip = more.pop("clip", SCENE)
    found = translated(model, parts(tuple(constraint), **more), keys, clip=clip)
    return last_latents(found)


# -- Text2Video-Zero ------------------------------------------------------------------------------


def test_one_frame_is_plain_sampling(tiny: StableDiffusion) -> None:
    assert torch.equal(latents(tiny, [FirstFrame()], 1), latents(tiny, [], 1))


def test_a_clip_that_stands_still_is_plain_sampling(tiny: StableDiffusion) -> None:
    """Every frame's first frame is itself."""
    still = replace(SCENE, video=MemoryVideo([SCENE.video[0]] * 3))
    whole = latents(tiny, [FirstFrame()], clip=still, strength=None)
    assert torch.allclose(whole, latents(tiny, [], clip=still, strength=None), atol=1e-4)


def test_later_frames_look_at_the_first_and_at_no_other(tiny: StableDiffusion) -> None:
    """The third frame does not depend on the second, but on the first it does."""
    frames = [SCENE.video[index] for index in range(4)]

    def third(order: Sequence[int]) -> Tensor:
        video = MemoryVideo([frames[index] for index in order])
        return latents(tiny, [FirstFrame()], clip=replace(SCENE, video=video))[2]

    assert torch.equal(third([0, 1, 2]), third([0, 3, 2]))
    assert not torch.allclose(third([0, 1, 2]), third([3, 1, 2]), atol=1e-3)


def test_all_layers_look_and_only_the_first_frame_is_kept(tiny: StableDiffusion) -> None:
    found = translated(tiny, parts((FirstFrame(),), steps=4), 3)
    kept = [{name for _, name in each.trace.hidden_states} for each in found]
    assert kept == [{layer.name for layer in tiny.layers()}, set(), set()]
    some, every = (latents(tiny, [each]) for each in (CrossFrame(refresh=0), FirstFrame()))
    assert not torch.allclose(some, every, atol=1e-3)


# -- Pix2Video ------------------------------------------------------------------------------------


def test_a_step_of_no_size_is_attention_alone(tiny: StableDiffusion) -> None:
    alone = latents(tiny, [CrossFrame()])
    assert torch.equal(latents(tiny, [CrossFrame(), Guided(step_size=0.0)]), alone)
    little = latents(tiny, [CrossFrame(), Guided(stop=0.5, step_size=1e-7)])
    assert torch.allclose(little, alone, atol=1e-3)


def distance(model: StableDiffusion, size: float) -> float:
    """Between the first clean predictions of neighbouring key frames that the update could mend."""
    chosen = parts((Guided(start=0.0, stop=0.25, step_size=size),), steps=8, strength=0.5)
    first, second = translated(model, chosen, 2)
    step = 1  # the one after the only active step
    return float((first.trace.clean[step] - second.trace.clean[step]).square().sum())


def test_the_update_brings_the_next_prediction_closer_to_the_previous_frames(
    tiny: StableDiffusion,
) -> None:
    without, small, larger = (distance(tiny, size) for size in (0.0, 1e-4, 1e-3))
    assert larger < small < without


def test_the_anchor_is_not_moved(tiny: StableDiffusion) -> None:
    assert torch.equal(latents(tiny, [Guided(stop=0.5)], 2)[0], latents(tiny, [], 2)[0])


def test_a_frame_like_the_one_before_stays_where_it_is(tiny: StableDiffusion) -> None:
    still = replace(SCENE, video=MemoryVideo([SCENE.video[0]] * 2))
    found = latents(tiny, [Guided(stop=1.0, step_size=0.1)], 2, clip=still)
    assert torch.allclose(found[0], found[1], atol=1e-5)


def test_lanes_wait_for_the_previous_frame(tiny: StableDiffusion) -> None:
    """Attention that is never renewed would not wait for it."""
    constraint = [CrossFrame(refresh=0), Guided(stop=0.5, step_size=1e-3)]
    one, many = (latents(tiny, constraint, 4, batch_size=size) for size in (1, 4))
    assert torch.allclose(one, many, atol=1e-3)


def test_a_sampler_that_rewrites_the_past_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"constraint\.guided.*UniPC"):
        parts((Guided(stop=0.5),), sampler=UniPC())
