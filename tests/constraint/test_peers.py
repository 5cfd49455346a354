"""Joint methods of others: the law that each one's definition implies, on tiny weights."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from rerender.constraint._correspondence import optimised, similarities, temporal_loss
from rerender.constraint._saliency import background
from rerender.constraint._takeover import beside, eased
from rerender.constraint._token_merging import match
from rerender.constraint._trajectories import attend_along, trajectories
from rerender.constraint.color import Color
from rerender.constraint.cross_frame import CrossFrame
from rerender.constraint.feature_bank import FeatureBank
from rerender.constraint.flatten import Flatten
from rerender.constraint.flow_fusion import FlowFusion
from rerender.constraint.flow_gate import FlowGate
from rerender.constraint.frame_smoothing import FrameSmoothing
from rerender.constraint.fresco import Fresco, _Source, _Ties
from rerender.constraint.rave import Rave
from rerender.constraint.shape import Shape
from rerender.constraint.spatio_temporal import SpatioTemporal
from rerender.constraint.tokenflow import TokenFlow
from rerender.constraint.vidtome import VidToMe
from rerender.contracts import SelfAttention
from rerender.errors import ConfigError
from rerender.flow.field import Flow, identity
from rerender.scene import Layer, Shot
from rerender.start.ddim_inversion import DDIMInversion
from rerender.translate import translate
from rerender.translation.noise import generator
from rerender.video import Clip, MemoryVideo
from tests.scenes import SCENE, Shift, moving, parts, translated

if TYPE_CHECKING:
    from rerender.contracts import JointConstraint
    from rerender.model.diffusion import StableDiffusion

TOLD = replace(SCENE, source_prompt="a cat", video=moving(5))
STILL = replace(TOLD, video=MemoryVideo([TOLD.video[0]] * 5))
TOLERANCE = 1e-4


def latents(
    model: StableDiffusion, *constraint: JointConstraint, keys: int = 3, **more: Any
) -> Tensor:
    """Of the first key frames of a clip, after three guided steps."""
    clip = more.pop("clip", TOLD)
    inverts = more.pop("inverts", any(type(c).needs_source for c in constraint))
    settings = {"steps": 4, "strength": 0.75, "guidance": 2.0, "batch_size": 8, **more}
    chosen = parts((), **settings)
    if inverts:
        chosen = replace(chosen, start=DDIMInversion())
    chosen = replace(chosen, constraint=constraint)
    found = list(translate(clip, [range(keys)], model, chosen))
    return torch.cat([each.trace.latent for each in found if each.trace.latent is not None])


def close(one: Tensor, two: Tensor, tolerance: float = TOLERANCE) -> bool:
    return torch.allclose(one, two, atol=tolerance)


EVERY: list[JointConstraint] = [
    TokenFlow(group=2),
    TokenFlow(group=2, inject_features=0.8, inject_attention=0.5),
    Rave(rows=2, columns=2),
    VidToMe(chunk=2),
    Flatten(inject=0.4),
    FrameSmoothing(start=0.3, stop=1.0),
    FeatureBank(interval=1, threshold=0.5),
    Fresco(batch=3, iterations=3),
    Fresco(group=2, iterations=0),
]


@pytest.mark.parametrize(
    "constraint",
    [
        *(each for each in EVERY if not isinstance(each, (Rave, VidToMe, FeatureBank))),
        # Cells in the corners of larger grids meet the padding of convolutions on other sides;
        # tokens that are not merged, or are merged with others of their own frame, weigh more.
        Rave(rows=1, columns=1),
        VidToMe(chunk=2, local_ratio=1.0, global_ratio=1.0),
        FeatureBank(interval=9, threshold=0.5),
    ],
    ids=lambda each: each.name,
)
def test_identical_frames_become_identical_frames(
    tiny: StableDiffusion, constraint: JointConstraint
) -> None:
    found = latents(tiny, constraint, clip=STILL, flow=Shift(0.0), keys=4)
    assert close(found, found[:1])


@pytest.mark.parametrize("constraint", EVERY, ids=lambda each: each.name)
def test_every_method_does_something_and_the_same_twice(
    tiny: StableDiffusion, constraint: JointConstraint
) -> None:
    once, again = (latents(tiny, constraint) for _ in range(2))
    inverts = type(constraint).needs_source
    assert torch.equal(once, again)
    assert not close(once, latents(tiny, inverts=inverts), 1e-3)


@pytest.mark.parametrize(
    "constraint",
    [VidToMe(local_ratio=0.0), FeatureBank(interval=0), Rave(rows=1, columns=1)],
    ids=lambda each: each.name,
)
def test_a_method_that_is_switched_off_is_per_frame(
    tiny: StableDiffusion, constraint: JointConstraint
) -> None:
    assert close(latents(tiny, constraint), latents(tiny), 1e-5)


def test_a_batch_of_one_key_frame_is_per_frame_to_the_byte(tiny: StableDiffusion) -> None:
    for constraint in (VidToMe(local_ratio=0.0), FeatureBank(interval=0), FrameSmoothing()):
        alone = latents(tiny, constraint, keys=1)
        assert torch.equal(alone, latents(tiny, keys=1))


def test_two_that_answer_for_the_same_layers_are_refused() -> None:
    with pytest.raises(ConfigError, match=r"vidtome: answers in place.*feature_bank.*leave one"):
        parts((VidToMe(), FeatureBank()))
    with pytest.raises(ConfigError, match=r"rave: denoises several.*use constraint=\[rave\]"):
        parts((Rave(), FrameSmoothing()))


# -- attention without a network ------------------------------------------------------------------


class Plain(SelfAttention):
    """One head, nothing projected."""

    layer = Layer("plain", "up", 1)

    def queries(self, hidden_states: Tensor) -> Tensor:
        return hidden_states

    def keys(self, context: Tensor) -> Tensor:
        return context

    def values(self, context: Tensor) -> Tensor:
        return context

    def attend(
        self,
        query: Tensor,
        key: Tensor,
        value: Tensor,
        scale: float = 1.0,
        visible: Tensor | None = None,
    ) -> Tensor:
        logits = scale * query @ key.mT / query.shape[-1] ** 0.5
        if visible is not None:
            logits = logits.masked_fill(~visible, -torch.inf)
        return logits.softmax(-1) @ value

    def project(self, attended: Tensor) -> Tensor:
        return attended


def shot(count: int, dx: float = 0.0, side: int = 16) -> Shot:
    """Key frames whose scene moves by ``dx`` pixels from each to the next."""
    clip = Clip("clip", MemoryVideo([torch.zeros(3, side, side)] * count), "a cat")

    def flow(target: int, source: int) -> Flow:
        still = identity(side, side)
        moved = still.offset + torch.tensor([dx * (source - target), 0.0]).view(1, 2, 1, 1)
        return Flow(moved, still.occluded)

    return Shot(clip, tuple(range(count)), 3, flow, lambda role, step: generator(f"{role}/{step}"))


def states(count: int, cells: int, width: int = 8) -> dict[int, Tensor]:
    draw = torch.Generator().manual_seed(0)
    return {o: torch.randn(2, cells, width, generator=draw) for o in range(count)}


# -- TokenFlow ------------------------------------------------------------------------------------


def test_tokenflow_with_every_frame_a_pivot_is_extended_attention(tiny: StableDiffusion) -> None:
    extended = SpatioTemporal(frames="all", inversion=False)
    flow = latents(tiny, TokenFlow(group=1))
    assert close(flow, latents(tiny, extended, inverts=True))


def test_tokenflow_in_batches_that_hold_the_pivots_is_the_same(tiny: StableDiffusion) -> None:
    whole, split = (latents(tiny, TokenFlow(group=3), keys=5, batch_size=n) for n in (8, 3))
    assert close(whole, split)


def test_pivots_are_drawn_for_each_group_and_step_anew() -> None:
    drawn = [tuple(TokenFlow(group=4).pivots(shot(10), step)) for step in range(12)]
    assert len(set(drawn)) > 4
    for first, second, third in drawn:
        assert first in range(4) and second in range(4, 8) and third in (8, 9)


def test_weights_fall_from_one_pivot_to_the_other() -> None:
    weights = [eased(share / 10) for share in range(11)]
    assert weights == sorted(weights)
    assert (weights[0], weights[-1]) == (0.0, 1.0)
    assert weights[5] == pytest.approx(0.5)


def test_plug_and_play_holds_the_result_closer_to_the_source(tiny: StableDiffusion) -> None:
    """With all features and all attention kept, the editing is nearer to the source's latents."""
    source = torch.cat([tiny.encode(TOLD.video[index]) for index in range(3)])
    plain, kept = (
        latents(tiny, TokenFlow(group=1, inject_features=share, inject_attention=share))
        for share in (0.0, 1.0)
    )
    assert not close(plain, kept, 1e-3)
    assert (kept - source).norm() < (plain - source).norm()


