"""Pixel-aware latent fusion (Rerender §4.1, eq. 10-11): middle steps inpaint what is new."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar, Literal

import torch
from torch import Tensor

from rerender.constraint._encoding import encode_faithfully
from rerender.constraint._masks import flat, known, soften
from rerender.contracts import Constraint, Edits, Model
from rerender.contracts.upload import upload
from rerender.errors import ConfigError
from rerender.flow.field import Outside
from rerender.scene import Reference, Scene, State


@dataclass(frozen=True, kw_only=True)
class Pixel(Constraint):
    """Pixels of the anchor and of the previous key frame are moved onto a draft of this one; where
    either is visible, the noisy latent is blended with the noised latent of that picture:

        x_t <- s M * (sqrt(alpha-bar) E(p) + sqrt(1 - alpha-bar) eps') + (1 - s M) * x_t   (eq. 11)

    p is the draft with the moved pixels laid over it (eq. 10), E the encoder (fidelity-oriented,
    eq. 9), eps' fixed noise, M where a moved pixel is known and s the strength. ``detail`` gives
    back variance that is lost where two noises are blended.

    Attributes:
        strength: weight of the reference where it is known (the paper's eq. 11 is 1); small
            avoids drift, large keeps texture sharp.
        detail: how much of the variance lost by blending two noises is given back, 0..1; low avoids
            artefacts, high avoids blur.
        smooth_boundary: blend plainly where the mask has an edge, which avoids seams.
        compensation: lambda of fidelity-oriented encoding; 0 encodes plainly.
        threshold: pixel error (0..1 scale) above which compensation is withheld.
        anchored: use the anchor's pixels; false uses the previous key frame alone (Fig. 15).
        double_mask: multiply the reference by the mask once more, as the published code does;
            that darkens the rim of the mask.
        outside: what a moved picture shows beyond its border: "grey", the middle of the model's
            range, as the published code does, or "border", its nearest pixel. Motion of less than
            half a pixel over the border hides nothing, so that grey mixes into the rim there.
    """

    strength: float = 0.5
    detail: float = 0.9
    smooth_boundary: bool = True
    compensation: float = 1.0
    threshold: float = 0.125
    anchored: bool = True
    double_mask: bool = False
    outside: Literal["grey", "border"] = "grey"

    needs_draft: ClassVar[bool] = True
    edits_noisy: ClassVar[bool] = True

    def __post_init__(self) -> None:
        super().__post_init__()
        for key in ("strength", "detail", "threshold"):
            if not 0 <= getattr(self, key) <= 1:
                raise ConfigError(
                    f"constraint.pixel.{key}",
                    f"must lie in 0..1, received {getattr(self, key)}",
                    "see conf/constraint/pixel.yaml",
                )

    @property
    def encodes(self) -> Sequence[Literal["anchor", "previous"]]:
        return ("anchor", "previous") if self.anchored else ("previous",)

    def bind(self, scene: Scene, model: Model) -> Edits:
        references = [scene.anchor, scene.previous] if self.anchored else [scene.previous]
        picture, hole = overlay(scene, references, self.outside)
        visible = known(soften(hole), model.vae_scale_factor)
        target = encode_faithfully(model, picture, self.compensation, self.threshold)
        mask = visible.to(target)
        target = target * mask if self.double_mask else target
        signal, noise = self.weights(mask)
        scene.watch.picture("overlay", scene.key.index, picture)
        scene.watch.picture("hole", scene.key.index, hole[0])

        def noisy(state: State) -> Tensor:
            fixed = scene.noise("pixel", state.step).to(target)
            reference = state.alpha_bar**0.5 * target + (1 - state.alpha_bar) ** 0.5 * fixed
            own = state.noisy - state.direction
            blended: Tensor = signal * reference + (1 - signal) * own + noise * state.direction
            return blended

        return Edits(noisy=noisy)

    def weights(self, mask: Tensor) -> tuple[Tensor, Tensor]:
        """Weights of the reference and of the frame's own noise, ``[1,1,h,w]`` each.

        Independent noises blended with weights w and 1 - w lose variance; the second weight is
        raised towards sqrt(1 - w^2), which keeps it, but never below 1 - w.
        """
        signal = self.strength * mask
        noise = torch.maximum(1 - signal, self.detail * (1 - signal**2).sqrt())
        if self.smooth_boundary:
            inner = flat(mask)
            noise = inner * noise + (1 - inner) * (1 - signal)
        return signal, noise


def overlay(
    scene: Scene, references: list[Reference], outside: Literal["grey", "border"] = "grey"
) -> tuple[Tensor, Tensor]:
    """The draft with moved pixels of earlier results laid over it, the first reference on top.

    Args:
        scene: the key frame, its draft and its flow to earlier ones.
        references: earlier key frames.
        outside: what these show beyond their borders, as of `Pixel`.

    Returns:
        The picture ``[3,H,W]``, un-quantised, and the hole ``[1,1,H,W]``: 1 where no reference is
        visible.
    """
    assert scene.draft is not None
    picture = scene.draft
    hole = torch.ones(1, 1, *picture.shape[-2:], dtype=picture.dtype, device=picture.device)
    for reference in reversed(references):
        occluded = reference.flow.occluded.to(picture)
        mask = soften(occluded)[0]
        earlier = upload(reference.image, picture.device).to(picture)
        fetched: Outside = "border" if outside == "border" else "zeros"
        warped = reference.flow.warp(earlier - 0.5, outside=fetched) + 0.5
        picture = (1 - mask) * warped + mask * picture
        hole = hole * occluded
    return picture, hole
