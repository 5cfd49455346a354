"""Attention maps and joint attention: equal to the stock path where nothing is changed."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import pytest
import torch
from diffusers.models.attention_processor import AttnProcessor, AttnProcessor2_0
from torch import Tensor

from rerender.contracts import AttentionMapEdit, JointAttention, NoiseRequest
from rerender.model.diffusion import StableDiffusion
from rerender.model.tiny import components
from tests.model.test_diffusion import request

if TYPE_CHECKING:
    from collections.abc import Mapping

    from rerender.scene import Layer

TOLERANCE = 1e-5  # softmax maps written out against fused attention, float32


UNCHANGED = AttentionMapEdit(lambda layer, cells: True, lambda layer, maps: maps)


def predicted(model: StableDiffusion, *requests: NoiseRequest) -> Tensor:
    return torch.cat(model.predict_noise(requests))


@pytest.mark.parametrize("stock", [AttnProcessor, AttnProcessor2_0])
def test_unchanged_maps_are_the_stock_processors(tiny: StableDiffusion, stock: type) -> None:
    mapped = predicted(tiny, request(tiny, maps=UNCHANGED))
    processors = tiny.parts.unet.attn_processors
    try:
        tiny.parts.unet.set_attn_processor(stock())
        plain = predicted(tiny, request(tiny))
    finally:
        tiny.parts.unet.set_attn_processor(processors)
    assert torch.allclose(mapped, plain, atol=TOLERANCE)


def test_nobody_asking_is_the_stock_path_to_the_bit() -> None:
    """A network with our processors against the same one that never met them."""
    torch.manual_seed(0)
    model = StableDiffusion(components(1))
    asked = request(model)
    mine = predicted(model, asked)
    for name, processor in model.parts.unet.attn_processors.items():
        if "attn2" in name:
            assert isinstance(processor.stock, AttnProcessor2_0)
    processors = {
        name: processor.stock if "attn2" in name else processor
        for name, processor in model.parts.unet.attn_processors.items()
    }
    model.parts.unet.set_attn_processor(processors)
    assert torch.equal(mine, predicted(model, asked))


def test_maps_are_shown_where_they_are_wanted_and_nowhere_else(tiny: StableDiffusion) -> None:
    shown: list[tuple[Layer, tuple[int, ...]]] = []

    def edit(layer: Layer, maps: Tensor) -> Tensor:
        assert torch.allclose(maps.sum(-1), torch.ones(()), atol=1e-5)
        shown.append((layer, tuple(maps.shape)))
        return maps

    maps = AttentionMapEdit(lambda layer, cells: layer.cross and cells <= 16, edit)
    predicted(tiny, request(tiny, maps=maps))
    assert {layer.place for layer, _ in shown} == {"down", "mid", "up"}
    length = tiny.parts.tokenizers[0].model_max_length
    assert all(layer.cross and shape == (2, 4, 16, length) for layer, shape in shown)
    assert len(shown) == 4  # of fourteen attention layers, the cross layers of 4x4 cells


def test_a_replaced_map_changes_the_answer_of_its_own_request_only(tiny: StableDiffusion) -> None:
    def flat(layer: Layer, maps: Tensor) -> Tensor:
        return torch.full_like(maps, 1 / maps.shape[-1])

    asked = [request(tiny, 900), request(tiny, 500)]
    before = tiny.predict_noise(asked)
    asked[1] = asked[1]._replace(maps=AttentionMapEdit(lambda layer, cells: not layer.cross, flat))
    after = tiny.predict_noise(asked)
    assert torch.allclose(before[0], after[0], atol=TOLERANCE)
    assert not torch.allclose(before[1], after[1], atol=1e-3)


def test_a_map_that_looks_at_one_token_gives_its_value(tiny: StableDiffusion) -> None:
    """All weight on the first prompt token is the same as a prompt of only that token."""

    def first(layer: Layer, maps: Tensor) -> Tensor:
        return torch.zeros_like(maps).index_fill(-1, torch.tensor([0]), 1.0)

    asked = request(tiny, conditioning_scale=(0.0,))
    text = asked.condition.prompt_embeds[:, :1].expand_as(asked.condition.prompt_embeds)
    only = asked._replace(condition=replace(asked.condition, prompt_embeds=text))
    mapped = asked._replace(maps=AttentionMapEdit(lambda layer, cells: layer.cross, first))
    assert torch.allclose(predicted(tiny, only), predicted(tiny, mapped), atol=TOLERANCE)


def own(layer: Layer, shown: Mapping[int, Tensor], step: int) -> Mapping[int, Tensor]:
    return shown


def dense(layer: Layer, shown: Mapping[int, Tensor], step: int) -> Mapping[int, Tensor]:
    everyone = torch.cat([*shown.values()], 1)
    return dict.fromkeys(shown, everyone)


def copied(layer: Layer, shown: Mapping[int, Tensor], step: int) -> Mapping[int, Tensor]:
    return {ordinal: tokens.clone() for ordinal, tokens in dense(layer, shown, step).items()}


def joint(model: StableDiffusion, look: object, *times: int) -> list[NoiseRequest]:
    return [
        request(model, time, joint=JointAttention(ordinal, 0, (look,)))  # type: ignore[arg-type]
        for ordinal, time in enumerate(times)
    ]


def test_looking_at_oneself_in_company_is_looking_alone(tiny: StableDiffusion) -> None:
    times = (900, 500, 100)
    alone = torch.cat([predicted(tiny, request(tiny, time)) for time in times])
    assert torch.allclose(predicted(tiny, *joint(tiny, own, *times)), alone, atol=TOLERANCE)


def test_keys_made_once_for_all_are_keys_made_for_each(tiny: StableDiffusion) -> None:
    shared = predicted(tiny, *joint(tiny, dense, 900, 500, 100))
    each = predicted(tiny, *joint(tiny, copied, 900, 500, 100))
    assert torch.allclose(shared, each, atol=TOLERANCE)
    assert not torch.allclose(shared, predicted(tiny, *joint(tiny, own, 900, 500, 100)), atol=1e-3)


def test_equal_frames_looking_at_each_other_see_themselves(tiny: StableDiffusion) -> None:
    alone = predicted(tiny, request(tiny))
    company = tiny.predict_noise(joint(tiny, dense, 500, 500))
    assert torch.allclose(company[1], alone, atol=TOLERANCE)


def test_groups_of_a_batch_do_not_see_each_other(tiny: StableDiffusion) -> None:
    first, second = joint(tiny, dense, 900, 500), joint(tiny, dense, 300, 100)
    later = [q._replace(joint=JointAttention(i, 1, (dense,))) for i, q in enumerate(second)]
    mixed = predicted(tiny, *first, *later, request(tiny, 700))
    apart = [predicted(tiny, *first), predicted(tiny, *second), predicted(tiny, request(tiny, 700))]
    assert torch.allclose(mixed, torch.cat(apart), atol=TOLERANCE)


def test_gradients_reach_latents_and_maps_only_where_asked(tiny: StableDiffusion) -> None:
    seen: list[Tensor] = []

    def keep(layer: Layer, maps: Tensor) -> Tensor:
        seen.append(maps)
        return maps

    maps = AttentionMapEdit(lambda layer, cells: layer.cross, keep)
    asked = request(tiny, maps=maps)
    assert not predicted(tiny, asked).requires_grad
    noisy = asked.noisy.clone().requires_grad_()
    seen.clear()
    predicted(tiny, asked._replace(noisy=noisy))
    gradient = torch.autograd.grad(torch.stack([m.square().sum() for m in seen]).sum(), noisy)[0]
    assert float(gradient.abs().max()) > 0
    nudge = torch.zeros_like(noisy)
    nudge[0, 0, 3, 3] = 1.0
    slope = _slope(tiny, asked, nudge, seen)
    assert float((gradient * nudge).sum()) == pytest.approx(slope, rel=0.05, abs=1e-4)


def _slope(model: StableDiffusion, asked: NoiseRequest, nudge: Tensor, seen: list[Tensor]) -> float:
    """The same derivative by central differences."""
    values = []
    for sign in (1, -1):
        seen.clear()
        predicted(model, asked._replace(noisy=asked.noisy + sign * 0.01 * nudge))
        values.append(sum(float(m.double().square().sum()) for m in seen))
    return (values[0] - values[1]) / 0.02


def test_tokens_are_as_many_as_the_text_has_rows(tiny: StableDiffusion) -> None:
    tokens = tiny.token_ids("a cat")
    assert (
        len(tokens)
        == tiny.condition("a cat", "", [torch.rand(3, 32, 32)], True).prompt_embeds.shape[1]
    )
    assert tokens[0] == 0 and tokens[-1] == 1 and len(set(tokens[1:5])) == 4
