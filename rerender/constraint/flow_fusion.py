"""Pictures of earlier key frames fused into later ones, all at once (Rerender §4.1, eq. 10)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, ClassVar

from pydantic import Field

from rerender.constraint._decoded import change
from rerender.constraint._masks import soften
from rerender.contracts import Features, JointConstraint, JointEdits, Model
from rerender.scene import Shot


@dataclass(frozen=True, kw_only=True)
class FlowFusion(JointConstraint):
    """What `pixel` does with finished pictures of earlier key frames, done with predicted ones of
    the same step, so that all key frames can be denoised together and none needs a draft: those of
    the key frame before and of the first one, as they are after fusion themselves, are moved along
    the source's flow and laid over a key frame's predicted picture where they are visible, and what
    changes in the picture changes in the clean latent.

    Attributes:
        strength: weight of what is laid over, where it is visible.
    """

    strength: Annotated[float, Field(ge=0, le=1)] = 1.0

    follows_flow: ClassVar[bool] = True

    def bind(self, shot: Shot, model: Model) -> Sequence[JointEdits]:
        def fuse(step: int, latents: Features) -> Features:
            pictures = {o: model.decode(clean) for o, clean in latents.items()}
            fused, found = dict(pictures), dict(latents)
            for ordinal in sorted(latents)[1:]:
                shown = pictures[ordinal]
                for reference in dict.fromkeys((ordinal - 1, 0)):  # the first one on top
                    flow = shot.flow(ordinal, reference)
                    hidden = soften(flow.occluded.to(shown))[0]
                    weight = self.strength * (1 - hidden)
                    moved = flow.warp(fused[reference], outside="border")
                    shown = weight * moved + (1 - weight) * shown
                fused[ordinal] = shown
                found[ordinal] = change(model, latents[ordinal], pictures[ordinal], shown)
            return found

        return [JointEdits(clean_jointly=fuse)] * len(shot)
