"""Joint translation: lockstep agrees with one by one, and the laws of methods built on it."""

from __future__ import annotations

from dataclasses import dataclass, replace
from itertools import combinations
from typing import TYPE_CHECKING, Any

import pytest
import torch
from torch import Tensor

from rerender.constraint.color import Color
from rerender.constraint.cross_frame import CrossFrame
from rerender.constraint.cross_guidance import CrossGuidance
from rerender.constraint.cross_maps import CrossMaps
from rerender.constraint.guided import Guided
from rerender.constraint.pixel import Pixel
from rerender.constraint.self_maps import SelfMaps
from rerender.constraint.shape import Shape
from rerender.constraint.spatio_temporal import SpatioTemporal
from rerender.contracts import HiddenStates, InversionEdits, JointConstraint, JointEdits, Model
from rerender.errors import ConfigError
from rerender.scene import Layer, Shot, Watch
from rerender.start.ddim_inversion import DDIMInversion
from rerender.start.null_text import NullText
from rerender.translate import translate
from rerender.video import Clip, MemoryVideo
from tests.scenes import SCENE, moving, parts, translated
from tests.test_translate import Counting, latents

if TYPE_CHECKING:
    from rerender.config.parts import Parts
    from rerender.model.diffusion import StableDiffusion
    from rerender.scene import Translation

TOLERANCE = 1e-4  # of latents after all steps, batches of other sizes, float32
TOLD = replace(SCENE, source_prompt="a cat")


@dataclass(frozen=True, kw_only=True)
class Alone(JointConstraint):
    """A joint constraint that looks at its own frame only."""

    inversion: bool = False

    def bind(self, shot: Shot, model: Model) -> list[JointEdits]:
        def attend(layer: Layer, hidden_states: HiddenStates, step: int) -> HiddenStates:
            return hidden_states

        inversion = InversionEdits(attend_jointly=attend if self.inversion else None)
        return [JointEdits(attend_jointly=attend, inversion=inversion)] * len(shot)


def together(model: Any, chosen: Parts, keys: int = 4, **more: Any) -> list[Translation]:
    clip = more.pop("clip", TOLD)
    return list(translate(clip, [range(keys)], model, chosen, **more))


def inverted(constraint: tuple[Any, ...], **changes: Any) -> Parts:
    """Parts that go back from the source, through few enough steps for random weights."""
    start = changes.pop("start", DDIMInversion())
    settings = {"strength": 0.4, "guidance": 1.0, "steps": 10, **changes}
    return replace(parts((), **settings), start=start, constraint=constraint)


LOOKING_BACK = (CrossFrame(), Color(start=0.5), Shape(stop=0.3))


@pytest.fixture(scope="module", params=[(), LOOKING_BACK], ids=["none", "looking back"])
def sequential(request: pytest.FixtureRequest, tiny: StableDiffusion) -> tuple[Any, Tensor]:
    """Constraints, and the latents of key frames translated one after the other under them."""
    return request.param, latents(translated(tiny, parts(request.param, steps=5)))


@pytest.mark.parametrize("batch_size", [1, 2, 8])
def test_looking_at_oneself_only_is_sequential_translation(
    tiny: StableDiffusion, sequential: tuple[Any, Tensor], batch_size: int
) -> None:
    """With and without constraints that look back at earlier key frames, for any batch."""
    others, one = sequential
    joint = together(tiny, parts((Alone(), *others), batch_size=batch_size, steps=5))
    assert [result.key.index for result in joint] == [0, 1, 2, 3]
    assert torch.allclose(one, latents(joint), atol=TOLERANCE)


def test_energies_in_company_are_those_of_each_alone(tiny: StableDiffusion) -> None:
    one = translated(tiny, parts((Guided(step_size=0.1),)), 3)
    joint = together(tiny, parts((Alone(), Guided(step_size=0.1))), 3)
    assert torch.allclose(latents(one), latents(joint), atol=TOLERANCE)
    assert not torch.allclose(latents(one), latents(translated(tiny, parts(()), 3)), atol=1e-3)


def test_the_first_frame_is_in_the_batch_of_those_that_are_guided(tiny: StableDiffusion) -> None:
    """Equal frames: dense attention is each one's own, and there is nothing to be guided to."""
    still = replace(SCENE, video=MemoryVideo([SCENE.video[0]] * 3))
    own = latents(translated(tiny, parts(()), 3, clip=still))
    for frames in ("all", "middle"):
        chosen = parts((SpatioTemporal(frames=frames), Guided(step_size=0.1)), batch_size=8)
        assert torch.allclose(own, latents(together(tiny, chosen, 3, clip=still)), atol=TOLERANCE)


