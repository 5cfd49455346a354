"""What a constraint may see and change of all key frames of a batch, and what stays alone."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
import torch
from torch import Tensor

from rerender.contracts import Features, Grid, HiddenStates, JointAttention, NoiseRequest
from rerender.translation.canvas import cut, merged, tiled

if TYPE_CHECKING:
    from rerender.contracts import SelfAttention
    from rerender.model.diffusion import StableDiffusion
    from rerender.scene import DecoderBlock


def requests(model: StableDiffusion, **hooks: Any) -> list[NoiseRequest]:
    """Two key frames of a shot, guided."""
    control = torch.rand(3, 32, 32, generator=torch.Generator().manual_seed(1))
    condition = model.condition("a cat", "", [control], guided=True)
    draw = torch.Generator().manual_seed(2)
    return [
        NoiseRequest(
            torch.randn(1, 4, 16, 16, generator=draw),
            500,
            condition,
            (1.0,),
            joint=JointAttention(ordinal, 3, (), **hooks),
        )
        for ordinal in range(2)
    ]


def predicted(model: StableDiffusion, **hooks: Any) -> Tensor:
    return torch.cat(model.predict_noise(requests(model, **hooks)))


def own(
    attention: SelfAttention, hidden: HiddenStates, contexts: HiddenStates, step: int
) -> HiddenStates:
    return {ordinal: attention(hidden[ordinal], contexts[ordinal]) for ordinal in hidden}


def test_a_processor_that_answers_as_the_layer_does_changes_nothing(tiny: StableDiffusion) -> None:
    assert torch.allclose(predicted(tiny, processor=own), predicted(tiny), atol=1e-5)


def test_a_processor_meets_every_layer_with_all_key_frames(tiny: StableDiffusion) -> None:
    met = []

    def process(attention: SelfAttention, hidden: Any, contexts: Any, step: int) -> Any:
        met.append((attention.layer, sorted(hidden), step))
        assert all(each.shape[0] == 2 for each in hidden.values())
        return own(attention, hidden, contexts, step)

    predicted(tiny, processor=process)
    assert met == [(layer, [0, 1], 3) for layer in tiny.layers()]


def test_attention_in_pieces_hides_what_is_not_visible(tiny: StableDiffusion) -> None:
    """Half of the keys hidden is half of the keys there."""

    def process(attention: SelfAttention, hidden: Any, contexts: Any, step: int) -> Any:
        answers = {}
        for ordinal, states in hidden.items():
            pieces = (attention.queries(states), attention.keys(states), attention.values(states))
            count = states.shape[1]
            visible = (torch.arange(count) % 2 == 0).expand(2, count, count)
            masked = attention.attend(*pieces, visible=visible)
            fewer = attention.attend(pieces[0], pieces[1][:, ::2], pieces[2][:, ::2])
            assert torch.allclose(masked, fewer, atol=1e-5)
            answers[ordinal] = attention.project(masked)
        return answers

    assert not torch.allclose(predicted(tiny, processor=process), predicted(tiny), atol=1e-3)


def test_a_feature_edit_meets_every_block_and_may_leave_it_alone(tiny: StableDiffusion) -> None:
    met = []

    def edit(block: DecoderBlock, features: Features, step: int) -> Features:
        met.append((block, sorted(features), step))
        return features

    plain = predicted(tiny)
    assert torch.equal(predicted(tiny, features=(edit,)), plain)
    assert met == [(block, [0, 1], 3) for block in tiny.blocks()]


def test_a_feature_edit_changes_the_key_frame_that_it_edits(tiny: StableDiffusion) -> None:
    def edit(block: DecoderBlock, features: Features, step: int) -> Features:
        return {o: each + (o == 1) * (block.level == 0) for o, each in features.items()}

    one, two = (predicted(tiny, **hooks).chunk(2) for hooks in ({"features": (edit,)}, {}))
    assert torch.allclose(one[0], two[0], atol=1e-5)
    assert not torch.allclose(one[1], two[1], atol=1e-3)


def test_gradients_of_features_reach_the_latents(tiny: StableDiffusion) -> None:
    """Also of those of another key frame that an edit mixes in."""
    seen: dict[int, Tensor] = {}

    def edit(block: DecoderBlock, features: Features, step: int) -> Features:
        if (block.level, block.resnet) != (1, None):
            return features
        seen.update({0: features[0] + 0.5 * features[1], 1: features[1]})
        return dict(seen)

    asked = requests(tiny, features=(edit,))
    latents = [each.noisy.requires_grad_() for each in asked]
    tiny.predict_noise(asked)
    gradients = torch.autograd.grad(seen[0].square().mean(), latents)
    assert all(float(each.abs().max()) > 0 for each in gradients)


def test_an_edit_may_optimise_while_the_network_runs_without_gradients(
    tiny: StableDiffusion,
) -> None:
    def edit(block: DecoderBlock, features: Features, step: int) -> Features:
        with torch.enable_grad():
            moving = features[0].clone().requires_grad_()
            (slope,) = torch.autograd.grad(moving.square().sum(), moving)
        assert torch.allclose(slope, 2 * features[0])
        return features

    predicted(tiny, features=(edit,))


@pytest.mark.parametrize(("rows", "columns"), [(1, 1), (2, 3), (3, 2)])
def test_cutting_a_canvas_apart_undoes_laying_it_out(rows: int, columns: int) -> None:
    tiles = [torch.rand(2, 4, 3, 5) for _ in range(rows * columns)]
    grid = Grid(rows, columns, tuple(range(rows * columns)))
    picture = tiled(grid, tiles)
    assert picture.shape == (2, 4, 3 * rows, 5 * columns)
    assert all(torch.equal(a, b) for a, b in zip(cut(grid, picture), tiles, strict=True))


def test_key_frames_on_a_canvas_see_each_other(tiny: StableDiffusion) -> None:
    asked = requests(tiny)
    (answer,) = tiny.predict_noise([merged(Grid(1, 2, (0, 1)), asked)])
    other = [asked[0], asked[1]._replace(noisy=asked[1].noisy + 1)]
    (again,) = tiny.predict_noise([merged(Grid(1, 2, (0, 1)), other)])
    assert answer.shape == (2, 4, 16, 32)
    assert not torch.allclose(answer[..., :16], again[..., :16], atol=1e-4)


def test_a_request_without_controls_is_one_with_all_of_them_off(tiny: StableDiffusion) -> None:
    asked = requests(tiny)[0]._replace(joint=None)
    bare = tiny.condition("a cat", "", (), guided=True)
    (off,) = tiny.predict_noise([asked._replace(conditioning_scale=(0.0,))])
    (none,) = tiny.predict_noise([asked._replace(condition=bare, conditioning_scale=())])
    assert torch.equal(off, none)
