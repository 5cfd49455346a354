"""Kept attention maps: which numbers of which branch take whose place."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
import torch
from torch import Tensor

from rerender.constraint.cross_guidance import CrossGuidance
from rerender.constraint.cross_maps import CrossMaps
from rerender.constraint.self_maps import SelfMaps
from rerender.contracts import NoiseRequest
from rerender.scene import Layer, Shot, State
from rerender.video import Clip, MemoryVideo

if TYPE_CHECKING:
    from rerender.contracts import (
        AttentionMapEdit,
        Edits,
        InversionEdits,
        JointConstraint,
        JointEdits,
    )
    from rerender.model.diffusion import StableDiffusion

CROSS, SELF = Layer("cross", "up", 0, cross=True), Layer("self", "up", 0)
FINE = Layer("fine", "up", 1, cross=True)
VIDEO = MemoryVideo([torch.zeros(3, 16, 8)] * 2)  # latents of 8x4 cells
LENGTH = 32


def clip(source: str, prompt: str) -> Clip:
    return Clip("clip", VIDEO, prompt, source)


def act(part: JointConstraint, asked: Clip, model: StableDiffusion, ordinal: int = 1) -> JointEdits:
    return part.bind(Shot(asked, (0, 1)), model)[ordinal]


def at(edits: Edits | InversionEdits, step: int = 3) -> AttentionMapEdit:
    assert edits.maps is not None
    found = edits.maps(step)
    assert found is not None
    return found


def maps(*shape: int, seed: int) -> Tensor:
    return torch.rand(*shape, generator=torch.Generator().manual_seed(seed)).half().float()


@pytest.mark.parametrize("keep", ["memory", "disk"])
def test_common_words_take_the_columns_of_the_source(tiny: StableDiffusion, keep: str) -> None:
    """Letters are words here: "cat" and "bat" share the second and the third."""
    part = CrossMaps(keep=keep)  # type: ignore[arg-type]
    done = act(part, clip("cat", "bat"), tiny)
    source, own = maps(1, 2, 8, LENGTH, seed=1), maps(2, 2, 8, LENGTH, seed=2)
    assert at(done.inversion).wants(CROSS, 8) and not at(done.inversion).wants(SELF, 8)
    assert torch.equal(at(done.inversion).edit(CROSS, source), source)
    edited = at(done.sampling).edit(CROSS, own)
    assert torch.equal(edited[0], own[0])
    assert torch.equal(edited[1, ..., 1], own[1, ..., 1])
    assert torch.equal(edited[1, ..., [0, 2, 3, 4]], source[0, ..., [0, 2, 3, 4]])


def test_frames_steps_and_layers_are_kept_apart(tiny: StableDiffusion) -> None:
    asked = clip("cat", "cat")
    both = CrossMaps().bind(Shot(asked, (0, 1)), tiny)
    kept: dict[Any, Any] = {}
    for ordinal in (0, 1):
        for step in (0, 1):
            for layer in (CROSS, FINE):
                key = (ordinal, step, layer.name)
                kept[key] = maps(1, 2, 8, LENGTH, seed=len(kept))
                at(both[ordinal].inversion, step).edit(layer, kept[key])
    for (ordinal, step, name), source in kept.items():
        layer = CROSS if name == "cross" else FINE
        shown = torch.zeros_like(source)
        assert torch.equal(at(both[ordinal].sampling, step).edit(layer, shown), source)


def recorded(done: JointEdits, where: Tensor, source: Tensor) -> None:
    """An inversion in which the first letter of the prompt was seen at ``where [8,4]``."""
    words = torch.full((1, 2, 32, LENGTH), 0.01)
    words[0, :, :, 1] = where.flatten()
    at(done.inversion).edit(CROSS, words)
    at(done.inversion).edit(SELF, source)


def test_layout_is_kept_except_where_the_edited_word_was(tiny: StableDiffusion) -> None:
    where = torch.zeros(8, 4)
    where[2:4, 1] = torch.tensor([0.9, 0.2])  # the second one is below 0.3 of the maximum
    done = act(SelfMaps(), clip("cat", "bat"), tiny)
    source, own = maps(1, 2, 32, 64, seed=3), maps(2, 2, 32, 64, seed=4)
    recorded(done, where, source)
    edited = at(done.sampling).edit(SELF, own)
    assert torch.equal(edited[0], own[0])
    cell = 2 * 4 + 1
    rest = [index for index in range(32) if index != cell]
    assert torch.equal(edited[1][:, cell], own[1][:, cell])
    assert torch.equal(edited[1][:, rest], source[0][:, rest])


def test_coarse_layers_see_the_word_in_the_cell_around_it(tiny: StableDiffusion) -> None:
    where = torch.zeros(8, 4)
    where[5, 2] = 1.0
    done = act(SelfMaps(), clip("cat", "bat"), tiny)
    recorded(done, where, maps(1, 2, 32, 32, seed=3))
    source, own = torch.zeros(1, 2, 8, 8), torch.ones(2, 2, 8, 8)  # 4x2 cells
    coarse = Layer("coarse", "up", 0)
    at(done.inversion).edit(coarse, source)
    rows = at(done.sampling).edit(coarse, own)[1].amax((0, 2))
    assert rows.view(4, 2).nonzero().tolist() == [[2, 1]]


def test_a_style_added_keeps_the_whole_layout_and_asks_for_no_words(tiny: StableDiffusion) -> None:
    done = act(SelfMaps(), clip("cat", "cat, oil"), tiny)
    assert not at(done.inversion).wants(CROSS, 32)
    source = maps(1, 2, 32, 32, seed=3)
    at(done.inversion).edit(SELF, source)
    assert torch.equal(at(done.sampling).edit(SELF, torch.zeros(1, 2, 32, 32)), source)


def test_large_layers_are_left_alone(tiny: StableDiffusion) -> None:
    done = act(SelfMaps(max_query_tokens=100), clip("cat", "bat"), tiny)
    for edits in (done.inversion, done.sampling):
        assert at(edits).wants(SELF, 100) and not at(edits).wants(SELF, 101)


def test_the_loss_is_the_distance_of_the_maps_and_falls_along_its_gradient(
    tiny: StableDiffusion,
) -> None:
    noisy = torch.randn(1, 4, 8, 4, generator=torch.Generator().manual_seed(0))

    def request(prompt: str, latent: Tensor, maps: AttentionMapEdit) -> NoiseRequest:
        condition = tiny.condition(prompt, "", [torch.zeros(3, 16, 8)], guided=False)
        return NoiseRequest(latent, 500, condition, (0.0,), maps=maps)

    def loss(prompt: str, latent: Tensor) -> tuple[float, Tensor]:
        """The loss and its gradient of a latent, against an inversion at ``noisy``."""
        done = act(CrossGuidance(step_size=1.0), clip("cat", prompt), tiny)
        tiny.predict_noise([request("cat", noisy, at(done.inversion))])
        guidance = done.sampling.guidance
        assert guidance is not None
        latent = latent.clone().requires_grad_()
        tiny.predict_noise([request(prompt, latent, at(done.sampling))])
        found = guidance.loss(State(3, 0.5, latent, torch.zeros_like(latent)), latent)
        return float(found.detach()), torch.autograd.grad(found, latent)[0]

    assert loss("cat", noisy)[0] < 1e-4
    apart, gradient = loss("bat, oil", noisy)
    assert apart > 1e-2
    assert loss("bat, oil", noisy - 1e-2 * gradient / gradient.norm())[0] < apart
