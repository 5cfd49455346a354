"""The whole method on one page: pick key frames, translate them, propagate, smooth."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace

from torch import Tensor

from rerender.config.parts import Parts
from rerender.contracts import Model
from rerender.propagate import propagate
from rerender.propagate.detail import enlarged
from rerender.scene import Translation, Watch
from rerender.translate import translate
from rerender.translation.references import ResumePoint
from rerender.video import Clip


def render(
    clip: Clip,
    model: Model | Callable[[], Model],
    parts: Parts,
    seed: int = 0,
    watch: Watch | None = None,
    resume: ResumePoint | None = None,
) -> Iterator[Tensor]:
    """Restyle a clip, frame by frame, in constant memory.

    Nothing is computed before it is asked for. Whoever takes frames (in a run: the encoder) pulls
    the propagation, and the propagation pulls the translation of the next key frame when it has
    handed out all frames before it. So one segment is held, however long the clip is.

    Args:
        clip: the source video, sized to ``model.size_multiple``, and its prompts.
        model: a diffusion model with one ControlNet for each control of ``parts``, or what loads
            it: called when the first key frame is to be translated, never if all are finished.
        parts: the choices of the run.
        seed: of all noise.
        watch: told how far each stage is.
        resume: finished key frames and the first frame to make; everything is made if None.

    Yields:
        As many frames as the source has, ``[3,H,W]`` in 0..1, of the size of ``clip.output``;
        without those before ``resume.first``.
    """
    resume = resume or ResumePoint()
    flow, video = parts.flow.open(clip), clip.output
    keys = translate_key_frames(clip, model, parts, seed, watch, resume)  # §4.1
    keys = enlarged(keys, clip)
    frames = propagate(video, keys, parts.propagation, flow, watch, first=resume.first)  # §4.2
    frames = parts.smooth.run(frames, video, flow)
    yield from parts.mask.composite(frames, video, flow, resume.first)


def translate_key_frames(
    clip: Clip,
    model: Model | Callable[[], Model],
    parts: Parts,
    seed: int,
    watch: Watch | None,
    resume: ResumePoint,
) -> Iterator[Translation]:
    """The first half alone: pick the key frames and translate them (arguments as `render`)."""
    shots = resume.shots or parts.keyframes.pick(clip.video)  # §4: every K-th, or by content
    resume.begin(shots)
    parts = replace(parts, flow=parts.flow.open(clip))
    return translate(clip, shots, model, parts, seed, watch, resume=resume)
