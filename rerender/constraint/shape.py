"""Shape-aware latent fusion (Rerender §4.1, eq. 7): early steps follow the anchor's layout."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from rerender.constraint._masks import known, soften
from rerender.contracts import Constraint, Edits, Model
from rerender.flow.field import resize
from rerender.scene import Scene, State


@dataclass(frozen=True, kw_only=True)
class Shape(Constraint):
    """Where the anchor is visible, its clean latent of the same step, moved by the flow, replaces
    the predicted one:

        x^0_t <- M * w(x^0_t of the anchor) + (1 - M) * x^0_t        (eq. 7)

    M is 1 where the anchor is visible, softened and pooled to latent cells; w warps by nearest
    neighbour, so that the values of latents do not mix."""

    def bind(self, scene: Scene, model: Model) -> Edits:
        flow, anchor = scene.anchor.flow, scene.anchor.trace
        visible = known(soften(flow.occluded), model.vae_scale_factor)
        height, width = visible.shape[-2:]
        moved = resize(flow, height, width)
        scene.watch.picture("shape", scene.key.index, visible[0])

        def fuse(state: State, clean: Tensor) -> Tensor:
            mask = visible.to(clean)
            warped = moved.warp(anchor.clean[state.step].to(clean), "nearest")
            return mask * warped + (1 - mask) * clean

        return Edits(clean=fuse)
