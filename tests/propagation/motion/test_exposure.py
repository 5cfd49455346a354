"""Light that changes between source frames does not reach the result."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch
import yaml
from numpy.typing import NDArray

from rerender.config.build import build
from rerender.config.paths import CONF
from rerender.contracts import Propagation
from rerender.data.demo import Demo
from rerender.demo.world import HELD_OUT
from rerender.flow.dis import Dis
from rerender.propagation.motion import pixels
from rerender.propagation.motion.exposure import ROWS, Exposure, reduction
from rerender.video import Frame, MemoryVideo, Segment
from tests.propagation.scenes import texture

LAST = 4
Light = Callable[[torch.Tensor, int], torch.Tensor]


def lamp(image: torch.Tensor) -> torch.Tensor:
    height, width = image.shape[-2:]
    y, x = torch.meshgrid(torch.arange(height), torch.arange(width), indexing="ij")
    square = (x - 0.3 * width) ** 2 + (y - 0.4 * height) ** 2
    return torch.exp(-square / (2 * (0.2 * min(height, width)) ** 2))


LIGHTS: dict[str, tuple[Light, float]] = {
    "brightness": (lambda image, i: image + (8 if i % 2 else -8) / 255, 0.5),
    "gain": (lambda image, i: image * (torch.tensor([1.2, 1.1, 0.85]) ** (i % 2)).view(3, 1, 1), 1),
    "lamp": (lambda image, i: image + 30 / 255 * lamp(image) * (i % 2), 3.5),
    "flash": (lambda image, i: image * 1.3 + 0.12 if i == 1 else image, 1),
}
"""What changes the source, and how many dB it may cost."""


def part(name: str) -> Propagation:
    node = yaml.safe_load((CONF / "propagation" / f"{name}.yaml").read_text(encoding="utf-8"))
    built = build(node, "propagation")
    assert isinstance(built, Propagation)
    return built


def psnr(light: Light, method: str, motion: str = "slow") -> float:
    """Of the frames between two key frames of the demo world that are true translations."""
    (clip,) = Demo((HELD_OUT,), motion, LAST + 1).clips()
    assert clip.truth is not None
    truth = [clip.truth.translation(index) for index in range(LAST + 1)]
    assert truth[0] is not None and truth[-1] is not None
    source = [light(clip.video[index], index).clamp(0, 1) for index in range(LAST + 1)]
    video = MemoryVideo([(frame * 255).round() / 255 for frame in source])
    segment = Segment(video, 1, LAST, Frame(0, truth[0]), Frame(LAST, truth[-1]))
    images = part(method).fill(segment, Dis())
    pairs = zip(images, truth[1:-1], strict=True)
    errors = [float((a - b).square().mean()) for a, b in pairs if b is not None]
    assert len(errors) == LAST - 1
    return float(-10 * np.log10(np.mean(errors)))


@pytest.mark.parametrize("method", ["patchmatch", "warp"])
@pytest.mark.parametrize("light", LIGHTS)
def test_flicker_of_the_source_does_not_reach_the_result(light: str, method: str) -> None:
    change, loss = LIGHTS[light]
    assert psnr(change, method) > psnr(lambda image, _: image, method) - loss


def levelled(change: Callable[[torch.Tensor], torch.Tensor]) -> tuple[NDArray[np.float32], ...]:
    source = pixels.levels(texture(72, 96))
    target = pixels.levels((change(texture(72, 96)) * 255).round() / 255)
    still = np.zeros((72, 96, 2), np.float32)
    return source, target, Exposure(source).levelled(target, still)


@pytest.mark.parametrize("light", LIGHTS)
def test_a_frame_is_shown_in_the_light_of_the_key_frame(light: str) -> None:
    source, target, lit = levelled(lambda image: LIGHTS[light][0](image, 1))
    assert np.abs(lit - source).mean() < 0.25 * np.abs(target - source).mean()


def test_steady_light_is_left_alone() -> None:
    noise = torch.randn(3, 72, 96, generator=torch.Generator().manual_seed(0)) * 2 / 255
    _, target, lit = levelled(lambda image: image + noise)
    assert lit is target


def test_a_thing_that_covers_another_is_no_light() -> None:
    def covered(image: torch.Tensor) -> torch.Tensor:
        other = image.clone()
        other[:, 20:52, 30:66] = texture(32, 36, seed=5) * 0.3
        return other

    _, target, lit = levelled(covered)
    assert lit is target


def test_another_picture_is_no_light() -> None:
    _, target, lit = levelled(lambda _: texture(72, 96, seed=7))
    assert lit is target


def test_a_black_or_white_frame_is_left_alone() -> None:
    for level in (0.0, 1.0):
        _, target, lit = levelled(lambda image, level=level: torch.full_like(image, level))  # type: ignore[misc]
        assert lit is target


@pytest.mark.parametrize("side", [1, 16, 54, 71, 72, 107, 108, 128, 180, 288, 506, 1080, 2160])
def test_light_is_estimated_on_frames_of_about_one_size(side: int) -> None:
    scale = reduction(side, 2 * side)
    assert reduction(2 * side, side) == scale
    if scale > 1:
        assert 0.75 * ROWS <= side / scale <= 1.5 * ROWS
    else:
        assert side <= 1.5 * ROWS
