"""How far patches are looked for, and the search of one frame on the processor."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from rerender.propagation import kernels
from rerender.propagation.guides import Guides, Packed
from rerender.propagation.kernels import LARGEST, Matches, Plan
from rerender.propagation.vectors import SIDE


@dataclass(frozen=True)
class Search:
    """How far patches are looked for.

    Attributes:
        stride: pixels between patches; 1 is slower and hardly better.
        sweeps: passes over all patches.
        radii: random candidates of a pass, one within each radius in pixels.
        easy: cost of a patch, in squared levels of a colour channel, up to which it is left alone.
        hard: cost of a patch above which flow has failed.
        hard_sweeps: further passes over such patches only, by guides that do not come from flow.
        hard_radii: their random candidates.
    """

    stride: Literal[1, 2] = 2
    sweeps: Annotated[int, Field(ge=0, le=100)] = 2
    radii: tuple[int, ...] = (1,)
    easy: Annotated[float, Field(ge=0)] = 3.0
    hard: Annotated[float, Field(ge=0)] = 48.0
    hard_sweeps: Annotated[int, Field(ge=0, le=100)] = 4
    hard_radii: tuple[int, ...] = (96, 16, 2)

    def grid(self, height: int, width: int) -> tuple[int, int]:
        """Rows and columns of patches."""
        return -(-height // self.stride), -(-width // self.stride)

    def rounds(
        self, guides: Guides, width: int, frame: int, parallel: bool
    ) -> tuple[list[Plan], list[Plan]]:
        """The passes over all patches but the easy ones, and those over hard patches."""
        scale, seed = SIDE**2 * guides.colour / guides.unit, 1000 * frame
        easy, hard = int(self.easy * scale), int(self.hard * scale)
        first = self.plans(self.sweeps, width, easy, seed, parallel)
        return first, self.plans(self.hard_sweeps, width, hard, seed + self.sweeps, parallel)

    def plans(self, count: int, width: int, hard: int, seed: int, parallel: bool) -> list[Plan]:
        """Passes that ask the nearest neighbours, or in parallel order at first further ones, since
        no match runs along within a pass."""
        reaches = [2 ** ((count - 1 - turn) // 2) if parallel else 1 for turn in range(count)]
        return [
            Plan(width, self.stride, hard, seed + turn, min(reach, 64))
            for turn, reach in enumerate(reaches)
        ]


class Guided(NamedTuple):
    """The guides of a frame ``[H+4,W+4,16]``: all of them, and those that are not from flow."""

    packed: Packed
    bare: Packed


class Task(NamedTuple):
    """The search of one frame.

    Attributes:
        source: guides of the key frame.
        target: guides of the frame.
        offset: ``[H,W,2]`` from the frame to the key frame, where the search begins.
        frame: its number, the seed of its random candidates.
    """

    source: Guided
    target: Guided
    offset: NDArray[np.float32]
    frame: int


def match(search: Search, guides: Guides, task: Task, parallel: bool = False) -> Matches:
    """The source pixel of each patch of a frame.

    Args:
        search: how far to look.
        guides: their weights.
        task: the frame.
        parallel: visit patches in no order, as `batched.match` does, or one after the other.
    """
    height, width, _ = task.offset.shape
    matches = np.empty((*search.grid(height, width), 2), np.int16)
    costs = np.full(matches.shape[:2], LARGEST, np.int32)
    kernels.start(task.offset, search.stride, matches)
    first, second = search.rounds(guides, width, task.frame, parallel)
    rounds = [(first, search.radii), (second, search.hard_radii)]
    for key, frame, (plans, radii) in zip(task.source, task.target, rounds, strict=True):
        flat, reach = (key.reshape(-1), frame.reshape(-1)), np.array(radii, np.int32)
        for plan in plans[:1]:
            kernels.weigh(*flat, plan, matches, costs)
        for plan in plans:
            known = matches.copy() if parallel else matches
            kernels.sweep(*flat, plan, reach, known, matches, costs)
    return matches
