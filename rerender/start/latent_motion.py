"""Motion in the first latents (Text2Video-Zero, Khachatryan et al. 2023, arXiv 2303.13439, section
3.3), for clips that are made of a text alone."""

from __future__ import annotations

from collections.abc import Generator
from dataclasses import dataclass
from typing import Annotated, ClassVar

import torch.nn.functional as F
from pydantic import Field
from torch import Tensor

from rerender.contracts import InitialLatent, NoiseRequest, Start, StartContext, guide
from rerender.flow.field import pixel_grid
from rerender.start._inversion import lower_noise


@dataclass(frozen=True)
class LatentMotion(Start):
    """Noise is carried a few steps down, moved as a whole in proportion to the time since the
    first frame, and noised up again; the first frame begins with the noise itself.

    Attributes:
        right, down: motion of the scene in pixels a frame.
        depth: steps down and up.
    """

    right: Annotated[float, Field(ge=-1000, le=1000)] = 1.0
    down: Annotated[float, Field(ge=-1000, le=1000)] = 0.0
    depth: Annotated[int, Field(ge=1, le=999)] = 3

    needs_noise: ClassVar[bool] = True

    def evaluations(self, steps: int) -> int:
        return min(self.depth, steps)

    def begin(self, context: StartContext) -> Generator[NoiseRequest, Tensor, InitialLatent]:
        fresh = context.noise("start", 0).to(context.latent)
        if context.distance == 0:
            return InitialLatent(fresh)
        depth, noisy = self.evaluations(len(context.schedule)), fresh
        for step in range(depth):
            branches = yield context.request(noisy, step, context.condition)
            scales = context.guidance_scale, context.image_guidance
            estimate = guide(branches, *scales).to(noisy)
            noisy = lower_noise(context.schedule, step, noisy, estimate)
        pixels = context.key.image.shape[-1] / noisy.shape[-1]
        moved = shifted(
            noisy, *(context.distance * pace / pixels for pace in (self.right, self.down))
        )
        kept = context.schedule.alphas_cumprod[0] / context.schedule.alphas_cumprod[depth]
        again = context.noise("motion", context.distance).to(noisy)
        return InitialLatent(kept**0.5 * moved + (1 - kept) ** 0.5 * again, evaluations=depth)


def shifted(latent: Tensor, right: float, down: float) -> Tensor:
    """A latent ``[1,C,h,w]`` moved by so many cells, whole ones, mirrored at the border."""
    height, width = latent.shape[-2:]
    sizes = latent.new_tensor([width, height]).view(1, 2, 1, 1)
    grid = pixel_grid(latent) - latent.new_tensor([right, down]).view(1, 2, 1, 1)
    places = ((2 * grid + 1) / sizes - 1).permute(0, 2, 3, 1)
    return F.grid_sample(
        latent, places, mode="nearest", padding_mode="reflection", align_corners=False
    )