# -- RAVE -----------------------------------------------------------------------------------------


def test_every_key_frame_is_dealt_once_and_incomplete_grids_are_filled_up() -> None:
    rave = Rave(rows=2, columns=2)
    canvas = rave.bind(shot(7), None)[0].canvas  # type: ignore[arg-type]
    assert canvas is not None
    deals = [[cell for grid in canvas(step) for cell in grid.cells] for step in range(6)]
    assert all(len(deal) == 8 and sorted(deal[:7]) == list(range(7)) for deal in deals)
    assert all(deal[7] == deal[0] for deal in deals)
    assert len({tuple(deal) for deal in deals}) > 3


def test_grids_in_batches_are_the_same_grids(tiny: StableDiffusion) -> None:
    rave = Rave(rows=1, columns=2)
    whole, split = (latents(tiny, rave, keys=5, batch_size=n) for n in (8, 2))
    assert close(whole, split)


# -- VidToMe --------------------------------------------------------------------------------------


@pytest.mark.parametrize("ratio", [0.0, 0.3, 1.0])
def test_unmerging_restores_what_was_not_merged(ratio: float) -> None:
    source, destination = states(2, 10).values()
    pairs = match(source, destination, ratio)
    merged = pairs.merge(source, destination)
    assert merged.shape == (2, 20 - int(ratio * 10), 8)
    back, target = pairs.unmerge(merged)
    for branch in range(2):
        kept = pairs.kept[branch]
        assert torch.equal(back[branch, kept], source[branch, kept])
        left = sorted(set(range(10)) - set(pairs.into[branch].tolist()))
        assert torch.equal(target[branch, left], destination[branch, left])
        for moved, into in zip(pairs.moved[branch], pairs.into[branch], strict=True):
            assert torch.equal(back[branch, moved], target[branch, into])


