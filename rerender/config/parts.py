"""What a run is composed of, and the checks that concern more than one part."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Annotated

from pydantic import Field

from rerender.config.compatibility import check_parts
from rerender.config.sampling import Sampling
from rerender.contracts import (
    Constraint,
    Control,
    FlowEstimator,
    JointConstraint,
    KeyFrames,
    Mask,
    Part,
    Propagation,
    Sampler,
    Smooth,
    Start,
)
from rerender.errors import ConfigError
from rerender.mask.none import Everywhere
from rerender.model._prompts import tell_notations
from rerender.start.noised import Noised
from rerender.video import Clip


@dataclass(frozen=True)
class Parts:
    """The choices of a run, one field for each group of the configuration.

    Attributes:
        blend_source: weight of the source frame in every finished frame, key frames too, before
            the filter; 0 shows the translation alone.

    Raises:
        ConfigError: two of the choices do not go together.
    """

    keyframes: KeyFrames
    control: tuple[Control, ...]
    sampler: Sampler
    sampling: Sampling
    flow: FlowEstimator
    constraint: tuple[Part, ...]
    propagation: Propagation
    smooth: Smooth
    start: Start = field(default_factory=Noised)
    mask: Mask = field(default_factory=Everywhere)
    blend_source: Annotated[float, Field(ge=0, le=1)] = 0.0

    def __post_init__(self) -> None:
        check_parts(self)

    def check(self, clip: Clip, words: Sequence[str] = (), weighs: bool = False) -> None:
        """Refuse a clip that does not say what a constraint needs to know, or cannot be filled;
        say what of its prompts is taken as plain words.

        Args:
            clip: the clip.
            words: what stands in prompts for trained embeddings, and is none of these.
            weighs: whether ``(words:1.3)`` weighs words.

        Raises:
            ConfigError: it has no source prompt or not the key frames that are named, or the
                propagation misses something.
            InputError: its true motion is asked for and not known.
            WeightsError: those of the flow network are missing, damaged or of another one.
        """
        self.keyframes.check(clip.video)
        self.propagation.check()
        self.mask.check(clip.output)
        for control in self.control:
            control.check(clip)
        self.flow.open(clip).check()
        for asked in clip.ranges:
            self.with_strength(asked.strength)
        if clip.ranges and self.mask.regional:
            problem = "is not known of prompts that change over time"
            raise ConfigError("mask", f"what is other outside {problem}", "use one of the two")
        if clip.ranges and self.keyframes.made_elsewhere:
            problem = "change nothing in key frames that are made elsewhere"
            raise ConfigError("prompts", problem, "leave out prompts=… or choose other keyframes")
        for where in ("prompt", "source_prompt", "negative_prompt"):
            tell_notations(where, getattr(clip, where), words, weighs)
        later = [asked.prompt for asked in clip.ranges if weighs and asked.prompt != clip.prompt]
        for text in dict.fromkeys(later):
            tell_notations("prompt", text, words, weighs)
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
        told = [clip.prompt, *(asked.prompt for asked in clip.ranges)]
        told += [clip.source_prompt] if inverts else []
        return told + ([clip.negative_prompt] if self.sampling.guided else [])

    @property
    def acting(self) -> list[Part]:
        """Constraints that act in some executed step; the others are never bound, since what they
        wait for, such as a draft, need not come."""
        return [each for each in self.constraint if self.sampling.window(each)]

    @property
    def sequential(self) -> list[Constraint]:
        """The acting constraints under which key frames refer to earlier ones."""
        return [each for each in self.acting if isinstance(each, Constraint)]

    @property
    def joint(self) -> bool:
        """Whether the key frames of a shot are denoised together."""
        return any(isinstance(constraint, JointConstraint) for constraint in self.constraint)

    def names(self) -> Sequence[str]:
        """The controls, by the names under which a checkpoint finds their ControlNets."""
        return [control.network for control in self.control]

    def with_strength(self, strength: float | None) -> Parts:
        """The same parts with another strength; None keeps it.

        Raises:
            ConfigError: one of them does not go together with it.
        """
        if strength is None:
            return self
        return replace(self, sampling=replace(self.sampling, strength=strength))

    def from_noise(self) -> Parts:
        """The same parts, but starting from pure noise and without constraints."""
        sampling = replace(self.sampling, strength=None, recolor=False)
        return replace(self, sampling=sampling, constraint=(), start=Noised())

    def uncontrolled(self) -> Parts:
        """The same parts from pure noise, told the prompt alone: no control has a weight."""
        control = tuple(replace(each, weight=0.0) for each in self.control)
        return replace(self.from_noise(), control=control)
