"""A strength that executes no step returns the source through the autoencoder, whatever is chosen:
every constraint, sampler and start of conf/ is tried by being there."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import pytest
import torch

from rerender.config.compose import preflight
from rerender.config.job import Job
from rerender.config.paths import CONF
from rerender.translate import translate
from tests.scenes import SCENE, Given, Shift

if TYPE_CHECKING:
    from rerender.model.diffusion import StableDiffusion

CLIP = replace(SCENE, source_prompt="a dog")
NAMES = [
    (group, file.stem)
    for group in ("constraint", "sampler", "start")
    for file in sorted((CONF / group).glob("*.yaml"))
]
FROM_NOISE = ("latent_motion",)  # which begins with noise alone, and so takes no strength


def source_through_the_autoencoder(model: StableDiffusion, *settings: str) -> None:
    """Translate three key frames with no executed step."""
    given = ["model=tiny", "sampling.strength=0", "sampling.steps=4", *settings]
    chosen = Job.of(preflight(given).jobs[0]).parts
    chosen = replace(chosen, control=(Given(),), flow=Shift())
    found = list(translate(CLIP, [range(3)], model, chosen))
    for translation in found:
        own = model.decode(model.encode(CLIP.video[translation.key.index]))
        assert torch.equal(translation.image, own)
    assert len(found) == 3


@pytest.mark.parametrize(("group", "name"), [each for each in NAMES if each[1] not in FROM_NOISE])
def test_no_step_returns_the_source(tiny: StableDiffusion, group: str, name: str) -> None:
    settings = [f"{group}={name}"]
    if group == "constraint":
        settings = [f"constraint=[{name}]", "start=ddim_inversion"]
    if name == "unipc":
        settings.append("constraint=[cross_frame]")
    source_through_the_autoencoder(tiny, *settings)


@pytest.mark.parametrize(
    "setting",
    [
        "sampling.batch_size=2",
        "sampling.strength=0.2",  # floor(4 * 0.2) steps
        "sampling.steps=1",
        "sampling.windows=schedule",
        "sampling.windows=published",
        "sampling.rounding=published",
        "sampling.noise=per_frame",
    ],
)
def test_no_step_with_the_default_constraints(tiny: StableDiffusion, setting: str) -> None:
    source_through_the_autoencoder(tiny, setting)


@pytest.mark.parametrize("strength", [0.25, 0.5])
def test_a_constraint_that_waits_for_a_draft_may_stay_idle(
    tiny: StableDiffusion, strength: float
) -> None:
    """Windows on the full schedule leave some constraints idle at low strengths."""
    given = ["model=tiny", "sampling.steps=4", f"sampling.strength={strength}"]
    given += ["sampling.windows=schedule", "constraint.pixel.start=0", "constraint.pixel.stop=0.2"]
    chosen = replace(Job.of(preflight(given).jobs[0]).parts, control=(Given(),), flow=Shift())
    assert len(list(translate(CLIP, [range(2)], tiny, chosen))) == 2