def test_the_most_similar_tokens_are_merged() -> None:
    source, destination = states(2, 10).values()
    source = source.clone()
    source[:, [2, 5]] = 3 * destination[:, [7, 1]]
    pairs = match(source, destination, 0.2)
    for branch in range(2):
        assert {(2, 7), (5, 1)} == set(
            zip(pairs.moved[branch].tolist(), pairs.into[branch].tolist(), strict=True)
        )


# -- FLATTEN and paths ----------------------------------------------------------------------------


def test_without_motion_a_path_stays_at_its_place_and_is_seen() -> None:
    paths = trajectories(shot(3))(64)
    assert torch.equal(paths.places, torch.arange(64).expand(3, 3, 64))
    assert paths.visible.all()


def test_paths_follow_the_motion_and_end_where_it_leaves_the_image() -> None:
    """Two pixels a frame on cells of two pixels: one cell to the right for each frame ahead."""
    paths = trajectories(shot(3, dx=2.0))(64)
    place = torch.arange(64).view(8, 8)
    assert torch.equal(paths.places[0, 2].view(8, 8)[:, :6], place[:, 2:])
    assert torch.equal(paths.visible[0, 2].view(8, 8), (torch.arange(8) < 6).expand(8, 8))
    assert torch.equal(paths.places[2, 1].view(8, 8)[:, 1:], place[:, :-1])


def test_along_a_still_path_attention_is_over_time_at_one_place() -> None:
    hidden = states(3, 64)
    found = attend_along(Plain(), trajectories(shot(3))(64), hidden, hidden, hidden)
    stacked = torch.stack([*hidden.values()], 2)  # [B,N,T,C]
    for ordinal, query in hidden.items():
        expected = F.scaled_dot_product_attention(query[:, :, None], stacked, stacked)[:, :, 0]
        assert close(found[ordinal], expected, 1e-5)


