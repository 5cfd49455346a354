"""Interleaved-frame smoothing (ControlVideo, Zhang et al. 2024, arXiv 2305.13077, section 3.3)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from torch import Tensor

from rerender.constraint._decoded import change
from rerender.contracts import Features, JointConstraint, JointEdits, Model
from rerender.scene import Shot


@dataclass(frozen=True, kw_only=True)
class FrameSmoothing(JointConstraint):
    """In a few steps every second key frame, the even and the odd ones in turn, becomes what its
    two neighbours make of it: their predicted pictures, moved by the source's flow and averaged
    where both are visible. First and last stay as they are; where neither is visible, so does a
    pixel.
    """

    def bind(self, shot: Shot, model: Model) -> Sequence[JointEdits]:
        def smooth(step: int, latents: Features) -> Features:
            picked = [o for o in range(1, len(shot) - 1) if o % 2 == step % 2]
            pictures = {o: model.decode(clean) for o, clean in latents.items()} if picked else {}
            return {
                ordinal: change(
                    model, clean, pictures[ordinal], interpolated(shot, pictures, ordinal)
                )
                if ordinal in picked
                else clean
                for ordinal, clean in latents.items()
            }

        return [JointEdits(clean_jointly=smooth)] * len(shot)


def interpolated(shot: Shot, pictures: Features, ordinal: int) -> Tensor:
    """A key frame's picture ``[3,H,W]``, made of those of the key frames before and after it."""
    own = pictures[ordinal]
    total, weight = own.new_zeros(own.shape), own.new_zeros(1, *own.shape[-2:])
    for other in (ordinal - 1, ordinal + 1):
        flow = shot.flow(ordinal, other)
        visible = (1 - flow.occluded[0]).to(own)
        total = total + visible * flow.warp(pictures[other], outside="border")
        weight = weight + visible
    unseen = (weight == 0).to(own)
    return (total + unseen * own) / (weight + unseen)
