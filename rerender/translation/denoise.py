"""The denoising loop with edits, written as a generator that asks for each network evaluation.

Because it asks instead of calling, the requests of several key frames can be answered in one batch
(`rerender.translation.lanes`, `rerender.translation.joint`); the loop knows nothing of batches.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

import torch
from torch import Tensor

from rerender.contracts import (
    AttentionContext,
    AttentionMapEdit,
    CleanJointly,
    Condition,
    Edits,
    Features,
    InversionEdits,
    JointAttention,
    JointEdits,
    NoiseRequest,
    Sampler,
    Schedule,
    guide,
)
from rerender.gradients import gradient
from rerender.scene import Layer, Noise, State, Trace
from rerender.translation.share import blend


class BoundEdits(NamedTuple):
    """The edits of one constraint and the steps in which they act.

    Attributes:
        steps: executed steps.
        edits: what is done in them.
        joint: of joint constraints, what is done to all key frames of the shot.
    """

    steps: range
    edits: Edits
    joint: JointEdits | None = None


class CleanRequest(NamedTuple):
    """A predicted clean latent that waits for those of the other key frames of its shot.

    Attributes:
        ordinal: number of the key frame in the shot.
        step: executed step.
        clean: ``[1,C,h,w]``.
        edits: applied in turn, the same for all.
    """

    ordinal: int
    step: int
    clean: Tensor
    edits: tuple[CleanJointly, ...]


def edit_jointly(requests: Sequence[CleanRequest]) -> list[Tensor]:
    """Answer the requests of all key frames of a shot: their clean latents, edited."""
    latents: Features = {each.ordinal: each.clean for each in requests}
    for edit in requests[0].edits:
        latents = edit(requests[0].step, latents)
    return [latents[each.ordinal] for each in requests]


@dataclass(frozen=True)
class DenoisingTask:
    """What stays the same while one key frame is denoised.

    Attributes:
        schedule: the executed steps.
        sampler: the solver.
        condition: embedded prompts and control maps.
        conditioning_scale: strength of each ControlNet at each step, ``[steps][nets]``.
        guidance_scale: scale of classifier-free guidance.
        image_guidance: its scale for the source picture (InstructPix2Pix).
        noise: the fixed noise.
        ready: whether earlier key frames have left what a step needs.
        label: the key frame in words, for the progress display.
        prompt_embeds: ``[B,T,D]`` for each step; () keeps the condition's.
        adapter_scale: strength of each of the model's adapters at each step, ``[steps][adapters]``.
        ordinal: number in its shot of a key frame that is denoised jointly with the others; None
            of one that is not.
        share: ``[1,1,h,w]``: how far edits of constraints that are not joint count in each latent
            cell; None lets them count everywhere.
    """

    schedule: Schedule
    sampler: Sampler
    condition: Condition
    conditioning_scale: Sequence[tuple[float, ...]]
    guidance_scale: float
    noise: Noise
    ready: Callable[[int], bool]
    label: str = ""
    prompt_embeds: Sequence[Tensor] = ()
    adapter_scale: Sequence[tuple[float, ...]] = ()
    ordinal: int | None = None
    share: Tensor | None = None
    image_guidance: float = 1.0

    def condition_at(self, step: int) -> Condition:
        """The condition of one step."""
        if not self.prompt_embeds:
            return self.condition
        return replace(self.condition, prompt_embeds=self.prompt_embeds[step])

    def beginning(self, noisy: Tensor) -> State:
        """The state before the first executed step."""
        alpha_bar = self.schedule.alphas_cumprod[0] if len(self.schedule) else 1.0
        return State(0, alpha_bar, noisy, torch.zeros_like(noisy))


class Recorder(NamedTuple):
    """Where a pass leaves what later key frames need: a trace, and the names of the layers whose
    hidden states go into it."""

    trace: Trace
    layers: frozenset[str] = frozenset()


def denoise(
    task: DenoisingTask,
    state: State,
    stop: int,
    bound: Sequence[BoundEdits],
    recorder: Recorder | None = None,
) -> Generator[NoiseRequest | CleanRequest, Tensor, State]:
    """Execute the steps from ``state`` up to (not including) ``stop``.

    Each step: edit x_t; eps = guide(network(x_t)); x^0 = (x_t - sqrt(1 - alpha-bar) eps) /
    sqrt(alpha-bar); edit x^0, at last with those of all key frames of a shot; let the sampler step;
    move by the gradient of guidance losses.

    Args:
        task: what stays the same.
        state: where to begin; it is not changed.
        stop: step to stop before.
        bound: edits in the order in which they are applied.
        recorder: keeps clean latents and hidden states; None for a pass that is only a draft.

    Returns:
        The state reached (as the generator's value).
    """
    for step in range(state.step, stop):
        active = [each for each in bound if step in each.steps]
        edits = [each.edits for each in active]
        for each in active:
            if each.edits.noisy is not None:
                edited = each.edits.noisy(state)
                state = replace(state, noisy=_counted(task, each, edited, state.noisy))
        losses = [edit.guidance for edit in edits if edit.guidance is not None]
        entering = state
        if losses:
            entering = replace(state, noisy=state.noisy.detach().requires_grad_())
        branches = yield _request(task, entering, active, recorder)
        with torch.set_grad_enabled(bool(losses)):
            estimate = guide(branches, task.guidance_scale, task.image_guidance).to(entering.noisy)
            noise_share = (1 - state.alpha_bar) ** 0.5
            clean = (entering.noisy - noise_share * estimate) / state.alpha_bar**0.5
            moves = [loss.step_size * loss.loss(entering, clean) for loss in losses]
        if losses:
            # Key frames that attend to each other share a graph, which the next one needs too.
            shared, total = task.ordinal is not None, torch.stack(moves).sum()
            computed = task.condition.prompt_embeds.dtype
            shift = gradient(total, entering.noisy, computed, retain_graph=shared)
            estimate, clean = estimate.detach(), clean.detach()
        for each in active:
            if each.edits.clean is not None:
                clean = _counted(task, each, each.edits.clean(state, clean), clean)
        together = [e.joint.clean_jointly for e in active if e.joint and e.joint.clean_jointly]
        if together and task.ordinal is not None:
            if recorder is not None:  # later key frames refer to it before all are edited together
                recorder.trace.clean[step] = clean
            clean = yield CleanRequest(task.ordinal, step, clean, tuple(together))
        output = task.sampler.step(task.schedule, state, clean, estimate, task.noise)
        noisy = output.noisy - shift if losses else output.noisy
        after = task.schedule.alphas_cumprod[step + 1]
        state = State(step + 1, after, noisy, output.direction, output.history)
        if recorder is not None:
            recorder.trace.clean[step] = clean
            recorder.trace.settled = step + 1
    return state


def _counted(task: DenoisingTask, bound: BoundEdits, edited: Tensor, before: Tensor) -> Tensor:
    """An edited latent where the edit counts."""
    if task.share is None or bound.joint is not None:
        return edited
    return blend(task.share, edited, before)


def _request(
    task: DenoisingTask, state: State, active: Sequence[BoundEdits], recorder: Recorder | None
) -> NoiseRequest:
    step = state.step
    name = "draft" if recorder is None else "final"
    return NoiseRequest(
        state.noisy,
        task.schedule.timesteps[step],
        task.condition_at(step),
        task.conditioning_scale[step],
        _attend([each.edits for each in active], step, recorder),
        chained_maps([each.edits.maps for each in active], step),
        joint_attention([each.joint for each in active], step, task.ordinal),
        task.adapter_scale[step] if task.adapter_scale else (),
        lambda: task.ready(step),
        f"{task.label}, {name} pass, step {step + 1}/{len(task.schedule)}",
    )


def _attend(
    edits: Sequence[Edits], step: int, recorder: Recorder | None
) -> AttentionContext | None:
    """What self-attention makes keys and values of in one step, and what is recorded."""
    chain = tuple(edit.attend for edit in edits if edit.attend is not None)
    if recorder is None or not recorder.layers:
        return AttentionContext(step, chain) if chain else None
    return AttentionContext(step, chain, recorder.trace, recorder.layers)


def chained_maps(
    chain: Sequence[Callable[[int], AttentionMapEdit | None] | None], step: int
) -> AttentionMapEdit | None:
    """What all constraints do to attention maps in one step: each in turn, where it wants to."""
    found = [asked for at in chain if at is not None and (asked := at(step)) is not None]
    if len(found) < 2:
        return found[0] if found else None

    def edit(layer: Layer, maps: Tensor) -> Tensor:
        for each in found:
            if each.wants(layer, maps.shape[-2]):
                maps = each.edit(layer, maps)
        return maps

    return AttentionMapEdit(
        lambda layer, cells: any(each.wants(layer, cells) for each in found), edit
    )


def joint_attention(
    chain: Sequence[JointEdits | InversionEdits | None], step: int, ordinal: int | None
) -> JointAttention | None:
    """A key frame's place among those that are denoised jointly; None of one that is not."""
    if ordinal is None:
        return None
    edits = [each for each in chain if each is not None]
    return JointAttention(
        ordinal,
        step,
        tuple(each.attend_jointly for each in edits if each.attend_jointly is not None),
        next((each.processor for each in edits if each.processor is not None), None),
        tuple(each.features for each in edits if each.features is not None),
        next((each.canvas for each in edits if each.canvas is not None), None),
    )
