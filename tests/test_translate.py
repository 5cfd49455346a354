"""Key-frame translation: one pass is enough, lanes agree, noise has no order, laws of identity."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from rerender.config.compose import preflight
from rerender.config.job import Job
from rerender.config.sampling import Sampling
from rerender.constraint.cross_frame import CrossFrame
from rerender.constraint.pixel import Pixel
from rerender.constraint.shape import Shape
from rerender.contracts import Edits, Model, NoiseRequest
from rerender.errors import ConfigError
from rerender.sampler.dpm import DPM
from rerender.sampler.unipc import UniPC
from rerender.scene import Scene, Translation, Watch
from rerender.translate import translate
from rerender.translation.noise import keyed
from rerender.translation.references import References, ResumePoint
from rerender.video import Clip, MemoryVideo
from tests.scenes import ALL, SCENE, Shift, moving, parts, translated

if TYPE_CHECKING:
    from rerender.model.diffusion import StableDiffusion

few = partial(parts, steps=6)  # of which four are executed: each constraint of ALL acts in one


class Counting:
    """A model that counts batches."""

    def __init__(self, model: Any) -> None:
        self.model, self.batches = model, list[int]()

    def __getattr__(self, name: str) -> Any:
        return getattr(self.model, name)

    def predict_noise(self, requests: Sequence[NoiseRequest]) -> list[Tensor]:
        self.batches.append(len(requests))
        answers: list[Tensor] = self.model.predict_noise(requests)
        return answers


def latents(results: Sequence[Any]) -> Tensor:
    return torch.cat([result.trace.latent for result in results])


@pytest.mark.parametrize(
    ("strength", "published", "down"),
    [(0.75, 5, 5), (0.8, 3, 4), (0.9, 1, 2), (0.95, 1, 1), (1.0, 0, 0), (0.0, 20, 20)],
)
def test_skipped_steps(strength: float, published: int, down: int) -> None:
    assert Sampling(strength=strength, rounding="published").skipped() == published
    assert Sampling(strength=strength).skipped() == down
    assert Sampling(strength=None).skipped() == 0


def test_windows_of_the_published_settings() -> None:
    """At 20 steps: shape 0-2, pixel 11-15, colour 16-19, attention 0-19."""
    whole = Sampling(steps=20, strength=1.0)
    assert list(whole.window(Shape(start=0, stop=0.15))) == [0, 1, 2]
    assert list(whole.window(Pixel(start=0.55, stop=0.8))) == [11, 12, 13, 14, 15]
    assert list(whole.window(Pixel(start=0.8, stop=1.0))) == [16, 17, 18, 19]
    assert list(whole.window(CrossFrame())) == list(range(20))


@pytest.mark.parametrize(
    ("steps", "shape", "pixel"),
    [(20, 2, (11, 15)), (40, 4, (21, 31)), (50, 5, (26, 39)), (100, 10, (51, 79))],
)
def test_the_published_preset_has_the_published_windows_at_any_step_count(
    steps: int, shape: int, pixel: tuple[int, int]
) -> None:
    """Last step of shape fusion, first and last of pixel fusion, at the published step counts."""
    job = Job.of(preflight(["preset=published", f"sampling.steps={steps}"]).jobs[0])
    windows = {part.name: job.parts.sampling.window(part) for part in job.parts.constraint}
    assert windows["shape"] == range(shape + 1)
    assert windows["pixel"] == range(pixel[0], pixel[1] + 1)
    assert windows["cross_frame"] == range(steps)


def test_the_published_windows_follow_the_published_comparison() -> None:
    """Shape: j <= 0.1 S; pixel: 0.5 S < j < 0.8 S; for every number of steps there may be."""
    parts = Job.of(preflight(["preset=published"]).jobs[0]).parts
    _, shape, pixel = parts.constraint
    for steps in range(1, 1000):
        sampling = replace(parts.sampling, steps=steps)
        numbers = range(steps)
        assert list(sampling.window(shape)) == [j for j in numbers if j <= 0.1 * steps]
        assert list(sampling.window(pixel)) == [j for j in numbers if 0.5 * steps < j < 0.8 * steps]


def test_windows_of_the_schedule_lose_what_strength_skips() -> None:
    """The original's shape window acts in no step at strength 0.75; ours does, unless asked."""
    scheduled = Sampling(steps=20, strength=0.75, windows="schedule")
    assert len(scheduled.window(Shape(start=0, stop=0.15))) == 0
    assert list(scheduled.window(Pixel(start=0.55, stop=0.8))) == [6, 7, 8, 9, 10]
    executed = replace(scheduled, windows="executed")
    assert list(executed.window(Shape(start=0, stop=0.15))) == [0, 1]


