"""How far patches are looked for, and the search of one frame on the processor."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, NamedTuple

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from rerender.propagation.patches import kernels
from rerender.propagation.patches.guides import GuidedPicture, Guides
from rerender.propagation.patches.kernels import LARGEST, Costs, Flat, Matches, Plan
from rerender.propagation.patches.simd import BARE, SIDE

STRIDE = 2
"""Pixels between the patches of all passes but the last ones."""


@dataclass(frozen=True)
class Search:
    """How far patches are looked for: every second pixel of every second line first, where patches
    are hard also far away, then every pixel nearby.

    Attributes:
        sweeps: passes over all patches.
        radii: random candidates of a pass, one within each radius in pixels.
        easy: cost of a patch, in squared levels of a colour channel, up to which it is left alone.
        hard: cost of a patch above which flow has failed.
        hard_sweeps: further passes over such patches only, by guides that do not come from flow.
        hard_radii: their random candidates.
        fine_sweeps: passes over the patches of all pixels, by the same guides and with ``radii``.
    """

    sweeps: Annotated[int, Field(ge=0, le=100)] = 1
    radii: tuple[int, ...] = (1,)
    easy: Annotated[float, Field(ge=0)] = 3.0
    hard: Annotated[float, Field(ge=0)] = 24.0
    hard_sweeps: Annotated[int, Field(ge=0, le=100)] = 4
    hard_radii: tuple[int, ...] = (96, 16, 2)
    fine_sweeps: Annotated[int, Field(ge=0, le=100)] = 1

    def rounds(self, guides: Guides, width: int, frame: int, parallel: bool) -> list[Round]:
        """The passes over all patches but the easy ones, those over hard patches, and those over
        all pixels but the easy ones."""
        scale, seed = SIDE**2 * guides.colour / guides.unit, 1000 * frame
        easy, hard = int(self.easy * scale), int(self.hard * scale)
        shapes = [
            (self.sweeps, self.radii, Plan(width, STRIDE, easy, seed)),
            (self.hard_sweeps, self.hard_radii, Plan(width, STRIDE, hard, seed, channels=BARE)),
            (self.fine_sweeps, self.radii, Plan(width, 1, easy, seed, channels=BARE)),
        ]
        rounds, past = [], 0
        for count, radii, plan in shapes:
            begin = plan._replace(seed=seed + past)
            rounds.append(Round(begin, repeated(begin, count, parallel), radii))
            past += count
        return rounds


class Round(NamedTuple):
    """Passes over the same patches.

    Attributes:
        plan: by which they are weighed before.
        plans: the passes.
        radii: of the random candidates.
    """

    plan: Plan
    plans: list[Plan]
    radii: tuple[int, ...]


def repeated(plan: Plan, count: int, parallel: bool) -> list[Plan]:
    """Passes that ask the nearest neighbours, or in parallel order at first further ones, since no
    match runs along within a pass."""
    reaches = [2 ** ((count - 1 - turn) // 2) if parallel else 1 for turn in range(count)]
    return [
        plan._replace(seed=plan.seed + turn, reach=min(reach, 64))
        for turn, reach in enumerate(reaches)
    ]


class Task(NamedTuple):
    """The search of one frame.

    Attributes:
        source: guides of the key frame.
        target: guides of the frame.
        offset: ``[H,W,2]`` from the frame to the key frame, where the search begins.
        frame: its number, the seed of its random candidates.
    """

    source: GuidedPicture
    target: GuidedPicture
    offset: NDArray[np.float32]
    frame: int


def match(search: Search, guides: Guides, task: Task, parallel: bool = False) -> Matches:
    """The source pixel ``[H,W,2]`` of the patch around each pixel of a frame.

    Args:
        search: how far to look.
        guides: their weights.
        task: the frame.
        parallel: visit patches in no order, as `batched.match` does, or one after the other.
    """
    height, width, _ = task.offset.shape
    source, target = task.source, task.target
    packed = source.packed.reshape(-1), target.packed.reshape(-1)
    bare = source.bare.reshape(-1), target.bare.reshape(-1)
    coarse, spent = blank(-(-height // STRIDE), -(-width // STRIDE))
    kernels.start(task.offset, STRIDE, coarse)
    first, hard, fine = search.rounds(guides, width, task.frame, parallel)
    for flat, round_ in ((packed, first), (bare, hard)):
        kernels.weigh(*flat, round_.plan, coarse, spent)
        passes(flat, round_, coarse, spent, parallel)
    matches, costs = blank(height, width)
    kernels.spread(*bare, fine.plan, coarse, spent, matches, costs)
    passes(bare, fine, matches, costs, parallel)
    return matches


def blank(rows: int, columns: int) -> tuple[Matches, Costs]:
    """Memory for matches, and costs that are not known yet."""
    costs = np.full((rows, columns), LARGEST, np.int32)
    return np.empty((rows, columns, 2), np.int16), costs


def passes(
    flat: tuple[Flat, Flat], round_: Round, matches: Matches, costs: Costs, parallel: bool
) -> None:
    """The sweeps of a round."""
    radii = np.array(round_.radii, np.int32)
    for plan in round_.plans:
        known = matches.copy() if parallel else matches
        kernels.sweep(*flat, plan, radii, known, matches, costs)