def test_flatten_without_motion_averages_dense_attention_over_time() -> None:
    hidden = states(3, 64)
    process = Flatten(inject=0.0).bind(shot(3), None)[0].processor  # type: ignore[arg-type]
    assert process is not None
    found = process(Plain(), hidden, hidden, 0)
    every = torch.cat([*hidden.values()], 1)
    dense = [F.scaled_dot_product_attention(each, every, every) for each in hidden.values()]
    keys, values = torch.stack([*hidden.values()], 2), torch.stack(dense, 2)
    for ordinal, query in hidden.items():
        expected = F.scaled_dot_product_attention(query[:, :, None], keys, values)[:, :, 0]
        assert close(found[ordinal], expected, 1e-5)


# -- ControlVideo ---------------------------------------------------------------------------------


def test_smoothing_moves_inner_key_frames_of_one_parity_in_each_step(
    tiny: StableDiffusion,
) -> None:
    plain = latents(tiny, keys=5)
    once = latents(tiny, FrameSmoothing(start=0.6, stop=1.0), keys=5)  # the last of three steps
    changed = [not torch.equal(a, b) for a, b in zip(plain, once, strict=True)]
    assert changed == [False, False, True, False, False]


# -- StreamV2V ------------------------------------------------------------------------------------


def test_a_bank_is_the_same_in_batches_of_any_size(tiny: StableDiffusion) -> None:
    bank = FeatureBank(interval=2, threshold=0.5)
    whole, split = (latents(tiny, bank, keys=5, batch_size=n) for n in (8, 2))
    assert close(whole, split)


def test_the_first_key_frame_finds_an_empty_bank(tiny: StableDiffusion) -> None:
    bank = FeatureBank(interval=1, threshold=0.5)
    assert close(latents(tiny, bank)[0], latents(tiny)[0], 1e-5)


def test_a_bank_does_not_grow() -> None:
    seen = []

    class Counting(Plain):
        def attend(self, query: Tensor, key: Tensor, value: Tensor, *more: Any) -> Tensor:
            seen.append(key.shape[1])
            return super().attend(query, key, value, *more)

    process = FeatureBank(interval=1).bind(shot(6), None)[0].processor  # type: ignore[arg-type]
    assert process is not None
    process(Counting(), states(6, 16), states(6, 16), 0)
    assert seen == [16, 32, 32, 32, 32, 32]


# -- FRESCO ---------------------------------------------------------------------------------------


def test_the_loss_of_features_falls_with_every_iteration() -> None:
    draw = torch.Generator().manual_seed(3)
    features = torch.randn(3, 6, 8, 8, generator=draw)
    still = identity(8, 8)
    pairs = [(0, 1, still), (1, 0, still), (1, 2, still), (2, 1, still)]
    wanted = similarities(torch.randn(3, 6, 8, 8, generator=draw))
    moved, losses = optimised(features, pairs, wanted, 20, 0.05, 50.0)
    assert losses == sorted(losses, reverse=True)
    assert losses[-1] < 0.8 * losses[0]
    assert temporal_loss(moved, pairs) < temporal_loss(features, pairs)
    untouched, _ = optimised(features, pairs, wanted, 0, 0.05, 50.0)
    assert torch.equal(untouched, features)


def test_fresco_without_iterations_is_its_attention_alone(tiny: StableDiffusion) -> None:
    alone = latents(tiny, Fresco(iterations=0))
    assert torch.equal(alone, latents(tiny, Fresco(optimise=0.0)))
    assert not close(alone, latents(tiny, Fresco(iterations=3)), 1e-3)


def test_a_mix_in_batches_that_hold_its_pivots_is_the_same(tiny: StableDiffusion) -> None:
    mix = Fresco(group=2, iterations=1)
    whole, split = (latents(tiny, mix, keys=5, batch_size=n) for n in (8, 4))
    assert close(whole, split)


