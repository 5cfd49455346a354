"""The whole method on one page: pick key frames, translate them, propagate, smooth."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace

from torch import Tensor

from rerender.config.parts import Parts
from rerender.contracts import Model
from rerender.propagate import propagate
from rerender.scene import Translation, Watch
from rerender.translate import translate
from rerender.translation.references import ResumePoint
from rerender.video import Clip


def render(
    clip: Clip, model: Model, parts: Parts, seed: int = 0, watch: Watch | None = None
) -> Iterator[Tensor]:
    """Restyle a clip, frame by frame, in constant memory.

    Args:
        clip: the source video, sized to ``model.size_multiple``, and its prompts.
        model: a loaded diffusion model with one ControlNet for each control of ``parts``.
        parts: the choices of the run.
        seed: of all noise.
        watch: told how far each stage is.

    Yields:
        As many frames as the source has, ``[3,H,W]`` in 0..1.
    """
    shots = parts.keyframes.pick(clip.video)  # §4: every K-th frame, or by content
    translations = translated(clip, shots, model, parts, seed, watch)  # §4.1
    return filled(clip, translations, parts, watch)  # §4.2


def translated(
    clip: Clip,
    shots: Sequence[Sequence[int]],
    model: Model,
    parts: Parts,
    seed: int = 0,
    watch: Watch | None = None,
    resume: ResumePoint | None = None,
) -> Iterator[Translation]:
    """The first half: key frames through the diffusion model (arguments as `render`, and
    ``resume`` as `rerender.translate.translate`)."""
    parts = replace(parts, flow=parts.flow.open(clip))
    return translate(clip, shots, model, parts, seed, watch, resume=resume)


def filled(
    clip: Clip,
    translations: Iterable[Translation],
    parts: Parts,
    watch: Watch | None = None,
    first: int = 0,
) -> Iterator[Tensor]:
    """The second half: every frame from its key frames (``first`` as
    `rerender.propagate.propagate`)."""
    flow = parts.flow.open(clip)
    frames = propagate(clip.video, translations, parts.propagation, flow, watch, first=first)
    return parts.smooth.run(frames, clip.video, flow)
