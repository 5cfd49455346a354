"""Several key frames denoised as one picture (RAVE, Kara et al. 2024, arXiv 2312.04524, section
3.2): their latents and encoded control maps are laid side by side, and the predicted noise is cut
apart again. Attention and convolutions then see all of them at once."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import torch
from torch import Tensor

from rerender.contracts import Condition, Grid, NoiseRequest


def merged(grid: Grid, requests: Sequence[NoiseRequest]) -> NoiseRequest:
    """The request of a picture made of several key frames.

    Args:
        grid: which of them lie where.
        requests: of all key frames of the shot, at the same timestep; the first cell's prompt is
            the picture's.
    """
    members = [requests[ordinal] for ordinal in grid.cells]
    first = members[0]
    noisy = tiled(grid, [each.noisy for each in members])
    controls = zip(*(each.condition.control_embeds for each in members), strict=True)
    embeds = tuple(tiled(grid, maps) for maps in controls)
    seen = [each.condition.image_latents for each in members]
    images = None if seen[0] is None else tiled(grid, [s for s in seen if s is not None])
    condition: Condition = replace(first.condition, control_embeds=embeds, image_latents=images)
    return first._replace(noisy=noisy, condition=condition, joint=None)


def tiled(grid: Grid, tiles: Sequence[Tensor]) -> Tensor:
    """``[B,C,h,w]`` of every cell as one ``[B,C,rows*h,columns*w]``."""
    rows = [
        torch.cat(list(tiles[row * grid.columns : (row + 1) * grid.columns]), -1)
        for row in range(grid.rows)
    ]
    return torch.cat(rows, -2)


def cut(grid: Grid, picture: Tensor) -> list[Tensor]:
    """The cells ``[B,C,h,w]`` of a picture: `tiled` undone."""
    rows = picture.chunk(grid.rows, -2)
    return [cell for row in rows for cell in row.chunk(grid.columns, -1)]
