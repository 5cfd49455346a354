"""The whole method on one page: pick key frames, translate them, propagate, smooth."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace

from torch import Tensor

from rerender.config.parts import Parts
from rerender.contracts import Model, Workers
from rerender.propagate import propagate
from rerender.propagate.detail import enlarged
from rerender.propagate.given import given
from rerender.propagate.ranges import joined, translated
from rerender.scene import Translation, Watch
from rerender.translate import translate
from rerender.translation.divided import divided
from rerender.translation.placement import placed_parts
from rerender.translation.references import ResumePoint
from rerender.video import Clip, Video


def render(
    clip: Clip,
    model: Model | Callable[..., Model],
    parts: Parts,
    seed: int = 0,
    watch: Watch | None = None,
    resume: ResumePoint | None = None,
    workers: Workers | None = None,
) -> Iterator[Tensor]:
    """Restyle a clip, frame by frame, in constant memory.

    Nothing is computed before it is asked for. Whoever takes frames (in a run: the encoder) pulls
    the propagation, and the propagation pulls the translation of the next key frame when it has
    handed out all frames before it. So one segment is held, however long the clip is.

    Args:
        clip: the source video, sized to ``model.size_multiple``, and its prompts.
        model: a diffusion model with one ControlNet for each control of ``parts``, or what loads
            it: called when the first key frame is to be translated, never if all are finished; with
            the LoRAs of a range of the clip, where it has some.
        parts: the choices of the run.
        seed: of all noise.
        watch: told how far each stage is.
        resume: finished key frames and the first frame to make; everything is made if None.
        workers: processes that translate the shots and fill the segments; None does both here. They
            make the same bytes, and hold a few segments more.

    Yields:
        As many frames as the source has, ``[3,H,W]`` in 0..1, of the size of ``clip.output``;
        without those before ``resume.first``.
    """
    resume = resume or ResumePoint()
    if not callable(model):  # who loads it later has placed them
        parts = placed_parts(parts, model.device, back=True)
    flow, video = parts.flow.open(clip), clip.output
    if clip.ranges:  # the same two halves for each
        frames = joined(clip, model, parts, seed, watch, resume, workers)
    elif parts.keyframes.made_elsewhere:  # the second half alone
        keys, cuts = given(clip, parts, watch, resume)
        filling, first = parts.propagation, resume.first
        frames = propagate(video, keys, filling, flow, watch, 1, first, cuts, workers)
    else:
        keys = translate_key_frames(clip, model, parts, seed, watch, resume, workers)  # §4.1
        keys, first = enlarged(keys, clip), resume.first
        frames = propagate(
            video, keys, parts.propagation, flow, watch, first=first, workers=workers
        )  # §4.2
    if parts.blend_source:
        frames = blend(frames, video, parts.blend_source, resume.first)
    frames = parts.smooth.run(frames, video, flow)
    yield from parts.mask.composite(frames, video, flow, resume.first)


def blend(frames: Iterable[Tensor], source: Video, weight: float, first: int) -> Iterator[Tensor]:
    """``(1 - weight) * frame + weight * source frame``, whatever filled it, key frames too, so that
    the look does not pulse at their rate.

    Args:
        frames: ``[3,H,W]`` in 0..1, from frame ``first`` of the source on.
        source: the clip's frames.
        weight: 0..1.
        first: number of the first of the frames.
    """
    for index, frame in enumerate(frames, first):
        yield frame.lerp(source[index].to(frame), weight)


def translate_key_frames(
    clip: Clip,
    model: Model | Callable[..., Model],
    parts: Parts,
    seed: int,
    watch: Watch | None,
    resume: ResumePoint,
    workers: Workers | None = None,
) -> Iterator[Translation]:
    """The first half alone: pick the key frames and translate them (arguments as `render`)."""
    if clip.ranges:
        return translated(clip, model, parts, seed, watch, resume, workers)
    if parts.keyframes.made_elsewhere:
        return given(clip, parts, watch, resume)[0]
    shots = resume.shots or parts.keyframes.pick(clip.video)  # §4: every K-th, or by content
    resume.begin(shots)
    if workers is not None:
        return divided(clip, shots, workers, watch, resume)
    parts = replace(parts, flow=parts.flow.open(clip))
    return translate(clip, shots, model, parts, seed, watch, resume=resume)
