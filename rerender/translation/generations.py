"""How often what is seen in a key frame has gone through the autoencoder."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from rerender.config.parts import Parts
from rerender.translation.key_frame import too_little_seen
from rerender.video import Clip, Frame


@dataclass(frozen=True)
class _Made:
    """A key frame and the generation ``[1,H,W]`` of each of its pixels."""

    frame: Frame
    generation: Tensor


def generations(clip: Clip, shots: Sequence[Sequence[int]], parts: Parts) -> dict[int, float]:
    """VAE generations of each key frame, mean over its pixels.

    A picture that is decoded once, of a latent that no earlier result was encoded into, is of
    generation 1. A constraint that encodes earlier results (`Constraint.encodes`) hands a pixel on
    with one generation more, where the pixel is visible in the earlier key frame:
    ``G_i(p) = 1 + G_r(p + f(p))`` for the first reference r that shows p, else 1. It counts what
    may be handed on, whatever the constraint's weight: a picture copied digitally so often.

    Args:
        clip: the video.
        shots: numbers of the key frames of each shot.
        parts: the choices of the run; its flow and its re-anchoring decide what is handed on.

    Returns:
        Key frame -> its generation, from 1.
    """
    flow = parts.flow.open(clip)
    encoded = next((each.encodes for each in parts.sequential if each.encodes), ())
    found: dict[int, float] = {}
    if not encoded:
        return {index: 1.0 for shot in shots for index in shot}
    for shot in shots:
        anchor = previous = None
        for index in shot:
            frame = clip.video.frame(index)
            generation = torch.ones(1, *clip.video.size)
            if anchor is not None and previous is not None:
                if anchor is not previous and too_little_seen(
                    flow, parts.sampling.reanchor, frame, anchor.frame
                ):
                    anchor = previous
                made = {"anchor": anchor, "previous": previous}
                for reference in (made[name] for name in reversed(encoded)):
                    seen = flow.between(frame, reference.frame)
                    moved = 1 + seen.warp(reference.generation, "nearest")
                    generation = torch.where(seen.occluded[0] < 0.5, moved, generation)
            previous = _Made(frame, generation)
            anchor = anchor or previous
            found[index] = float(generation.mean())
    return found
