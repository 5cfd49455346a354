"""Maps of a picture sampled from the prompt: they know the text and not the source."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import pytest
import torch
from torch import Tensor

from rerender.control.canny import Canny
from rerender.control.imagined import Imagined
from rerender.errors import ConfigError
from rerender.scene import Watch
from tests.scenes import SCENE, moving, parts, translated

if TYPE_CHECKING:
    from rerender.model.diffusion import StableDiffusion

CANNY = Canny(low=20, high=40)
IMAGINED = (Imagined(detector=CANNY),)


class Kept(Watch):
    """Remembers control maps."""

    def __init__(self) -> None:
        self.maps: list[Tensor] = []
        self.steps: list[tuple[int, int]] = []

    def picture(self, name: str, index: int, image: Tensor) -> None:
        if name.startswith("control"):
            self.maps.append(image)

    def advance(self, stage: str, done: int, total: int, note: str = "") -> None:
        self.steps.append((done, total))


def test_the_map_is_that_of_a_picture_sampled_from_the_prompt_alone(tiny: StableDiffusion) -> None:
    silent = replace(parts(strength=None), control=(replace(CANNY, weight=0.0),))
    (alone,) = translated(tiny, silent, 1)
    watch = Kept()
    translated(tiny, replace(parts(), control=IMAGINED), 3, watch=watch)
    expected = CANNY.map(alone.image.clamp(0, 1))
    assert 0 < expected.mean() < 1
    assert len(watch.maps) == 4, "one while imagining, one for each key frame"
    assert all(torch.equal(each, expected) for each in watch.maps[1:])
    assert watch.steps[-1][0] == watch.steps[-1][1], "all evaluations were counted on"


def test_from_noise_nothing_of_the_source_is_left(tiny: StableDiffusion) -> None:
    other = replace(SCENE, video=moving(seed=9))
    chosen = replace(parts(strength=None), control=IMAGINED)
    one, two = (translated(tiny, chosen, 2, clip=clip) for clip in (SCENE, other))
    assert torch.equal(one[1].image, two[1].image)
    seen = replace(chosen, control=(CANNY,))
    one, two = (translated(tiny, seen, 2, clip=clip) for clip in (SCENE, other))
    assert not torch.equal(one[1].image, two[1].image)


def test_it_takes_the_controlnet_of_its_detector() -> None:
    assert IMAGINED[0].name == "imagined"
    assert replace(parts(), control=IMAGINED).names() == ["canny"]
    with pytest.raises(ConfigError, match="another control that imagines"):
        Imagined(detector=IMAGINED[0])