@pytest.mark.parametrize(("strength", "most"), [(None, 29), (0.75, 24)])
def test_evaluations_per_key_frame(
    tiny: StableDiffusion, strength: float | None, most: int
) -> None:
    """The original takes 40 guided steps; a draft shares its beginning with the final pass."""
    model = Counting(tiny)
    constraint = (*ALL[:3], Pixel(start=0.55, stop=0.8))
    chosen = parts(constraint, steps=20, strength=strength, windows="schedule")
    translated(model, chosen, keys=1)
    anchor = len(model.batches)
    model.batches.clear()
    translated(model, chosen, keys=3)
    assert len(model.batches) == anchor + 2 * most
    assert anchor == (20 if strength is None else 15)


def test_the_shared_beginning_is_bit_identical_to_a_second_full_pass(
    tiny: StableDiffusion, monkeypatch: pytest.MonkeyPatch
) -> None:
    from rerender.translation.key_frame import KeyFrameTranslator

    once = latents(translated(tiny, few(ALL)))
    monkeypatch.setattr(KeyFrameTranslator, "fork", lambda self: 0)
    assert torch.equal(once, latents(translated(tiny, few(ALL))))


def test_an_estimated_draft_costs_no_second_pass(tiny: StableDiffusion) -> None:
    """The pixels of the draft are those of the clean latent that was predicted in the step before
    pixel fusion begins: x^0_t there, decoded."""
    drafts: list[Tensor] = []

    class Drafted(Pixel):
        def bind(self, scene: Scene, model: Model) -> Edits:
            assert scene.draft is not None
            drafts.append(scene.draft)
            return super().bind(scene, model)

    class Total(Watch):
        def advance(self, stage: str, done: int, total: int, note: str = "") -> None:
            self.seen = (done, total)

    model, watch = Counting(tiny), Total()
    chosen = parts((*ALL[:3], Drafted(start=0.5, stop=0.8)), strength=0.8, draft="estimate")
    results = translated(model, chosen, 3, watch=watch)
    assert len(model.batches) == 3 * 8  # the executed steps of ten
    assert watch.seen == (24, 24)
    for draft, result in zip(drafts, results[1:], strict=True):
        assert torch.equal(draft, tiny.decode(result.trace.clean[3]))
    whole = translated(tiny, parts(ALL), 3)
    assert not torch.equal(latents(results), latents(whole))


def test_where_earlier_frames_cover_all_a_draft_does_not_matter(tiny: StableDiffusion) -> None:
    """Nothing moves and nothing is hidden: every pixel is the anchor's, whatever the draft."""
    still = replace(SCENE, video=MemoryVideo([SCENE.video[0]] * 3))
    kinds = [few(ALL, flow=Shift(0, 0), draft=draft) for draft in ("full", "estimate")]
    full, estimated = (latents(translated(tiny, each, 3, clip=still)) for each in kinds)
    assert torch.allclose(full, estimated, atol=1e-4)


def test_a_draft_cannot_be_estimated_before_the_first_step() -> None:
    with pytest.raises(ConfigError, match=r"constraint\.pixel.*first executed step.*draft=full"):
        parts((*ALL[:3], Pixel(start=0.0)), draft="estimate")
    parts((*ALL[:3], Pixel(start=0.0)))


@settings(max_examples=5, deadline=None)
@given(
    batch_size=st.integers(2, 5),
    keys=st.integers(2, 5),
    seed=st.integers(0, 99),
    refresh=st.integers(0, 2),
    strength=st.sampled_from([0.5, 0.9, None]),
)
def test_lanes_agree_with_one_by_one(
    tiny: StableDiffusion,
    batch_size: int,
    keys: int,
    seed: int,
    refresh: int,
    strength: float | None,
) -> None:
    clip = replace(SCENE, video=moving(keys, seed=seed))
    constraint = (CrossFrame(refresh=refresh), *ALL[1:])
    single = parts(constraint, steps=8, strength=strength)
    several = parts(constraint, steps=8, strength=strength, batch_size=batch_size)
    one = translated(tiny, single, keys, clip=clip, seed=seed)
    many = translated(tiny, several, keys, clip=clip, seed=seed)
    assert torch.allclose(latents(one), latents(many), atol=1e-3)


