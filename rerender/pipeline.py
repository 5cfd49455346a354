"""The whole method on one page: pick key frames, translate them, propagate, smooth."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from torch import Tensor

from rerender.contracts import Model
from rerender.parts import Parts
from rerender.propagate import propagate
from rerender.scene import Watch
from rerender.translate import translate
from rerender.video import Clip


def render(
    clip: Clip, model: Model, parts: Parts, seed: int = 0, watch: Watch | None = None
) -> Iterator[Tensor]:
    """Restyle a clip, frame by frame, in constant memory.

    Args:
        clip: the source video, sized to ``model.multiple``, and its prompts.
        model: a loaded diffusion model with one ControlNet for each control of ``parts``.
        parts: the choices of the run.
        seed: of all noise.
        watch: told how far each stage is.

    Yields:
        As many frames as the source has, ``[3,H,W]`` in 0..1.
    """
    watch = watch or Watch()
    flow = parts.flow.open(clip)
    parts = replace(parts, flow=flow)
    shots = parts.keyframes.pick(clip.video)  # §4: every K-th frame, or by content
    translations = translate(clip, shots, model, parts, seed, watch)  # §4.1
    frames = propagate(clip.video, translations, parts.propagation, flow, watch)  # §4.2
    return parts.smooth.run(frames, clip.video, flow)