def test_key_frames_of_a_mix_are_pivots_in_turn() -> None:
    mix = Fresco(group=2)
    assert [list(mix.pivots(shot(5), step)) for step in range(3)] == [[0, 2, 4], [1, 3], [0, 2, 4]]
    assert list(mix.pivots(shot(1), 1)) == [0]
    ((first, one), (second, other)) = beside(2, [1, 3])
    assert (first, second) == (1, 3)
    assert [one, other] == pytest.approx([0.5, 0.5])
    assert beside(0, [1, 3]) == [(1, 1.0)]


def test_later_batches_carry_the_first_and_the_last_key_frame() -> None:
    found = Fresco(batch=4).batches(shot(9))
    assert found is not None
    assert [list(each) for each in found] == [
        [0, 1, 2, 3],
        [0, 3, 4, 5],
        [0, 5, 6, 7],
        [0, 7, 8],
    ]
    few = Fresco(batch=8).batches(shot(3))
    assert few is not None and [list(each) for each in few] == [[0, 1, 2]]


def test_what_stands_out_is_no_background() -> None:
    image = 0.5 + 0.05 * torch.randn(3, 64, 64, generator=torch.Generator().manual_seed(0))
    image[:, 28:36, 28:36] = 1.0
    still = background(image)
    assert still.shape == (1, 64, 64)
    assert 0 <= float(still.min()) <= float(still.max()) <= 1
    assert float(still[0, 28:36, 28:36].mean()) < 0.3 < 0.6 < float(still[0, :16, :16].mean())


# -- clean latents of all -------------------------------------------------------------------------


def test_clean_latents_come_together_once_a_step(tiny: StableDiffusion) -> None:
    from rerender.contracts import Features, JointConstraint, JointEdits

    met = []

    class Watching(JointConstraint):
        def bind(self, shot: Shot, model: Any) -> list[JointEdits]:
            def clean(step: int, latents: Features) -> Features:
                met.append((step, sorted(latents)))
                return latents

            return [JointEdits(clean_jointly=clean)] * len(shot)

    assert close(latents(tiny, Watching()), latents(tiny), 1e-5)
    assert met == [(step, [0, 1, 2]) for step in range(3)]


def test_sequential_translation_is_not_touched(tiny: StableDiffusion) -> None:
    chosen = parts((), steps=4, strength=0.75, guidance=2.0, batch_size=8)
    one = torch.cat([each.trace.latent for each in translated(tiny, chosen, 3, clip=TOLD)])  # type: ignore[misc]
    assert torch.equal(one, latents(tiny))


# -- the adaptive mix -----------------------------------------------------------------------------


def mixed(model: StableDiffusion, *constraint: Any, keys: int = 3, **more: Any) -> Tensor:
    """Of constraints of which some are not joint."""
    settings = {"steps": 4, "strength": 0.75, "guidance": 2.0, "batch_size": 8, **more}
    chosen = parts(constraint, **settings)
    found = list(translate(TOLD, [range(keys)], model, chosen))
    return torch.cat([each.trace.latent for each in found if each.trace.latent is not None])


FOLLOWING = (CrossFrame(), Color(start=0.6), Shape(stop=0.5), FlowFusion(start=0.3, stop=0.8))
FRESCO = Fresco(iterations=2, smooth_start=0.6, smooth_stop=1.0)


@pytest.mark.parametrize(("value", "alone"), [(0.0, (FRESCO,)), (1.0, FOLLOWING)])
def test_a_gate_forced_open_or_shut_gives_either_methods_bytes(
    tiny: StableDiffusion, value: float, alone: tuple[Any, ...]
) -> None:
    gate = FlowGate(value=value)
    assert torch.equal(mixed(tiny, gate, FRESCO, *FOLLOWING), mixed(tiny, *alone))


def test_a_gate_that_excludes_nothing_adds_what_follows_the_flow(tiny: StableDiffusion) -> None:
    """Forced open, all edits count everywhere; forced shut, those alone that do not follow it."""
    following = FOLLOWING[1:]  # a processor knows nothing of contexts under a gate
    both = mixed(tiny, FRESCO, *following)
    opened, shut = (
        mixed(tiny, FlowGate(value=value, exclusive=0.0), FRESCO, *following) for value in (1, 0)
    )
    assert torch.equal(opened, both)
    assert torch.equal(shut, mixed(tiny, FRESCO)) and not close(shut, both, 1e-3)


