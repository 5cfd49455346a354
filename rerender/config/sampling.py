"""How a key frame is denoised: steps, strength, guidance and the windows of constraints."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

import torch

from rerender.contracts import Adapter, Control, Model, Part, Sampler, Schedule
from rerender.errors import ConfigError
from rerender.kinds import Device


@dataclass(frozen=True)
class Sampling:
    """How a key frame is denoised.

    Attributes:
        steps: denoising steps of a full run.
        strength: share of the steps that are executed, starting from the noised source (SDEdit);
            0 returns the source through the autoencoder; None starts from pure noise.
        guidance: scale of classifier-free guidance; 1 runs the positive prompt alone.
        image_guidance: scale of guidance by the source picture, of InstructPix2Pix; None is 1.5.
        noise: "fixed" gives all key frames the same noise, "per_frame" each its own.
        windows: constraint and control windows are shares of the "executed" steps, or of the full
            "schedule", of which a lower strength cuts off the beginning; their ends are rounded to
            the nearest step. "published" is the schedule with the published code's comparison:
            step j acts where start * steps <= j < stop * steps, without rounding.
        rounding: how many steps a strength skips: "down" executes floor(steps * strength) as
            diffusers does; "published" skips trunc(steps * (1 - strength)) in floating point.
        recolor: give the source the colours of a first result made from pure noise before it is
            noised (the paper's "preserve colour" switched off).
        draft: what constraints that need a draft are given: "full" translates the key frame once
            without them; "estimate" takes the clean latent that was predicted in the step before
            the first of them acts, which saves that pass from there on.
        reanchor: visible share of the anchor in a key frame, below which the key frame before it
            becomes the anchor; None stays with the first key frame of a shot.
        batch_size: key frames denoised side by side in one batch.
        keep_dtype: type in which hidden states are kept; auto is what the network computes in.
        keep_device: device on which they are kept; auto leaves them where they are.
    """

    steps: int = 20
    strength: float | None = 0.75
    guidance: float = 7.5
    image_guidance: float | None = None
    noise: Literal["fixed", "per_frame"] = "fixed"
    windows: Literal["executed", "schedule", "published"] = "executed"
    rounding: Literal["down", "published"] = "down"
    recolor: bool = False
    draft: Literal["full", "estimate"] = "full"
    reanchor: float | None = None
    batch_size: int = 1
    keep_dtype: Literal["auto", "float32", "float16", "bfloat16"] = "auto"
    keep_device: Device = "auto"

    def __post_init__(self) -> None:
        _require("steps", self.steps, 1 <= self.steps <= 999, "a whole number in 1..999")
        _require("batch_size", self.batch_size, self.batch_size >= 1, "at least 1")
        _require("guidance", self.guidance, 0 <= self.guidance <= 100, "in 0..100")
        image = self.image_guidance
        _require("image_guidance", image, image is None or 0 <= image <= 100, "in 0..100, or null")
        strength = self.strength
        _require("strength", strength, strength is None or 0 <= strength <= 1, "in 0..1, or null")
        share = self.reanchor
        _require("reanchor", share, share is None or 0 <= share <= 1, "in 0..1, or null")
        if self.recolor and strength is None:
            raise ConfigError(
                "sampling.recolor",
                "has no effect with sampling.strength=null, which starts from pure noise",
                "set a strength, or recolor=false",
            )

    @property
    def image_scale(self) -> float:
        """The scale of guidance by the source picture."""
        return 1.5 if self.image_guidance is None else self.image_guidance

    @property
    def guided(self) -> bool:
        """Whether the unconditional branch is needed."""
        return self.guidance != 1

    def skipped(self) -> int:
        """Steps left out at the noisy end."""
        if self.strength is None:
            return 0
        if self.rounding == "published":
            return int(self.steps * (1 - self.strength))
        return self.steps - int(self.steps * self.strength + 1e-6)

    def schedule(self, sampler: Sampler, model: Model) -> Schedule:
        """The steps that are executed."""
        full, skip = sampler.schedule(self.steps, model), self.skipped()
        times, alphas = full.timesteps[skip:], full.alphas_cumprod[skip:]
        return Schedule(times, alphas, skip, full.beyond[skip:])

    def window(self, part: Part | Control | Adapter) -> range:
        """The executed steps in which a constraint, control or adapter acts."""
        executed = self.steps - self.skipped()
        if self.windows == "executed":
            return range(round(part.start * executed), round(part.stop * executed))
        whole = math.ceil if self.windows == "published" else round
        first, last = whole(part.start * self.steps), whole(part.stop * self.steps)
        return range(max(first - self.skipped(), 0), max(last - self.skipped(), 0))

    def storage(self) -> tuple[torch.dtype | None, torch.device | None]:
        """Type and device in which features are kept; None leaves them as they are."""
        dtype = None if self.keep_dtype == "auto" else getattr(torch, self.keep_dtype)
        device = None if self.keep_device == "auto" else torch.device(self.keep_device)
        return dtype, device


def _require(key: str, value: object, holds: bool, rule: str) -> None:
    if not holds:
        raise ConfigError(f"sampling.{key}", f"must be {rule}, received {value}", "change it")