def test_lanes_form_batches(tiny: StableDiffusion) -> None:
    """Attention alone: frames run one step behind each other. Without refresh: side by side."""

    def batches(refresh: int) -> list[int]:
        model = Counting(tiny)
        chosen = parts((CrossFrame(refresh=refresh),), steps=6, strength=None, batch_size=4)
        translated(model, chosen, keys=4)
        return model.batches

    assert batches(1) == [1, 2, 3, 4, 4, 4, 3, 2, 1]
    assert batches(0) == [1, 4, 4, 4, 4, 4, 3]


def test_without_constraints_all_frames_are_one_batch(tiny: StableDiffusion) -> None:
    model = Counting(tiny)
    translated(model, parts((), batch_size=4), keys=4)
    assert model.batches == [4] * 8


def test_noise_is_named_not_ordered() -> None:
    noise = keyed(3, (1, 4, 2, 2))
    first = noise("pixel", 5)
    noise("start", 0)
    assert torch.equal(first, noise("pixel", 5))
    others = [keyed(4, (1, 4, 2, 2))("pixel", 5), noise("pixel", 6), noise("start", 5)]
    others.append(keyed(3, (1, 4, 2, 2), frame=0)("pixel", 5))
    assert all(not torch.equal(first, other) for other in others)


def test_same_seed_same_bytes_other_seed_other_picture(tiny: StableDiffusion) -> None:
    once, again = (latents(translated(tiny, few(ALL), seed=1)) for _ in range(2))
    assert torch.equal(once, again)
    assert not torch.allclose(once, latents(translated(tiny, few(ALL), seed=2)), atol=1e-2)


def test_fixed_noise_makes_equal_frames_equal(tiny: StableDiffusion) -> None:
    still = replace(SCENE, video=MemoryVideo([SCENE.video[0]] * 2))
    fixed = translated(tiny, parts(()), 2, clip=still)
    assert torch.equal(fixed[0].image, fixed[1].image)
    fresh = translated(tiny, parts((), noise="per_frame"), 2, clip=still)
    assert not torch.allclose(fresh[0].image, fresh[1].image, atol=1e-3)


def test_still_scene_shape_fusion_repeats_the_anchor(tiny: StableDiffusion) -> None:
    """Identical frames: nothing is occluded, so the fused clean latent is the anchor's own."""
    still = replace(SCENE, video=MemoryVideo([SCENE.video[0]] * 2))
    chosen = parts((Shape(start=0.0, stop=1.0),), flow=Shift(0, 0))
    anchor, second = translated(tiny, chosen, 2, clip=still)
    assert torch.allclose(anchor.image, second.image, atol=1e-4)


def test_strength_zero_returns_the_source_through_the_autoencoder(tiny: StableDiffusion) -> None:
    result = translated(tiny, parts((), strength=0.0), 1)[0]
    assert torch.equal(result.image, tiny.decode(tiny.encode(SCENE.video[0])))


def test_every_shot_has_its_own_anchor(tiny: StableDiffusion) -> None:
    from rerender.translate import translate

    chosen = few(ALL)
    joined = list(translate(SCENE, [[0, 1], [2, 3]], tiny, chosen))
    rest = replace(SCENE, video=MemoryVideo([SCENE.video[2], SCENE.video[3]]))
    alone = translated(tiny, chosen, 2, clip=rest)
    assert [result.key.shot for result in joined] == [0, 0, 1, 1]
    assert torch.allclose(latents(joined[2:]), latents(alone), atol=1e-5)


def test_no_more_than_two_traces_besides_ones_own(tiny: StableDiffusion) -> None:
    """The anchor's and the previous one's are held, and that of the key frame just finished."""
    import gc
    import weakref

    from rerender.translate import translate

    traces = []
    for result in translate(SCENE, [range(4)], tiny, few(ALL)):
        traces.append(weakref.ref(result.trace))
        del result
        gc.collect()
        assert sum(trace() is not None for trace in traces) <= 3