def test_a_gate_between_lies_between(tiny: StableDiffusion) -> None:
    half = mixed(tiny, FlowGate(value=0.5), FRESCO, *FOLLOWING)
    for alone in ((FRESCO,), FOLLOWING):
        assert not close(half, mixed(tiny, *alone), 1e-3)


def test_the_gate_opens_where_the_flow_is_right_and_shuts_where_it_is_not(
    tiny: StableDiffusion,
) -> None:
    def share(dx: float, **settings: Any) -> Tensor:
        def flow(target: int, source: int) -> Flow:
            frames = [TOLD.video.frame(each) for each in (target, source)]
            return Shift(dx).between(*frames)

        asked = Shot(TOLD, (0, 1, 2), 3, flow)
        return FlowGate(**settings).bind(asked, tiny)[2].share  # type: ignore[return-value]

    right, wrong = share(1.0), share(-6.0)
    assert right.shape == (1, 1, 16, 16)
    assert 0 <= float(right.min()) <= float(right.max()) <= 1
    assert float(right[..., 3:].mean()) > 0.9
    assert float(wrong.mean()) < float(right.mean()) / 2
    assert float(share(1.0, coverage=1.0).max()) == 0


@pytest.mark.parametrize("dx", [0.4, -0.4, 2.0])
def test_no_rim_is_darkened_where_little_has_left_the_image(dx: float) -> None:
    # Up to half a pixel beyond the image nothing is occluded, and zeros are fetched from there.
    bright = {ordinal: torch.full((1, 3, 32, 32), 0.8) for ordinal in range(3)}
    asked = shot(3, dx=dx, side=32)
    ties = _Ties(Fresco(), asked, _Source(), Pixels())  # type: ignore[arg-type]
    smoothing = FrameSmoothing().bind(asked, Pixels())[0].clean_jointly  # type: ignore[arg-type]
    fusion = FlowFusion().bind(asked, Pixels())[0].clean_jointly  # type: ignore[arg-type]
    assert smoothing is not None and fusion is not None
    smoothed = (ties.smoothed(bright), smoothing(0, bright), smoothing(1, bright))
    for found in (*smoothed, fusion(0, bright)):
        assert all(close(found[ordinal], bright[ordinal], 1e-6) for ordinal in bright)
    features = torch.full((3, 4, 32, 32), 2.0)
    assert temporal_loss(features, [(1, 0, asked.flow(1, 0)), (2, 1, asked.flow(2, 1))]) == 0
    shown = replace(asked, clip=replace(asked.clip, video=MemoryVideo([bright[0][0]] * 3)))
    share = FlowGate().bind(shown, Pixels())[1].share  # type: ignore[arg-type]
    assert isinstance(share, Tensor)
    assert float(share.min()) > 0.99


def test_fusion_without_strength_leaves_all_as_it_is(tiny: StableDiffusion) -> None:
    assert close(mixed(tiny, FlowFusion(strength=0.0)), mixed(tiny), 1e-5)


class Pixels:
    """A model whose latents are pictures."""

    vae_scale_factor = 1

    def encode(self, image: Tensor) -> Tensor:
        return image[None]

    def decode(self, latent: Tensor) -> Tensor:
        return latent[0]


def test_fusion_lays_the_first_key_frame_over_all_others_where_it_is_visible() -> None:
    draw = torch.Generator().manual_seed(0)
    pictures = {ordinal: torch.rand(1, 3, 16, 16, generator=draw) for ordinal in range(3)}
    asked = shot(3, dx=2.0)
    fuse = FlowFusion().bind(asked, Pixels())[0].clean_jointly  # type: ignore[arg-type]
    assert fuse is not None
    found = fuse(0, pictures)
    assert torch.equal(found[0], pictures[0])
    for ordinal in (1, 2):
        moved = asked.flow(ordinal, 0).warp(pictures[0], outside="border")
        assert close(found[ordinal], moved, 1e-5)
    half = FlowFusion(strength=0.5).bind(asked, Pixels())[0].clean_jointly  # type: ignore[arg-type]
    assert half is not None
    moved = asked.flow(1, 0).warp(pictures[0], outside="border")
    assert close(half(0, pictures)[1], 0.5 * moved + 0.5 * pictures[1], 1e-5)
