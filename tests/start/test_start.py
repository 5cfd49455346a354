"""Where denoising begins: inversion returns the source, embeddings retrace it, lanes agree."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest
import torch
from torch import Tensor

from rerender.config.compose import preflight
from rerender.config.job import Job
from rerender.contracts import Start
from rerender.data.demo import Demo
from rerender.errors import ConfigError
from rerender.scene import Watch
from rerender.start.ddim_inversion import DDIMInversion
from rerender.start.noised import Noised
from rerender.start.null_text import NullText
from tests.scenes import ALL, SCENE, last_latents, parts, translated

if TYPE_CHECKING:
    from rerender.model.diffusion import StableDiffusion

# what the source shows is what is asked for: the result should be the source
SAME = replace(SCENE, source_prompt=SCENE.prompt, negative_prompt="")


@pytest.fixture(scope="module")
def demo() -> StableDiffusion:
    """The shipped model."""
    job = Job.of(preflight([]).jobs[0])
    model: StableDiffusion = job.model.load(("canny",))  # type: ignore[assignment]
    return model


def result(model: StableDiffusion, start: Start, keys: int = 1, **sampling: Any) -> Tensor:
    """The last latents of the first key frames, without constraints."""
    clip = sampling.pop("clip", SAME)
    chosen = replace(parts((), **sampling), start=start)
    found = translated(model, chosen, keys, clip=clip)
    return last_latents(found)


def error(model: StableDiffusion, start: Start, **sampling: Any) -> float:
    """How far the result is from the source's latent, in shares of its size."""
    source = model.encode(sampling.get("clip", SAME).video[0])
    return float((result(model, start, **sampling) - source).norm() / source.norm())


def test_inversion_and_sampling_return_the_source_the_better_the_more_steps(
    tiny: StableDiffusion,
) -> None:
    """Random weights are rougher than trained ones, so the errors are stated for 3 of 10 steps."""
    plain = {"guidance": 1.0, "strength": 0.3}
    errors = [error(tiny, DDIMInversion(), steps=steps, **plain) for steps in (10, 40)]
    assert errors[1] < 0.4 * errors[0]
    assert errors[1] < 0.1
    assert error(tiny, DDIMInversion(8), steps=10, **plain) < 0.1 * errors[0]
    assert error(tiny, Noised(), steps=40, **plain) > 5 * errors[1]


def world() -> dict[str, Any]:
    """A clip that the shipped model knows, asked for as it is."""
    clip = Demo(frames=1, size=64).clips()[0]
    return {"clip": replace(clip, prompt=clip.source_prompt)}


def test_trained_weights_return_the_source_within_a_few_per_cent(demo: StableDiffusion) -> None:
    """Three quarters of 10 and of 40 steps."""
    plain = {"guidance": 1.0, "strength": 0.75, **world()}
    assert error(demo, DDIMInversion(), steps=10, **plain) < 0.2
    assert error(demo, DDIMInversion(), steps=40, **plain) < 0.08


def test_trained_weights_retrace_the_source_under_strong_guidance(demo: StableDiffusion) -> None:
    guided: dict[str, Any] = {"guidance": 7.5, "strength": 0.75, "steps": 8, **world()}
    plain = error(demo, DDIMInversion(), **guided)
    assert error(demo, NullText(iterations=10), **guided) < 0.5 * plain


def test_inversion_knows_the_control_that_sampling_follows(tiny: StableDiffusion) -> None:
    plain = {"guidance": 1.0, "strength": 0.3, "steps": 40}
    without = error(tiny, DDIMInversion(control=False), **plain)
    assert error(tiny, DDIMInversion(), **plain) < without


def test_inversion_of_no_steps_is_the_source(tiny: StableDiffusion) -> None:
    assert error(tiny, DDIMInversion(), strength=0.0) == 0


def test_pure_noise_is_not_asked_for_by_an_inversion(tiny: StableDiffusion) -> None:
    whole, unset = (result(tiny, DDIMInversion(), strength=s) for s in (1.0, None))
    assert torch.equal(whole, unset)


def test_null_text_retraces_the_source_under_guidance(tiny: StableDiffusion) -> None:
    guided: dict[str, Any] = {"guidance": 7.5, "strength": 0.3, "steps": 10}
    plain = error(tiny, DDIMInversion(), **guided)
    some = error(tiny, NullText(iterations=5, tolerance=0.0), **guided)
    many = error(tiny, NullText(iterations=20, tolerance=0.0), **guided)
    assert many < some < plain
    assert many < 0.8 * plain


def test_null_text_without_iterations_is_plain_inversion(tiny: StableDiffusion) -> None:
    guided: dict[str, Any] = {"guidance": 7.5, "strength": 0.5}
    none, plain = (result(tiny, s, **guided) for s in (NullText(iterations=0), DDIMInversion()))
    assert torch.equal(none, plain)


def test_null_text_is_content_with_its_tolerance(tiny: StableDiffusion) -> None:
    class Counting(Watch):
        started = 0
        ends: tuple[int, int] = (0, 1)

        def advance(self, stage: str, done: int, total: int, note: str = "") -> None:
            self.started += note.endswith("start")
            self.ends = done, total

    counts = []
    for tolerance in (0.0, 1e9):
        watch = Counting()
        chosen = replace(parts((), steps=4), start=NullText(iterations=6, tolerance=tolerance))
        translated(tiny, chosen, 2, clip=SAME, watch=watch)
        assert watch.ends[0] == watch.ends[1]
        counts.append(watch.started)
    steps = 2 * 3
    assert counts == [steps * (1 + 2 + 6), steps * (1 + 2 + 1)]


@pytest.mark.parametrize("start", [DDIMInversion(), NullText(iterations=2)])
@pytest.mark.parametrize("constraint", [(), ALL])
def test_lanes_agree_with_one_by_one(
    tiny: StableDiffusion, start: Start, constraint: Sequence[Any]
) -> None:
    one, many = (
        last_latents(
            translated(
                tiny,
                replace(parts(tuple(constraint), batch_size=size, steps=5), start=start),
                3,
                clip=SAME,
            )
        )
        for size in (1, 3)
    )
    assert torch.allclose(one, many, atol=2e-3)


def test_the_prompt_still_matters_after_inversion(tiny: StableDiffusion) -> None:
    other = replace(SAME, prompt="a dog, oil")
    chosen = replace(parts(()), start=DDIMInversion())
    first, second = (translated(tiny, chosen, 1, clip=clip)[0].image for clip in (SAME, other))
    assert not torch.allclose(first, second, atol=1e-3)


def test_starts_that_do_not_go_with_the_rest_are_refused() -> None:
    from rerender.sampler.dpm import DPM

    with pytest.raises(ConfigError, match=r"start\.ddim_inversion.*DPM.*sampler=ddim"):
        replace(parts((), sampler=DPM()), start=DDIMInversion())
    with pytest.raises(ConfigError, match=r"start\.null_text.*guidance=1"):
        replace(parts((), guidance=1.0), start=NullText())


def test_recolouring_begins_with_noise_whatever_the_start(tiny: StableDiffusion) -> None:
    plain: dict[str, Any] = {"steps": 4, "strength": 0.5}
    colored = result(tiny, DDIMInversion(), recolor=True, **plain)
    assert not torch.allclose(colored, result(tiny, DDIMInversion(), **plain), atol=1e-2)
