"""Which choices of a run go together. What a choice needs or does it says itself, in class flags
(`Start.inverts`, `Constraint.needs_draft`, ...); here is all that follows from two of them.

=========================================  =====================================================
this choice                                goes with
=========================================  =====================================================
start that inverts                         a sampler whose steps are reversible
start that needs noise alone               ``sampling.strength=null``
start that changes the unconditional       ``sampling.guidance`` other than 1, and a model
                                           that is not told the guidance scale and does not see
                                           the source
``sampling.image_guidance``                a model that sees the source (InstructPix2Pix)
prompts that change over time              no mask for an inpainting model
part that edits the noisy latent           a sampler that does not compute it again
mask with a strength of its own outside    a sampler that does not compute it again
constraint that needs a draft              no joint constraint
``sampling.draft=estimate``                such a constraint acting from the second executed step on
joint constraint that needs the source     a start that inverts
joint constraint that replaces attention   no other that does
joint constraint that merges frames        no other constraint
constraint with a window                   at least one executed step in it
=========================================  =====================================================
"""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from rerender.contracts import Checkpoint, Constraint, JointConstraint, Part
from rerender.errors import ConfigError
from rerender.mask.none import Everywhere
from rerender.video import Clip

if TYPE_CHECKING:
    from rerender.config.parts import Parts

log = logging.getLogger(__name__)


def check_parts(parts: Parts) -> None:
    """Refuse the first pair of choices that do not go together.

    Raises:
        ConfigError: naming one of the two and how to mend it.
    """
    for error in (*_start(parts), *_mask(parts)):
        raise error
    for part in parts.constraint:
        for rule in (_sampler, _window, _draft, _joint):
            for error in rule(parts, part):
                raise error


def check_model(parts: Parts, model: Checkpoint, clips: Sequence[Clip] = ()) -> None:
    """Refuse choices that do not go with the model; say what has no effect with it.

    Raises:
        ConfigError: naming the choice and how to mend it.
    """
    _check_seen(parts, model, clips)
    if not model.distilled():
        return
    if parts.start.needs_guidance:
        raise ConfigError(
            f"start.{type(parts.start).__module__.rpartition('.')[2]}",
            "changes the unconditional branch, which this model does not have: it is told the "
            "guidance scale instead",
            "use start=noised or start=ddim_inversion, or another model",
        )
    log.warning(
        "model: is told the guidance scale (%s) instead of being guided; negative prompts have no "
        "effect",
        parts.sampling.guidance,
    )


def _check_seen(parts: Parts, model: Checkpoint, clips: Sequence[Clip]) -> None:
    """What goes with models that see the source."""
    instructed = model.instructed()
    alone = not parts.sampling.guided or model.distilled()  # no branch to be guided by
    if parts.sampling.image_guidance is not None and (alone or not instructed):
        raise ConfigError(
            "sampling.image_guidance",
            "is of InstructPix2Pix, and of sampling.guidance other than 1",
            "leave it out, or take model=instruct_pix2pix",
        )
    if instructed and parts.start.needs_guidance:
        raise ConfigError(
            f"start.{type(parts.start).__module__.rpartition('.')[2]}",
            "changes the unconditional branch of two, this model has three",
            "use start=noised or start=ddim_inversion, or another model",
        )
    masked = not isinstance(parts.mask, Everywhere)
    if masked and any(clip.ranges for clip in clips) and model.inpaints():
        problem = "is not known to an inpainting model of prompts that change over time"
        raise ConfigError("mask", problem, "use one of the two")


def _start(parts: Parts) -> Iterator[ConfigError]:
    start, sampling = parts.start, parts.sampling
    key = f"start.{type(start).__module__.rpartition('.')[2]}"
    if start.inverts and not parts.sampler.invertible:
        yield ConfigError(
            key,
            f"goes backwards through steps that sampler {type(parts.sampler).__name__} does not "
            "take",
            "use sampler=ddim, or start=noised",
        )
    if start.needs_noise and sampling.strength is not None:
        yield ConfigError(
            key,
            f"begins with noise alone, received sampling.strength={sampling.strength}",
            "use sampling.strength=null, or start=noised",
        )
    if start.needs_guidance and not sampling.guided:
        yield ConfigError(
            key,
            "changes the unconditional branch, which sampling.guidance=1 does not run",
            "use a higher guidance, or start=ddim_inversion",
        )


def _mask(parts: Parts) -> Iterator[ConfigError]:
    if parts.mask.rest_strength is not None and parts.sampler.rewrites_past:
        yield ConfigError(
            "mask.rest_strength",
            f"edits the latent between steps, which sampler {type(parts.sampler).__name__} "
            "computes again from the step before",
            "use sampler=ddim or sampler=dpm, or leave it out",
        )


def _sampler(parts: Parts, part: Part) -> Iterator[ConfigError]:
    if part.edits_noisy and parts.sampler.rewrites_past:
        yield ConfigError(
            f"constraint.{part.name}",
            f"edits the latent between steps, which sampler {type(parts.sampler).__name__} "
            "computes again from the step before",
            "use sampler=ddim or sampler=dpm, or leave the constraint out",
        )


def _window(parts: Parts, part: Part) -> Iterator[ConfigError]:
    """A constraint that never acts is a mistake, except where the published windows are asked for,
    which leave shape fusion idle at low strengths."""
    sampling = parts.sampling
    executed = sampling.steps - sampling.skipped()
    if sampling.windows == "executed" and executed and not sampling.window(part):
        yield ConfigError(
            f"constraint.{part.name}",
            f"acts in none of the {executed} executed steps (window {part.start} to {part.stop})",
            "widen the window, or take more steps or strength",
        )


def _draft(parts: Parts, part: Part) -> Iterator[ConfigError]:
    window = parts.sampling.window(part)
    drafted = isinstance(part, Constraint) and part.needs_draft
    if drafted and parts.sampling.draft == "estimate" and window and window.start == 0:
        yield ConfigError(
            f"constraint.{part.name}",
            "acts in the first executed step, before which there is no estimate to draft from",
            f"start it later (constraint.{part.name}.start), or use sampling.draft=full",
        )


def _joint(parts: Parts, part: Part) -> Iterator[ConfigError]:
    if parts.joint and isinstance(part, Constraint) and part.needs_draft:
        yield ConfigError(
            f"constraint.{part.name}",
            "waits for the picture of the key frame before, while a joint constraint denoises "
            "all key frames of a shot at once",
            "leave one of the two out",
        )
    others = [each for each in parts.constraint if each is not part]
    if isinstance(part, JointConstraint) and part.replaces_attention:
        for each in others:
            if isinstance(each, JointConstraint) and each.replaces_attention:
                yield ConfigError(
                    f"constraint.{part.name}",
                    f"answers in place of self-attention, as constraint {each.name} does too",
                    "leave one of the two out",
                )
    if isinstance(part, JointConstraint) and part.merges_frames and others:
        yield ConfigError(
            f"constraint.{part.name}",
            "denoises several key frames as one picture, in which constraint "
            f"{others[0].name} cannot tell them apart",
            f"use constraint=[{part.name}]",
        )
    if isinstance(part, JointConstraint) and part.needs_source and not parts.start.inverts:
        yield ConfigError(
            f"constraint.{part.name}",
            f"compares with an inversion, which start {type(parts.start).__name__} does not do",
            "use start=ddim_inversion or start=null_text",
        )
