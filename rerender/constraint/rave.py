"""Grids of key frames, shuffled at every step (RAVE, Kara et al. 2024, arXiv 2312.04524)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, ClassVar

import torch
from pydantic import Field

from rerender.contracts import Grid, InversionEdits, JointConstraint, JointEdits, Model
from rerender.scene import Shot


@dataclass(frozen=True, kw_only=True)
class Rave(JointConstraint):
    """Key frames are denoised as the cells of one picture, so that self-attention and convolutions
    see several of them (section 3.2, the character sheet trick). In every step they are dealt anew
    (section 3.3), so that in the end all have seen all; the last grid is filled up with key frames
    from the beginning of the deal, whose second prediction is not used.

    Attributes:
        rows, columns: of a grid.
        shuffle: deal anew in every step; false keeps them in order.
        inversion: whether an inverting start looks at grids too, in order.
    """

    rows: Annotated[int, Field(ge=1, le=8)] = 3
    columns: Annotated[int, Field(ge=1, le=8)] = 3
    shuffle: bool = True
    inversion: bool = True

    merges_frames: ClassVar[bool] = True

    def bind(self, shot: Shot, model: Model) -> Sequence[JointEdits]:
        def dealt(step: int) -> Sequence[Grid]:
            order = torch.randperm(len(shot), generator=shot.random("rave", step))
            return self.grids(order.tolist())

        def in_order(step: int) -> Sequence[Grid]:
            return self.grids(range(len(shot)))

        inversion = InversionEdits(canvas=in_order if self.inversion else None)
        canvas = dealt if self.shuffle else in_order
        return [JointEdits(canvas=canvas, inversion=inversion)] * len(shot)

    def grids(self, order: Sequence[int]) -> Sequence[Grid]:
        """Key frames in the given order, as many to a grid as it has cells."""
        size = self.rows * self.columns
        count = -(-len(order) // size)
        cells = [order[index % len(order)] for index in range(count * size)]
        return [
            Grid(self.rows, self.columns, tuple(cells[first : first + size]))
            for first in range(0, len(cells), size)
        ]
