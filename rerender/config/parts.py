"""What a run is composed of, and the checks that concern more than one part."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Literal

import torch

from rerender.contracts import (
    Constraint,
    Control,
    FlowEstimator,
    JointConstraint,
    KeyFrames,
    Model,
    Propagation,
    Sampler,
    Schedule,
    Smooth,
    Start,
)
from rerender.errors import ConfigError
from rerender.kinds import Device
from rerender.model._prompts import tell_notations
from rerender.start.noised import Noised
from rerender.video import Clip


@dataclass(frozen=True)
class Sampling:
    """How a key frame is denoised.

    Attributes:
        steps: denoising steps of a full run.
        strength: share of the steps that are executed, starting from the noised source (SDEdit);
            0 returns the source through the autoencoder; None starts from pure noise.
        guidance: scale of classifier-free guidance; 1 runs the positive prompt alone.
        noise: "fixed" gives all key frames the same noise, "per_frame" each its own.
        windows: constraint and control windows are shares of the "executed" steps, or of the full
            "schedule", of which a lower strength cuts off the beginning.
        rounding: how many steps a strength skips: "down" executes floor(steps * strength) as
            diffusers does; "official" skips trunc(steps * (1 - strength)) in floating point.
        recolor: give the source the colours of a first result made from pure noise before it is
            noised (the paper's "preserve colour" switched off).
        lanes: key frames denoised side by side in one batch.
        keep_dtype: type in which attention features are kept; auto is what the network computes in.
        keep_device: device on which they are kept; auto leaves them where they are.
    """

    steps: int = 20
    strength: float | None = 0.75
    guidance: float = 7.5
    noise: Literal["fixed", "per_frame"] = "fixed"
    windows: Literal["executed", "schedule"] = "executed"
    rounding: Literal["down", "official"] = "down"
    recolor: bool = False
    lanes: int = 1
    keep_dtype: Literal["auto", "float32", "float16", "bfloat16"] = "auto"
    keep_device: Device = "auto"

    def __post_init__(self) -> None:
        _require("steps", self.steps, 1 <= self.steps <= 999, "a whole number in 1..999")
        _require("lanes", self.lanes, self.lanes >= 1, "at least 1")
        _require("guidance", self.guidance, 0 <= self.guidance <= 100, "in 0..100")
        strength = self.strength
        _require("strength", strength, strength is None or 0 <= strength <= 1, "in 0..1, or null")
        if self.recolor and strength is None:
            raise ConfigError(
                "sampling.recolor",
                "has no effect with sampling.strength=null, which starts from pure noise",
                "set a strength, or recolor=false",
            )

    @property
    def guided(self) -> bool:
        """Whether the unconditional branch is needed."""
        return self.guidance != 1

    def skipped(self) -> int:
        """Steps left out at the noisy end."""
        if self.strength is None:
            return 0
        if self.rounding == "official":
            return int(self.steps * (1 - self.strength))
        return self.steps - int(self.steps * self.strength + 1e-6)

    def schedule(self, sampler: Sampler, model: Model) -> Schedule:
        """The steps that are executed."""
        full, skip = sampler.schedule(self.steps, model), self.skipped()
        return Schedule(full.timesteps[skip:], full.alphas_cumprod[skip:], skip)

    def window(self, part: Constraint | Control) -> range:
        """The executed steps in which a constraint or control acts."""
        executed = self.steps - self.skipped()
        if self.windows == "executed":
            return range(round(part.start * executed), round(part.stop * executed))
        first, last = round(part.start * self.steps), round(part.stop * self.steps)
        return range(max(first - self.skipped(), 0), max(last - self.skipped(), 0))

    def storage(self) -> tuple[torch.dtype | None, torch.device | None]:
        """Type and device in which features are kept; None leaves them as they are."""
        dtype = None if self.keep_dtype == "auto" else getattr(torch, self.keep_dtype)
        device = None if self.keep_device == "auto" else torch.device(self.keep_device)
        return dtype, device


def _require(key: str, value: object, holds: bool, rule: str) -> None:
    if not holds:
        raise ConfigError(f"sampling.{key}", f"must be {rule}, received {value}", "change it")


@dataclass(frozen=True)
class Parts:
    """The choices of a run, one field for each group of the configuration.

    Raises:
        ConfigError: two of the choices do not go together.
    """

    keyframes: KeyFrames
    control: tuple[Control, ...]
    sampler: Sampler
    sampling: Sampling
    flow: FlowEstimator
    constraint: tuple[Constraint, ...]
    propagation: Propagation
    smooth: Smooth
    start: Start = field(default_factory=Noised)

    def __post_init__(self) -> None:
        self._check_start()
        for constraint in self.constraint:
            self._check_sampler(constraint)
            self._check_window(constraint)
            self._check_joint(constraint)

    def _check_start(self) -> None:
        name = type(self.start).__module__.rpartition(".")[2]
        if self.start.inverts and not self.sampler.invertible:
            raise ConfigError(
                f"start.{name}",
                f"goes backwards through steps that sampler {type(self.sampler).__name__} does not "
                "take",
                "use sampler=ddim, or start=noised",
            )
        if self.start.needs_noise and self.sampling.strength is not None:
            raise ConfigError(
                f"start.{name}",
                f"begins with noise alone, received sampling.strength={self.sampling.strength}",
                "use sampling.strength=null, or start=noised",
            )
        if self.start.needs_guidance and not self.sampling.guided:
            raise ConfigError(
                f"start.{name}",
                "changes the unconditional branch, which sampling.guidance=1 does not run",
                "use a higher guidance, or start=ddim_inversion",
            )

    def _check_sampler(self, constraint: Constraint) -> None:
        if constraint.edits_noisy and self.sampler.rewrites_past:
            raise ConfigError(
                f"constraint.{constraint.name}",
                f"edits the latent between steps, which sampler {type(self.sampler).__name__} "
                "computes again from the step before",
                "use sampler=ddim or sampler=dpm, or leave the constraint out",
            )

    def _check_window(self, constraint: Constraint) -> None:
        """A constraint that never acts is a mistake, except where the original's windows are asked
        for, which leave shape fusion idle at low strengths."""
        sampling = self.sampling
        executed = sampling.steps - sampling.skipped()
        if sampling.windows == "executed" and executed and not sampling.window(constraint):
            raise ConfigError(
                f"constraint.{constraint.name}",
                f"acts in none of the {executed} executed steps "
                f"(window {constraint.start} to {constraint.stop})",
                "widen the window, or take more steps or strength",
            )

    def _check_joint(self, constraint: Constraint) -> None:
        if self.joint and constraint.needs_draft:
            raise ConfigError(
                f"constraint.{constraint.name}",
                "waits for the picture of the key frame before, while a joint constraint denoises "
                "all key frames of a shot at once",
                "leave one of the two out",
            )
        if (
            isinstance(constraint, JointConstraint)
            and constraint.needs_source
            and not self.start.inverts
        ):
            raise ConfigError(
                f"constraint.{constraint.name}",
                f"compares with an inversion, which start {type(self.start).__name__} does not do",
                "use start=ddim_inversion or start=null_text",
            )

    def check(self, clip: Clip) -> None:
        """Refuse a clip that does not say what a constraint needs to know, or cannot be filled;
        say what of its prompts is taken as plain words.

        Raises:
            ConfigError: it has no source prompt or not the key frames that are named, or the
                propagation misses something.
            InputError: its true motion is asked for and not known.
            WeightsError: those of the flow network are missing, damaged or of another one.
        """
        self.keyframes.check(clip.video)
        self.propagation.check()
        self.flow.open(clip).check()
        for where in ("prompt", "source_prompt", "negative_prompt"):
            tell_notations(where, getattr(clip, where))
        needy = [
            c.name for c in self.constraint if isinstance(c, JointConstraint) and c.needs_source
        ]
        if needy and not clip.source_prompt.strip():
            raise ConfigError(
                "source_prompt",
                f"constraint {needy[0]} compares with what clip {clip.name} shows, which is not "
                "said",
                'say it: source_prompt="a cat on a sofa"',
            )

    def prompts(self, clip: Clip) -> list[str]:
        """The texts of a clip that the model is told."""
        inverts = self.start.inverts or any(
            isinstance(each, JointConstraint) and each.needs_source for each in self.constraint
        )
        told = [clip.prompt]
        told += [clip.source_prompt] if inverts else []
        return told + ([clip.negative_prompt] if self.sampling.guided else [])

    @property
    def joint(self) -> bool:
        """Whether the key frames of a shot are denoised together."""
        return any(isinstance(constraint, JointConstraint) for constraint in self.constraint)

    def names(self) -> Sequence[str]:
        """The controls, by the names under which a checkpoint finds their ControlNets."""
        return [control.name for control in self.control]

    def from_noise(self) -> Parts:
        """The same parts, but starting from pure noise and without constraints."""
        sampling = replace(self.sampling, strength=None, recolor=False)
        return replace(self, sampling=sampling, constraint=(), start=Noised())
