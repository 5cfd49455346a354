"""The pictures of the second training: of the demo world and natural ones, at three sizes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, NamedTuple

import cv2
import numpy as np
import torch

from rerender.demo.captions import STYLES, write
from rerender.demo.sprites import Array
from rerender.demo.world import HELD_OUT, MOTIONS, World
from training import natural
from training.variation import PLAIN, StyleVariation

OPEN = 0.2  # share of the captions without a style
_LETTERS = np.array(list("abcdefghijklmnopqrstuvwxyz"))


@dataclass(frozen=True)
class SizeShare:
    """Pictures of one size.

    Attributes:
        side: pixels.
        batch: pictures in a batch.
        share: of the steps.
        work: of the processes' chunks.
        chunk: pictures drawn at a time.
        kept: most pictures in the pool.
        natural: share of the pictures that are not of the demo world.
    """

    side: int
    batch: int
    share: float
    work: float
    chunk: int
    kept: int
    natural: float


SIZES = (
    SizeShare(128, 512, 0.7, 0.55, 128, 400_000, 0.35),
    SizeShare(256, 128, 0.2, 0.25, 32, 60_000, 0.75),
    SizeShare(384, 56, 0.1, 0.2, 16, 20_000, 0.85),
)


class DrawnPicture(NamedTuple):
    """What is learnt from.

    Attributes:
        frame: styled, ``[H,W,3]`` in 0..1.
        caption: what it is called.
        edges: of its photo, ``[H,W]``, 0 or 255.
        photo: ``[H,W,3]`` in 0..1.
    """

    frame: Array
    caption: str
    edges: Array
    photo: Array


def picture(rng: np.random.Generator, size: SizeShare) -> DrawnPicture:
    """One picture of the demo world or a natural one."""
    untold = rng.random() < OPEN
    style = str(rng.choice(STYLES))
    variation = StyleVariation.drawn(rng) if untold else PLAIN
    if rng.random() < size.natural:
        photo = natural.drawn(rng, size.side)
        caption = _spelled(rng)
        if not untold:
            caption = f"{caption}, {style}" if caption else style
        frame = natural.restyled(photo, style, variation)
        return DrawnPicture(frame, caption, natural.edge_map(photo), photo)
    seed, motion = int(rng.integers(HELD_OUT)), str(rng.choice(MOTIONS))
    world = World(seed, size=(size.side, size.side), motion=motion)
    index = int(rng.integers(41))
    photo = np.ascontiguousarray(world.frame(index).permute(1, 2, 0).numpy())
    shown = photo
    if untold or style != "photo":
        shown = world.frame(index, style, variation.painter).permute(1, 2, 0).numpy()
    sentence = world.sentence._replace(style=None if untold else style)
    edges = natural.edge_map(photo)
    return DrawnPicture(variation.tinted(shown), write(sentence), edges, photo)


def _spelled(rng: np.random.Generator) -> str:
    """Nothing, or words that mean nothing: what a picture of something unknown is called."""
    if rng.random() < 0.5:
        return ""
    lengths = rng.integers(1, 6, int(rng.integers(1, 4)))
    return "a " + " ".join("".join(rng.choice(_LETTERS, n)) for n in lengths)


def draw_for_ever(
    seed: int, worker: int, workers: int, sizes: tuple[SizeShare, ...], out: Any
) -> None:
    """What a process does: put chunks of pictures into a queue.

    Args:
        seed: of the pictures.
        worker, workers: this process draws every chunk whose number, divided by ``workers``, leaves
            ``worker``.
        sizes: which sizes, and how much of each.
        out: the queue; takes a side, frames and photos ``[N,H,W,3]`` in bytes, captions, and edges
            ``[N,H,W/8]`` in bits.
    """
    torch.set_num_threads(1)
    cv2.setNumThreads(0)
    work = np.cumsum([size.work for size in sizes])
    number = worker
    while True:
        choose = np.random.default_rng([seed, 11, number])
        which = int(np.searchsorted(work, choose.random() * work[-1], side="right"))
        size = sizes[min(which, len(sizes) - 1)]
        made = [
            picture(np.random.default_rng([seed, 12, number, i]), size) for i in range(size.chunk)
        ]
        frames, photos = (
            np.stack([(np.clip(each, 0, 1) * 255).round().astype(np.uint8) for each in shown])
            for shown in ([one.frame for one in made], [one.photo for one in made])
        )
        maps = np.packbits(np.stack([one.edges > 0 for one in made]), axis=-1)
        out.put((size.side, frames, photos, [one.caption for one in made], maps))
        number += workers