def test_a_start_in_company_is_the_same_start(tiny: StableDiffusion) -> None:
    for start in (DDIMInversion(), NullText(iterations=2)):
        settings: dict[str, Any] = {"guidance": 3.0, "steps": 5, "start": start}
        one = translated(tiny, inverted((), **settings), 3, clip=TOLD)
        joint = together(tiny, inverted((Alone(inversion=True),), **settings), 3)
        assert torch.allclose(latents(one), latents(joint), atol=5e-4)


def test_lockstep_is_one_batch_for_each_step(tiny: StableDiffusion) -> None:
    model = Counting(tiny)
    together(model, parts((SpatioTemporal(),)))
    assert model.batches == [4] * 8


def test_batches_hold_the_pivots_and_agree_with_one_batch(tiny: StableDiffusion) -> None:
    model = Counting(tiny)
    middle = SpatioTemporal(frames="middle")
    few = together(model, parts((middle,), batch_size=2), 4)
    assert model.batches == [2, 2, 2] * 8  # frame 2, beside frames 0, 1 and 3
    whole = together(tiny, parts((middle,), batch_size=8), 4)
    assert torch.allclose(latents(few), latents(whole), atol=TOLERANCE)


def test_frames_see_each_other(tiny: StableDiffusion) -> None:
    """The first key frame's result depends on the last one's picture."""
    other = replace(
        SCENE, video=MemoryVideo([*(SCENE.video[i] for i in range(3)), moving(1, seed=5)[0]])
    )
    for seen, depends in (("all", True), ("middle", False)):
        chosen = parts((SpatioTemporal(frames=seen),), batch_size=8)  # type: ignore[arg-type]
        one, two = (together(tiny, chosen, clip=clip)[0] for clip in (SCENE, other))
        difference = latents([one]) - latents([two])
        assert bool(difference.abs().max() > 1e-3) is depends


def test_equal_frames_become_equal_whatever_they_look_at(tiny: StableDiffusion) -> None:
    """All frames alike: dense attention is each frame's own."""
    still = replace(SCENE, video=MemoryVideo([SCENE.video[0]] * 3))
    own = latents(translated(tiny, parts(()), 3, clip=still))
    for frames in ("all", "middle"):
        chosen = parts((SpatioTemporal(frames=frames),), batch_size=8)
        assert torch.allclose(own, latents(together(tiny, chosen, 3, clip=still)), atol=TOLERANCE)


def test_the_same_twice(tiny: StableDiffusion) -> None:
    chosen = inverted(fatezero(), guidance=4.0)
    once, again = (latents(together(tiny, chosen, 3)) for _ in range(2))
    assert torch.equal(once, again)


def test_every_shot_keeps_to_itself(tiny: StableDiffusion) -> None:
    chosen = parts((SpatioTemporal(),))
    joined = list(translate(SCENE, [[0, 1], [2, 3]], tiny, chosen))
    rest = replace(SCENE, video=MemoryVideo([SCENE.video[2], SCENE.video[3]]))
    alone = together(tiny, chosen, 2, clip=rest)
    assert [result.key.shot for result in joined] == [0, 0, 1, 1]
    assert torch.allclose(latents(joined[2:]), latents(alone), atol=1e-5)


def test_progress_ends_at_its_total(tiny: StableDiffusion) -> None:
    class Watching(Watch):
        def __init__(self) -> None:
            self.rows: list[tuple[int, int]] = []

        def advance(self, stage: str, done: int, total: int, note: str = "") -> None:
            self.rows.append((done, total))

    watch = Watching()
    chosen = inverted(
        (CrossMaps(), CrossGuidance(stop=0.5)), start=NullText(iterations=3), guidance=3.0
    )
    together(tiny, chosen, 2, watch=watch)
    assert watch.rows[-1][0] == watch.rows[-1][1]


def test_what_does_not_go_together_is_refused(tiny: StableDiffusion) -> None:
    with pytest.raises(ConfigError, match=r"constraint\.pixel: waits for the picture.*leave one"):
        parts((SpatioTemporal(), Pixel(start=0.5, stop=0.8)))
    with pytest.raises(ConfigError, match=r"cross_maps: compares with an inversion.*ddim_inversi"):
        parts((CrossMaps(),))
    with pytest.raises(ConfigError, match=r"source_prompt: constraint self_maps.*clip scene"):
        together(tiny, inverted((SelfMaps(),)), clip=SCENE)
    with pytest.raises(ConfigError, match=r"attended to 64 tokens.*to 256.*inversion=true"):
        together(tiny, inverted((SpatioTemporal(inversion=False), SelfMaps())))


# -- FateZero -------------------------------------------------------------------------------------


