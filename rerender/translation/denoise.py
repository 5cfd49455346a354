"""The denoising loop with edits, written as a generator that asks for each network evaluation.

Because it asks instead of calling, `rerender.translation.lanes` can answer the questions of several
key frames in one batch; the loop itself knows nothing of batches.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Sequence
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import torch
from torch import Tensor

from rerender.contracts import (
    AttentionMapEdit,
    Condition,
    Edits,
    Guidance,
    JointAttention,
    Memory,
    NoiseRequest,
    Sampler,
    Schedule,
    guide,
)
from rerender.scene import Layer, Noise, State, Trace


class Ask(NamedTuple):
    """What a job needs before it can go on.

    Attributes:
        ready: whether everything it waits for is there.
        query: the network evaluation it wants; None if it only waits.
        note: where the job is, for the progress display.
        spared: evaluations that were counted on and turn out not to be needed.
    """

    ready: Callable[[], bool]
    query: NoiseRequest | None
    note: str = ""
    spared: int = 0


Job = Generator[Ask, Tensor | None, Any]
"""Asks, is sent the predicted noise ``[B,C,h,w]`` (None for a mere wait), returns its result."""


class BoundEdits(NamedTuple):
    """The edits of one constraint and the steps in which they act."""

    steps: range
    edits: Edits


@dataclass(frozen=True)
class DenoisingTask:
    """What stays the same while one key frame is denoised.

    Attributes:
        schedule: the executed steps.
        sampler: the solver.
        condition: text and control hints.
        weights: strength of each ControlNet at each step, ``[steps][nets]``.
        guidance: scale of classifier-free guidance.
        noise: the fixed noise.
        ready: whether earlier key frames have left what a step needs.
        label: the key frame in words, for the progress display.
        texts: prompt embeddings ``[B,T,D]`` for each step; () keeps the condition's.
        ordinal: number in its shot of a key frame that is denoised together with the others; None
            of one that is not.
    """

    schedule: Schedule
    sampler: Sampler
    condition: Condition
    weights: Sequence[tuple[float, ...]]
    guidance: float
    noise: Noise
    ready: Callable[[int], bool]
    label: str = ""
    texts: Sequence[Tensor] = ()
    ordinal: int | None = None

    def told(self, step: int) -> Condition:
        """The condition of one step."""
        return replace(self.condition, text=self.texts[step]) if self.texts else self.condition


@dataclass(frozen=True)
class Position:
    """Where a denoising process stands; enough to go on from, more than once.

    Attributes:
        step: the next step to execute.
        noisy: the latent that enters it, ``[1,C,h,w]``.
        direction: the noise part of ``noisy`` that the step before added; zero at the start.
        history: what the sampler remembers.
    """

    step: int
    noisy: Tensor
    direction: Tensor
    history: Any = None


class Recorder(NamedTuple):
    """Where a pass leaves what later key frames need: a trace, and the names of the layers whose
    tokens go into it."""

    trace: Trace
    layers: frozenset[str] = frozenset()


def start(noisy: Tensor) -> Position:
    """The beginning of a denoising process."""
    return Position(0, noisy, torch.zeros_like(noisy))


def denoise(
    task: DenoisingTask,
    position: Position,
    stop: int,
    bound: Sequence[BoundEdits],
    recorder: Recorder | None = None,
) -> Generator[Ask, Tensor | None, Position]:
    """Execute the steps from ``position`` up to (not including) ``stop``.

    Args:
        task: what stays the same.
        position: where to begin; it is not changed.
        stop: step to stop before.
        bound: edits in the order in which they are applied.
        recorder: keeps clean latents and attention features; None for a pass that is only a draft.

    Returns:
        The position reached (as the generator's value).
    """
    for step in range(position.step, stop):
        active = [edits for steps, edits in bound if step in steps]
        alpha = task.schedule.alphas_cumprod[step]
        state = State(step, alpha, position.noisy, position.direction)
        for edits in active:
            if edits.noisy is not None:
                state = replace(state, noisy=edits.noisy(state))
        pulls = [edits.pull for edits in active if edits.pull is not None]
        estimate, clean, shift = yield from _look(task, state, active, recorder, pulls)
        for edits in active:
            if edits.clean is not None:
                clean = edits.clean(replace(state, clean=clean))
        memory = Memory(position.history, task.noise)
        state = replace(state, clean=clean)
        moved = task.sampler.move(task.schedule, state, estimate, memory)
        noisy = moved.noisy - shift if pulls else moved.noisy
        position = Position(step + 1, noisy, moved.direction, moved.history)
        if recorder is not None:
            recorder.trace.clean[step] = clean
            recorder.trace.settled = step + 1
    return position


def _look(
    task: DenoisingTask,
    state: State,
    active: Sequence[Edits],
    recorder: Recorder | None,
    pulls: Sequence[Guidance],
) -> Generator[Ask, Tensor | None, tuple[Tensor, Tensor, Tensor]]:
    """One evaluation: the guided noise estimate, the clean latent it predicts, and how far the
    pulls move the latent."""
    if pulls:
        state = replace(state, noisy=state.noisy.detach().requires_grad_())
    branches = yield _ask(task, state, active, recorder)
    assert branches is not None
    with torch.set_grad_enabled(bool(pulls)):
        estimate = guide(branches, task.guidance).to(state.noisy)
        clean = (state.noisy - (1 - state.alpha_bar) ** 0.5 * estimate) / state.alpha_bar**0.5
        energies = [pull.size * pull.energy(replace(state, clean=clean)) for pull in pulls]
    if not pulls:
        return estimate, clean, torch.zeros_like(clean)
    # Key frames that look at each other share a graph, which the next one needs too.
    shared = task.ordinal is not None
    (shift,) = torch.autograd.grad(torch.stack(energies).sum(), state.noisy, retain_graph=shared)
    return estimate.detach(), clean.detach(), shift


def _ask(
    task: DenoisingTask, state: State, active: Sequence[Edits], recorder: Recorder | None
) -> Ask:
    step = state.step
    query = NoiseRequest(
        state.noisy,
        task.schedule.timesteps[step],
        task.told(step),
        task.weights[step],
        _attend([edits for edits in active if edits.attend], step, recorder),
        asked_maps(active, step),
        together(active, step, task.ordinal),
    )
    name = "draft" if recorder is None else "final"
    note = f"{task.label}, {name} pass, step {step + 1}/{len(task.schedule)}"
    return Ask(lambda: task.ready(step), query, note)


def _attend(
    active: Sequence[Edits], step: int, recorder: Recorder | None
) -> Callable[[Layer, Tensor], Tensor] | None:
    """What self-attention looks at in one step: tokens are recorded first, then edited in turn."""
    records = recorder.layers if recorder is not None else frozenset()
    if not active and not records:
        return None

    def attend(layer: Layer, tokens: Tensor) -> Tensor:
        if recorder is not None and layer.name in records:
            recorder.trace.keep(step, layer, tokens)
        context = tokens
        for edits in active:
            assert edits.attend is not None
            context = edits.attend(layer, context, step)
        return context

    return attend


def asked_maps(active: Sequence[Edits], step: int) -> AttentionMapEdit | None:
    """Who looks at attention maps in one step: each of them in turn, where it wants to."""
    found = [maps for edits in active if edits.maps and (maps := edits.maps(step))]
    if len(found) < 2:
        return found[0] if found else None

    def edit(layer: Layer, shown: Tensor) -> Tensor:
        for maps in found:
            if maps.wants(layer, shown.shape[-2]):
                shown = maps.edit(layer, shown)
        return shown

    return AttentionMapEdit(
        lambda layer, cells: any(maps.wants(layer, cells) for maps in found), edit
    )


def together(active: Sequence[Edits], step: int, ordinal: int | None) -> JointAttention | None:
    """A key frame's place among those that are denoised together; None of one that is not."""
    if ordinal is None:
        return None
    return JointAttention(
        ordinal, step, tuple(edits.together for edits in active if edits.together)
    )
