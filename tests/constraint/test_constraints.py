"""The paper's four constraints: closed forms, unit values, laws of identity."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any, Literal

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from rerender.constraint._encoding import encode_faithfully
from rerender.constraint._masks import (
    LARGE,
    blur,
    blur_shifted,
    flat,
    grow_shifted,
    known,
    soften,
)
from rerender.constraint.color import adain
from rerender.constraint.cross_frame import CrossFrame
from rerender.constraint.pixel import Pixel, overlay
from rerender.constraint.shape import Shape
from rerender.errors import ConfigError
from rerender.flow.field import Flow, identity, warp
from rerender.scene import Layer, Reference, Scene, State, Trace, Translation, Watch
from rerender.translation.noise import keyed
from rerender.video import KeyFrame

if TYPE_CHECKING:
    from rerender.model.diffusion import StableDiffusion

SIDE = 32


def picture(seed: int) -> Tensor:
    coarse = torch.rand(1, 3, 4, 4, generator=torch.Generator().manual_seed(seed))
    return torch.nn.functional.interpolate(coarse, (SIDE, SIDE), mode="bilinear")[0]


def earlier(index: int, **trace: Any) -> Translation:
    filled = Trace(**trace)
    filled.image = picture(index)
    return Translation(KeyFrame(index, picture(index)), filled)


def scene(anchor: Translation, previous: Translation, flow: Flow, draft: Tensor | None) -> Scene:
    still = Flow(flow.offset, flow.occluded)
    return Scene(
        key=KeyFrame(5, picture(5)),
        anchor=Reference(anchor, lambda: flow),
        previous=Reference(previous, lambda: still),
        remembered=previous,
        noise=keyed(0, (1, 4, SIDE // 2, SIDE // 2)),
        watch=Watch(),
        draft=draft,
    )


def latent(seed: int, side: int = SIDE // 2) -> Tensor:
    return torch.randn(1, 4, side, side, generator=torch.Generator().manual_seed(seed))


# --- masks ------------------------------------------------------------------------------------


def test_nothing_occluded_means_all_known() -> None:
    soft = soften(torch.zeros(1, 1, SIDE, SIDE))
    assert soft.max() == 0
    assert torch.equal(known(soft, 8), torch.ones(1, 1, 4, 4))


def test_one_occluded_pixel_grows_four_pixels_and_fades_over_four_more() -> None:
    mask = torch.zeros(1, 1, SIDE, SIDE)
    mask[..., 16, 16] = 1
    soft = soften(mask)[0, 0]
    assert soft[16, 16] == 1
    assert soft[16, 24] > 0
    assert soft[16, 25] == 0
    assert (soft[16, 16:25].diff() <= 0).all()


def test_the_gaussian_of_sigma_18_over_9_pixels_is_almost_a_box() -> None:
    impulse = torch.zeros(1, 1, SIDE, SIDE)
    impulse[..., 16, 16] = 1
    row = blur(impulse)[0, 0, 12:21].sum(1)
    assert row.min().item() == pytest.approx(0.1095, abs=1e-4)
    assert row.max().item() == pytest.approx(0.1123, abs=1e-4)


def test_large_masks_are_softened_in_shifts_as_small_ones_in_windows() -> None:
    """Occluded borders, spots and a block, on either side of the size from which shifts are
    taken."""
    draw = torch.Generator().manual_seed(0)
    mask = (torch.rand(1, 1, 360, 400, generator=draw) > 0.999).float()
    mask[..., 100:140, 30:90], mask[..., -3:] = 1, 1
    assert mask.numel() >= LARGE
    grown = torch.nn.functional.max_pool2d(mask, 9, stride=1, padding=4)
    assert torch.equal(grow_shifted(mask), grown)
    assert torch.allclose(blur_shifted(grown), blur(grown), atol=1e-6)  # the same bits on x86
    soft = soften(mask)
    assert torch.allclose(soft, (blur(grown) + mask).clamp(0, 1), atol=1e-6)
    part = soften(mask[..., :160, :200])
    assert torch.allclose(soft[..., :140, :180], part[..., :140, :180], atol=1e-6)


def test_a_latent_cell_is_known_only_if_its_worst_pixel_is() -> None:
    soft = torch.zeros(1, 1, 16, 16)
    soft[..., 3, 9] = 0.75
    assert torch.equal(known(soft, 8)[0, 0], torch.tensor([[1.0, 0.25], [1.0, 1.0]]))


def test_flat_is_zero_only_beside_an_edge() -> None:
    mask = torch.zeros(1, 1, 6, 6)
    mask[..., 3:] = 1
    assert flat(mask)[0, 0, 0].tolist() == [1, 1, 0, 0, 1, 1]


# --- cross-frame attention --------------------------------------------------------------------


UP_COARSE, UP_FINE = Layer("up.0", "up", 0), Layer("up.1", "up", 1)
DOWN, MID = Layer("down.0", "down", 0), Layer("mid", "mid", 0)


def test_only_decoder_layers_attend_across_frames() -> None:
    chosen = CrossFrame()
    assert [chosen.acts_on(layer) for layer in (UP_COARSE, UP_FINE, DOWN, MID)] == [1, 1, 0, 0]
    loose = CrossFrame(loose=True)
    assert [loose.acts_on(layer) for layer in (UP_COARSE, UP_FINE)] == [False, True]


@pytest.mark.parametrize(
    ("refresh", "kept"), [(1, [0, 1, 2, 3, 4]), (2, [0, 2, 4]), (0, [0]), (3, [0, 3])]
)
def test_refresh_counts_key_frames(refresh: int, kept: list[int]) -> None:
    chosen = CrossFrame(refresh=refresh)
    assert [n for n in range(5) if chosen.remembers(UP_FINE, n)] == kept


def test_attends_to_first_and_previous_frame_not_to_its_own(tiny: StableDiffusion) -> None:
    first, previous, own = (torch.full((2, 3, 4), float(n)) for n in range(3))
    anchor = earlier(0, hidden_states={(7, "up.1"): first})
    before = earlier(1, hidden_states={(7, "up.1"): previous})
    attend = CrossFrame().bind(scene(anchor, before, identity(SIDE, SIDE), None), tiny).attend
    assert attend is not None
    assert torch.equal(attend(UP_FINE, own, 7), torch.cat([first, previous], 1))
    assert torch.equal(attend(DOWN, own, 7), own)
    alone = CrossFrame().bind(scene(anchor, anchor, identity(SIDE, SIDE), None), tiny).attend
    assert alone is not None
    assert torch.equal(alone(UP_FINE, own, 7), first)


# --- shape ------------------------------------------------------------------------------------


def fused(tiny: StableDiffusion, flow: Flow) -> tuple[Tensor, Tensor, Tensor]:
    anchor = earlier(0, clean={0: latent(1)})
    own = latent(2)
    clean = Shape(stop=0.5).bind(scene(anchor, anchor, flow, None), tiny).clean
    assert clean is not None
    return clean(State(0, 0.5, own, own * 0), own), anchor.trace.clean[0], own


def test_shape_of_a_still_scene_is_the_anchors(tiny: StableDiffusion) -> None:
    result, anchor, _ = fused(tiny, identity(SIDE, SIDE))
    assert torch.equal(result, anchor)


def test_shape_leaves_an_occluded_scene_alone(tiny: StableDiffusion) -> None:
    result, _, own = fused(tiny, Flow(identity(SIDE, SIDE).offset, torch.ones(1, 1, SIDE, SIDE)))
    assert torch.equal(result, own)


def test_shape_moves_whole_latent_cells(tiny: StableDiffusion) -> None:
    """A motion of 4 pixels is 2 cells of 2 pixels; nearest neighbour keeps every value."""
    offset = torch.zeros(1, 2, SIDE, SIDE)
    offset[:, 0] = 4
    result, anchor, _ = fused(tiny, Flow(offset, torch.zeros(1, 1, SIDE, SIDE)))
    assert torch.equal(result[..., :-2], anchor[..., 2:])


# --- colour -----------------------------------------------------------------------------------


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 999), st.floats(0.2, 5), st.floats(-3, 3))
def test_adain_takes_the_styles_statistics(seed: int, scale: float, shift: float) -> None:
    style = latent(seed) * scale + shift
    result = adain(latent(seed + 1000), style)
    assert torch.allclose(result.mean((2, 3)), style.mean((2, 3)), atol=1e-4)
    biased = result.std((2, 3), unbiased=False)
    assert torch.allclose(biased, style.std((2, 3)), rtol=1e-3, atol=1e-3)


def test_adain_of_a_constant_channel_is_finite() -> None:
    assert adain(torch.zeros(1, 4, 8, 8), latent(0, 8)).isfinite().all()


# --- fidelity-oriented encoding ---------------------------------------------------------------


class Lossy:
    """An autoencoder that shrinks what it encodes: compensation has a closed form."""

    factor = 1

    def __init__(self, shrink: float) -> None:
        self.shrink = shrink

    def encode(self, image: Tensor) -> Tensor:
        return self.shrink * image[None]

    def decode(self, latent: Tensor) -> Tensor:
        return latent[0]


@pytest.mark.parametrize("compensation", [0.0, 0.5, 1.0])
def test_compensation_adds_back_what_one_round_trip_loses(compensation: float) -> None:
    image = torch.full((3, 8, 8), 0.5)
    model: Any = Lossy(0.9)
    plain = 0.9 * image[None]
    expected = plain + compensation * (plain - 0.9 * plain)
    assert torch.allclose(encode_faithfully(model, image, compensation), expected)
    assert (encode_faithfully(model, image, 1.0) - image).abs().max() < (plain - image).abs().max()


def test_compensation_is_withheld_where_it_decodes_to_something_wrong() -> None:
    image = torch.full((3, 16, 16), 0.5)
    image[:, 8, 8] = 50.0
    model: Any = Lossy(0.9)
    plain = 0.9 * image[None]
    result = encode_faithfully(model, image, 1.0)
    assert torch.equal(result[..., 7:10, 7:10], plain[..., 7:10, 7:10])
    assert (result[..., :6, :6] > plain[..., :6, :6]).all()


# --- pixels -----------------------------------------------------------------------------------


def test_weights_keep_variance() -> None:
    """A value by hand: r(w = 0.5, kappa = 0.9) = 0.7794."""
    signal, noise = Pixel(start=0.5).weights(torch.ones(1, 1, 4, 4))
    assert signal[0, 0, 0, 0].item() == pytest.approx(0.5)
    assert noise[0, 0, 0, 0].item() == pytest.approx(0.7794, abs=1e-4)
    full = Pixel(start=0.5, detail=1.0).weights(torch.ones(1, 1, 4, 4))
    assert torch.allclose(full[0] ** 2 + full[1] ** 2, torch.ones(1, 1, 4, 4))


def test_weights_at_an_edge_are_a_plain_blend() -> None:
    mask = torch.zeros(1, 1, 6, 6)
    mask[..., 3:] = 1
    signal, noise = Pixel(start=0.5).weights(mask)
    assert torch.equal(noise[..., 2:4], 1 - signal[..., 2:4])


def test_where_nothing_is_known_the_latent_stays(tiny: StableDiffusion) -> None:
    hidden = Flow(identity(SIDE, SIDE).offset, torch.ones(1, 1, SIDE, SIDE))
    noisy = Pixel(start=0.5).bind(scene(earlier(0), earlier(1), hidden, picture(9)), tiny).noisy
    assert noisy is not None
    own, direction = latent(3), latent(4)
    assert torch.allclose(noisy(State(5, 0.5, own, direction)), own, atol=1e-6)


def test_full_strength_replaces_by_the_noised_reference(tiny: StableDiffusion) -> None:
    """Eq. 11 of the paper: with strength 1 the known part is the reference at this noise level."""
    anchor = earlier(0)
    shown = scene(anchor, earlier(1), identity(SIDE, SIDE), picture(9))
    noisy = Pixel(start=0.5, strength=1.0, compensation=0.0).bind(shown, tiny).noisy
    assert noisy is not None
    result = noisy(State(5, 0.36, latent(3), latent(4)))
    expected = 0.6 * tiny.encode(anchor.image) + 0.8 * shown.noise("pixel", 5)
    assert torch.allclose(result, expected, atol=1e-5)


def test_overlay_puts_the_anchor_on_top_and_the_draft_in_the_hole() -> None:
    flow = identity(SIDE, SIDE)
    left = torch.zeros(1, 1, SIDE, SIDE)
    left[..., :12] = 1  # not visible in the anchor
    top = torch.zeros(1, 1, SIDE, SIDE)
    top[..., :12, :] = 1  # not visible in the previous frame
    anchor, previous, draft = earlier(0), earlier(1), picture(9)
    shown = scene(anchor, previous, flow, draft)
    references = [
        Reference(anchor, lambda: Flow(flow.offset, left)),
        Reference(previous, lambda: Flow(flow.offset, top)),
    ]
    result, hole = overlay(shown, references)
    assert torch.allclose(result[:, :, 24:], anchor.image[:, :, 24:], atol=1e-5)
    assert torch.allclose(result[:, 24:, :12], previous.image[:, 24:, :12], atol=1e-5)
    assert torch.allclose(result[:, :12, :12], draft[:, :12, :12], atol=1e-5)
    assert torch.equal(hole, left * top)


def test_a_still_scene_has_an_empty_hole() -> None:
    shown = scene(earlier(0), earlier(1), identity(SIDE, SIDE), picture(9))
    result, hole = overlay(shown, [shown.anchor, shown.previous])
    assert hole.max() == 0
    assert torch.allclose(result, shown.anchor.image, atol=1e-5)


@pytest.mark.parametrize(("outside", "kept"), [("border", True), ("grey", False)])
def test_the_rim_where_little_has_left_the_image(
    outside: Literal["grey", "border"], kept: bool
) -> None:
    """A white picture moved by 0.4 pixels, nothing of it hidden, stays white up to its rim unless
    grey is mixed in: 1 - 0.4 * 0.5 there."""
    white = earlier(0)
    white.trace.image = torch.ones(3, SIDE, SIDE)
    offset = torch.full((1, 2, SIDE, SIDE), -0.4)
    reference = Reference(white, lambda: Flow(offset, torch.zeros(1, 1, SIDE, SIDE)))
    shown = scene(white, white, identity(SIDE, SIDE), picture(9))
    result, _ = overlay(shown, [reference], outside)
    assert torch.allclose(result[:, 1:, 1:], torch.ones(3, SIDE - 1, SIDE - 1), atol=1e-5)
    rim = 1.0 if kept else 0.8
    assert torch.allclose(result[:, 5:, 0], torch.full((3, SIDE - 5), rim), atol=1e-5)


def test_double_mask_darkens_only_the_rim(tiny: StableDiffusion) -> None:
    occluded = torch.zeros(1, 1, SIDE, SIDE)
    occluded[..., :12] = 1
    flow = Flow(identity(SIDE, SIDE).offset, occluded)
    shown = scene(earlier(0), earlier(0), flow, picture(9))
    state = State(5, 1.0, latent(3), latent(4))
    once, twice = (
        Pixel(start=0.5, double_mask=double).bind(shown, tiny).noisy for double in (False, True)
    )
    assert once is not None
    assert twice is not None
    changed = (once(state) != twice(state)).any(1)[0].any(0)
    assert changed.any()
    assert not changed[12:].any()


# --- the contract -----------------------------------------------------------------------------


@pytest.mark.parametrize("window", [(0.5, 0.2), (0.3, 0.3), (-0.1, 0.5), (0.5, 1.1)])
def test_bad_windows_are_refused(window: tuple[float, float]) -> None:
    with pytest.raises(ConfigError, match=r"constraint\.shape"):
        Shape(start=window[0], stop=window[1])


def test_constraints_are_values() -> None:
    assert Shape(stop=0.2) == Shape(stop=0.2)
    assert replace(Shape(stop=0.2), stop=0.3) == Shape(stop=0.3)


def test_warp_of_nearest_keeps_values() -> None:
    image = latent(0)
    moved = warp(image, torch.full((1, 2, SIDE // 2, SIDE // 2), 1.0), "nearest")
    assert torch.equal(moved[..., :-1, :-1], image[..., 1:, 1:])