def test_features_can_be_kept_in_half_precision(tiny: StableDiffusion) -> None:
    full = translated(tiny, few((CrossFrame(),)))
    half = translated(tiny, few((CrossFrame(),), keep_dtype="float16", keep_device="cpu"))
    assert half[0].trace.nbytes() < 0.6 * full[0].trace.nbytes()
    assert torch.allclose(latents(full), latents(half), atol=2e-2)


def test_progress_ends_at_its_total(tiny: StableDiffusion) -> None:
    class Watching(Watch):
        def __init__(self) -> None:
            self.rows: list[tuple[str, int, int]] = []

        def advance(self, stage: str, done: int, total: int, note: str = "") -> None:
            self.rows.append((stage, done, total))

    watch = Watching()
    translated(tiny, parts(ALL, batch_size=2), watch=watch)
    assert [done for _, done, _ in watch.rows] == list(range(1, watch.rows[0][2] + 1))


def test_progress_says_where_it_is_and_pictures_show_what_it_sees(tiny: StableDiffusion) -> None:
    class Looking(Watch):
        def __init__(self) -> None:
            self.notes: list[str] = []
            self.pictures: dict[str, list[int]] = {}

        def advance(self, stage: str, done: int, total: int, note: str = "") -> None:
            self.notes.append(note)

        def wants(self, name: str) -> bool:
            return True

        def picture(self, name: str, index: int, image: Tensor) -> None:
            assert image.dim() == 3
            self.pictures.setdefault(name, []).append(index)

    watch = Looking()
    translated(tiny, parts(ALL), 3, watch=watch)
    assert "key frame 1, draft pass, step 6/8" in watch.notes
    assert "key frame 2, final pass, step 8/8" in watch.notes
    assert watch.pictures["keys"] == watch.pictures["control_canny"] == [0, 1, 2]
    assert watch.pictures["overlay"] == watch.pictures["hole"] == watch.pictures["shape"] == [1, 2]
    assert watch.pictures["flow"] == [1, 2, 2]


def test_recolor_takes_the_colours_of_a_first_result(tiny: StableDiffusion) -> None:
    plain = translated(tiny, parts((), strength=0.4), 2)
    colored = translated(tiny, parts((), strength=0.4, recolor=True), 2)
    assert not torch.allclose(latents(plain), latents(colored), atol=1e-2)


def test_multistep_sampler_runs_with_all_constraints(tiny: StableDiffusion) -> None:
    results = translated(tiny, few(ALL, sampler=DPM()))
    assert all(result.image.isfinite().all() for result in results)


def test_choices_that_do_not_go_together_are_refused() -> None:
    with pytest.raises(ConfigError, match=r"constraint\.pixel.*UniPC.*sampler=ddim"):
        parts(ALL, sampler=UniPC())
    with pytest.raises(ConfigError, match=r"constraint\.shape: acts in none of the 4 executed"):
        parts((Shape(start=0.0, stop=0.1),), steps=5, strength=0.8)
    with pytest.raises(ConfigError, match=r"recolor"):
        Sampling(strength=None, recolor=True)


@pytest.mark.parametrize(
    "bad", [{"steps": 0}, {"strength": 1.5}, {"strength": float("nan")}, {"batch_size": 0}]
)
def test_values_out_of_range_are_refused(bad: dict[str, Any]) -> None:
    with pytest.raises(ConfigError, match="sampling"):
        Sampling(**bad)


def test_prompt_reaches_the_result(tiny: StableDiffusion) -> None:
    other = Clip("scene", SCENE.video, "a dog, oil")
    assert not torch.allclose(
        latents(translated(tiny, parts(()), 1)),
        latents(translated(tiny, parts(()), 1, clip=other)),
        atol=1e-3,
    )


class Noted(ResumePoint):
    """A resume point in memory; it ends the attempt after each key frame."""

    def __init__(self) -> None:
        self.made: dict[int, Translation] = {}

    def recall(self, index: int, shot: int) -> Translation:
        assert self.made[index].key.shot == shot
        return self.made[index]

    def finish(self, translation: Translation, references: References | None) -> None:
        self.made[translation.key.index] = translation
        self.finished, self.references = self.finished + 1, references
        raise KeyboardInterrupt


