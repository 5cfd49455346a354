"""Small scenes and parts that several tests share."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from rerender.config.parts import Parts
from rerender.config.sampling import Sampling
from rerender.constraint.color import Color
from rerender.constraint.cross_frame import CrossFrame
from rerender.constraint.pixel import Pixel
from rerender.constraint.shape import Shape
from rerender.contracts import Control, FlowEstimator, KeyFrames
from rerender.propagation.hold import Hold
from rerender.sampler.ddim import DDIM
from rerender.smooth.none import Nothing
from rerender.translate import translate
from rerender.video import Clip, Frame, MemoryVideo, Video

if TYPE_CHECKING:
    from rerender.model.diffusion import StableDiffusion
    from rerender.scene import Translation


class Given(Control):
    """A control map that does not depend on the image."""

    @property
    def name(self) -> str:
        return "canny"

    def map(self, image: Tensor) -> Tensor:
        generator = torch.Generator().manual_seed(2)
        return (torch.rand(3, *image.shape[-2:], generator=generator) > 0.7).float()


class Every(KeyFrames):
    """Every frame is a key frame of one shot."""

    def pick(self, video: Video) -> Sequence[Sequence[int]]:
        return [range(len(video))]


class Shift(FlowEstimator):
    """The scene moves by (dx, dy) pixels from each frame to the next."""

    def __init__(self, dx: float = 1.0, dy: float = 0.0) -> None:
        self.step = torch.tensor([float(dx), float(dy)]).view(1, 2, 1, 1)

    def offset(self, target: Frame, source: Frame, start: Tensor | None = None) -> Tensor:
        height, width = target.image.shape[-2:]
        return ((source.index - target.index) * self.step).expand(1, 2, height, width).clone()


def moving(frames: int = 4, side: int = 32, dx: int = 1, seed: int = 0) -> MemoryVideo:
    """A random smooth texture that moves right by ``dx`` pixels a frame."""
    wide = torch.rand(1, 3, side // 4, side, generator=torch.Generator().manual_seed(seed))
    wide = torch.nn.functional.interpolate(wide, (side, side * 4), mode="bilinear")[0]
    start = frames * dx
    return MemoryVideo(
        [wide[..., start - i * dx : start - i * dx + side].clone() for i in range(frames)]
    )


SCENE = Clip("scene", moving(), "a cat, watercolor", negative_prompt="blurry")
ALL = (
    CrossFrame(),
    Color(start=0.8, stop=1.0),
    Shape(start=0.0, stop=0.2),
    Pixel(start=0.5, stop=0.8),
)


def parts(constraint: tuple[Any, ...] = (), **changes: Any) -> Parts:
    """Parts for tests: 10 steps, DDIM, a one-pixel shift as flow."""
    flow = changes.pop("flow", Shift())
    sampler = changes.pop("sampler", DDIM())
    sampling = Sampling(**{"steps": 10, "strength": 0.8, "guidance": 5.0, **changes})
    return Parts(
        keyframes=Every(),
        control=(Given(),),
        sampler=sampler,
        sampling=sampling,
        flow=flow,
        constraint=constraint,
        propagation=Hold(),
        smooth=Nothing(),
    )


def last_latents(found: Iterable[Translation]) -> Tensor:
    """The last latents of translations, one after the other."""
    return torch.cat([each.trace.latent for each in found if each.trace.latent is not None])


def translated(model: Any, chosen: Parts, keys: int = 4, **more: Any) -> list[Translation]:
    """The first ``keys`` frames of the scene, all of them key frames."""
    clip = more.pop("clip", SCENE)
    return list(translate(clip, [range(keys)], model, chosen, **more))


def one_key(model: StableDiffusion, strength: float, noise: Tensor) -> Tensor:
    """The last latent of frame 0 without constraints, from given noise."""
    chosen = parts(strength=strength)
    result = translated(model, chosen, 1, draw=lambda key: lambda role, step: noise)[0]
    assert result.trace.latent is not None
    return result.trace.latent