def fatezero(keep: Any = "memory") -> tuple[JointConstraint, ...]:
    middle = SpatioTemporal(frames="middle", inversion=True)
    return (middle, CrossMaps(keep=keep), SelfMaps(keep=keep))


def reconstruction(clip: Clip) -> Clip:
    return replace(clip, prompt=clip.source_prompt)


@pytest.mark.parametrize("keep", ["memory", "disk"])
def test_fatezero_with_an_unchanged_prompt_returns_the_reconstruction(
    tiny: StableDiffusion, keep: str
) -> None:
    """With an inversion that is nearly exact, sampling through kept maps is sampling, up to their
    half precision, and both return the source's latents, up to what is left of the inversion."""
    start = DDIMInversion(evaluations_a_step=8)
    same = reconstruction(TOLD)
    source = torch.cat([tiny.encode(same.video[index]) for index in range(3)])
    plain = latents(
        together(tiny, inverted(fatezero()[:1], start=start, batch_size=8), 3, clip=same)
    )
    kept = latents(
        together(tiny, inverted(fatezero(keep=keep), start=start, batch_size=8), 3, clip=same)
    )
    assert torch.allclose(kept, plain, atol=2e-3)
    assert torch.allclose(kept, source, atol=4e-2)


def test_fatezero_reconstructs_better_than_inversion_alone(tiny: StableDiffusion) -> None:
    """Inexact inversion, as usual: kept maps hold the reconstruction closer to the source."""
    same = reconstruction(TOLD)
    source = torch.cat([tiny.encode(same.video[index]) for index in range(3)])
    plain = latents(together(tiny, inverted(fatezero()[:1], batch_size=8), 3, clip=same))
    kept = latents(together(tiny, inverted(fatezero(), batch_size=8), 3, clip=same))
    assert (kept - source).norm() <= (plain - source).norm()


def test_every_part_of_fatezero_acts_where_the_prompt_is_another(tiny: StableDiffusion) -> None:
    results = [
        latents(together(tiny, inverted(fatezero()[:count], guidance=4.0, batch_size=8), 3))
        for count in (1, 2, 3)
    ]
    for one, two in combinations(results, 2):
        assert not torch.allclose(one, two, atol=1e-4)


def test_memory_and_disk_agree_to_the_bit(tiny: StableDiffusion) -> None:
    results = [
        latents(together(tiny, inverted(fatezero(keep=keep), batch_size=size), 3))
        for keep, size in (("memory", 8), ("disk", 8))
    ]
    assert torch.equal(*results)


def test_maps_of_pivots_are_the_same_in_every_batch(tiny: StableDiffusion) -> None:
    few, whole = (
        latents(together(tiny, inverted(fatezero(), batch_size=batch_size), 4))
        for batch_size in (2, 8)
    )
    assert torch.allclose(few, whole, atol=1e-3)


# -- vid2vid-zero ---------------------------------------------------------------------------------


def test_one_frame_without_guidance_is_null_text_sampling(tiny: StableDiffusion) -> None:
    settings: dict[str, Any] = {"start": NullText(iterations=3), "guidance": 4.0}
    plain = translated(tiny, inverted((), **settings), 1, clip=TOLD)
    dense = together(tiny, inverted((SpatioTemporal(inversion=False),), **settings), 1)
    assert torch.allclose(latents(plain), latents(dense), atol=TOLERANCE)
    guided = together(tiny, inverted((SpatioTemporal(inversion=False), CrossMaps()), **settings), 1)
    assert not torch.allclose(latents(plain), latents(guided), atol=1e-3)


def test_vid2vid_zero_with_an_unchanged_prompt_returns_the_reconstruction(
    tiny: StableDiffusion,
) -> None:
    """One frame, source prompt: kept maps are the reconstruction's own."""
    settings: dict[str, Any] = {"start": NullText(iterations=10), "guidance": 4.0}
    same = reconstruction(TOLD)
    plain = translated(tiny, inverted((), **settings), 1, clip=same)
    guided = together(
        tiny, inverted((SpatioTemporal(inversion=False), CrossMaps()), **settings), 1, clip=same
    )
    assert torch.allclose(latents(plain), latents(guided), atol=5e-3)


def test_guidance_by_energy_fades_to_none(tiny: StableDiffusion) -> None:
    plain, least, some = (
        latents(together(tiny, inverted((SpatioTemporal(), *more), guidance=4.0), 2))
        for more in ((), (CrossGuidance(step_size=1e-9),), (CrossGuidance(step_size=1.0),))
    )
    assert torch.allclose(plain, least, atol=TOLERANCE)
    assert not torch.allclose(plain, some, atol=1e-3)