@pytest.mark.parametrize("refresh", [0, 1, 2])
def test_a_stopped_translation_goes_on_to_the_same_bits(
    tiny: StableDiffusion, refresh: int
) -> None:
    """One key frame at a time, over two shots, each attempt knowing only the resume point."""
    chosen = parts((CrossFrame(refresh=refresh), *ALL[1:]), steps=5, strength=1.0, recolor=True)
    clip, shots = Clip("clip", moving(6), "a cat"), [[0, 1, 2, 3], [4, 5]]
    whole = [made.image for made in translate(clip, shots, tiny, chosen, 3)]
    noted = Noted()
    for _ in range(6):
        with pytest.raises(KeyboardInterrupt):
            list(translate(clip, shots, tiny, chosen, 3, resume=noted))
    model: Any = Counting(tiny)
    again = list(translate(clip, shots, model, chosen, 3, resume=noted))
    assert not model.batches, "nothing is left to do"
    assert all(torch.equal(a, b.image) for a, b in zip(whole, again, strict=True))


def test_with_lanes_a_shot_is_taken_up_at_its_end_only(tiny: StableDiffusion) -> None:
    seen = []

    class Seen(ResumePoint):
        def finish(self, translation: Translation, references: References | None) -> None:
            seen.append(references)

    chosen = parts(ALL, steps=5, strength=1.0, batch_size=3)
    clip = Clip("clip", moving(5), "a cat")
    list(translate(clip, [[0, 1, 2, 3, 4]], tiny, chosen, 3, resume=Seen()))
    assert seen == [None] * 5


@pytest.mark.parametrize("batch_size", [1, 3])
def test_an_anchor_that_has_left_the_picture_is_replaced(
    tiny: StableDiffusion, monkeypatch: pytest.MonkeyPatch, batch_size: int
) -> None:
    """The scene moves by 4 of 32 pixels a frame: after 6 frames a quarter of the anchor is left."""
    anchors: dict[int, tuple[int, int]] = {}
    bind = CrossFrame.bind

    def noted(self: CrossFrame, scene: Scene, model: Any) -> Edits:
        anchor = scene.anchor.translation.key.index
        anchors[scene.key.index] = anchor, scene.previous.translation.key.index
        return bind(self, scene, model)

    monkeypatch.setattr(CrossFrame, "bind", noted)
    clip = replace(SCENE, video=moving(9, 32, 4))
    chosen = few((CrossFrame(),), flow=Shift(4), reanchor=0.3, batch_size=batch_size)
    made = translated(tiny, chosen, 9, clip=clip)
    assert [anchors[index][0] for index in range(1, 9)] == [0, 0, 0, 0, 0, 5, 5, 5]
    assert [anchors[index][1] for index in range(1, 9)] == list(range(8))
    fixed = few((CrossFrame(),), flow=Shift(4), batch_size=batch_size)
    plain = translated(tiny, fixed, 9, clip=clip)
    same = [torch.equal(a.image, b.image) for a, b in zip(made, plain, strict=True)]
    assert all(same[:6]) and not any(same[6:])
    still = few((CrossFrame(),), flow=Shift(4), reanchor=0.0, batch_size=batch_size)
    kept = translated(tiny, still, 9, clip=clip)
    assert all(torch.equal(a.image, b.image) for a, b in zip(kept, plain, strict=True))


def test_without_a_renewed_memory_the_new_anchor_is_remembered(tiny: StableDiffusion) -> None:
    clip = replace(SCENE, video=moving(8, 32, 4))
    chosen = few((CrossFrame(refresh=0), *ALL[1:]), flow=Shift(4), reanchor=0.3)
    assert len(translated(tiny, chosen, 8, clip=clip)) == 8


def test_a_translation_stopped_after_a_new_anchor_goes_on_to_the_same_bits(
    tiny: StableDiffusion,
) -> None:
    clip = replace(SCENE, video=moving(9, 32, 4))
    chosen = few(ALL, flow=Shift(4), reanchor=0.3)
    whole = translated(tiny, chosen, 9, clip=clip)

    class Taken(ResumePoint):
        def finish(self, translation: Any, references: Any) -> None:
            if translation.key.index == 6:
                self.references, self.finished = references, 7

        def recall(self, index: int, shot: int) -> Any:
            return whole[index]

    first = Taken()
    list(translate(clip, [range(9)], tiny, chosen, resume=first))
    second = Taken()
    second.references, second.finished = first.references, 7
    rest = list(translate(clip, [range(9)], tiny, chosen, resume=second))
    assert first.references is not None and first.references.anchor.key.index == 5
    assert all(torch.equal(a.image, b.image) for a, b in zip(whole, rest, strict=True))
