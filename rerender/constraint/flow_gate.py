"""Where the flow is to be trusted: a gate between constraints that follow it and others (proposed
as future work by FRESCO, arXiv 2403.12962)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated

import torch
from pydantic import Field
from torch import Tensor

from rerender.constraint._masks import known, soften
from rerender.contracts import JointConstraint, JointEdits, Model
from rerender.flow.field import Flow
from rerender.scene import Shot


@dataclass(frozen=True, kw_only=True)
class FlowGate(JointConstraint):
    """In every latent cell of a key frame edits that follow the flow count for s, other joint ones
    for 1 - x s,

        s = M * exp(-(e / error)^2),

    M where the key frame before or the first one is visible (forward-backward test, softened), e
    the smaller of the mean absolute differences between the source and what the two say of it. In
    a key frame of which too little is visible s is 0. Of the first key frame the second one
    decides.

    Attributes:
        error: photometric error, of 0..1, at which the flow is trusted by 1/e.
        coverage: mean of s below which nothing follows the flow in the whole key frame.
        exclusive: x, how far other edits give way where the flow is trusted: 1 shares every cell
            out between the two kinds, with 0 others count everywhere.
        value: s of all cells of all key frames, in place of the flow's; null for none.
    """

    error: Annotated[float, Field(gt=0, le=1)] = 0.1
    coverage: Annotated[float, Field(ge=0, le=1)] = 0.3
    exclusive: Annotated[float, Field(ge=0, le=1)] = 1.0
    value: Annotated[float, Field(ge=0, le=1)] | None = None

    def bind(self, shot: Shot, model: Model) -> Sequence[JointEdits]:
        shares = [self.share(shot, model, ordinal) for ordinal in range(len(shot))]
        return [JointEdits(share=s, other_share=1 - self.exclusive * s) for s in shares]

    def share(self, shot: Shot, model: Model, ordinal: int) -> Tensor:
        """Of one key frame, ``[1,1,h,w]`` in 0..1."""
        height, width = shot.clip.video.size
        cells = (height // model.vae_scale_factor, width // model.vae_scale_factor)
        if self.value is not None or len(shot) == 1:
            return torch.full((1, 1, *cells), 0.0 if self.value is None else self.value)
        references = dict.fromkeys((ordinal - 1, 0)) if ordinal else (1,)
        flows = [shot.flow(ordinal, each) for each in references]
        frames = [shot.clip.video[shot.indices[each]] for each in (ordinal, *references)]
        own, *others = torch.stack(frames).to(flows[0].offset.device)  # one copy
        trusts = [self._trust(own, *each) for each in zip(others, flows, strict=True)]
        trusted = torch.stack(trusts).amax(0)
        trusted = trusted.cpu()  # shares are compared with 0 and 1, which a device would hold up
        pooled = known(1 - trusted, model.vae_scale_factor)
        share = pooled if float(pooled.mean()) >= self.coverage else torch.zeros_like(pooled)
        shot.watch.picture("gate", shot.indices[ordinal], share[0])
        return share

    def _trust(self, own: Tensor, other: Tensor, flow: Flow) -> Tensor:
        """How far a frame is what another one shows, moved by the flow: ``[1,1,H,W]``."""
        apart = (flow.warp(other, outside="border") - own).abs().mean(0)[None, None]
        visible: Tensor = 1 - soften(flow.occluded)
        return visible * torch.exp(-((apart / self.error) ** 2))
