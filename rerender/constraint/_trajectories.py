"""Where the cells of one key frame are found in the others, and attention along these paths."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache

import torch
from torch import Tensor

from rerender.contracts import HiddenStates, SelfAttention
from rerender.flow.field import Flow, pair, pixel_grid, resize, warp
from rerender.scene import Shot


@dataclass(frozen=True)
class Trajectories:
    """The paths of all cells of a grid through the K key frames of a shot.

    Attributes:
        places: ``[K,K,N]``: cell p of key frame f is found at ``places[f,g,p]`` in key frame g.
        visible: ``[K,K,N]``: whether it is seen there; always in its own key frame.
    """

    places: Tensor
    visible: Tensor


def grid_of(size: tuple[int, int], cells: int) -> tuple[int, int]:
    """(rows, columns) of a layer with so many tokens, from the (height, width) of an image."""
    height, width = size
    side = math.sqrt(height * width / cells)
    return round(height / side), round(width / side)


def resized_flow(shot: Shot) -> Callable[[int, int, int, int], Flow]:
    """``flow(target, source, rows, columns)`` of the source, each made once."""

    @cache
    def flow(target: int, source: int, rows: int, columns: int) -> Flow:
        return resize(shot.flow(target, source), rows, columns)

    return flow


def hidden_cells(
    flow: Callable[[int, int, int, int], Flow],
) -> Callable[[int, int, int, int], Tensor]:
    """``hidden(target, source, rows, columns)``: numbers of the target's cells that are not seen in
    the source, each found once: their count is one that the processor has to wait for."""

    @cache
    def hidden(target: int, source: int, rows: int, columns: int) -> Tensor:
        occluded = flow(target, source, rows, columns).occluded
        return (occluded.flatten() > 0).nonzero()[:, 0]

    return hidden


def trajectories(shot: Shot) -> Callable[[int], Trajectories]:
    """``paths(cells)``: the trajectories at a layer with so many tokens, each made once, on the
    device of the flow.

    A cell is followed from key frame to key frame along the source's flow, forwards and backwards,
    to the nearest cell; where it is occluded or leaves the image, its path ends.
    """
    flow, count = resized_flow(shot), len(shot)

    @cache
    def paths(cells: int) -> Trajectories:
        rows, columns = grid_of(shot.clip.video.size, cells)
        device = flow(0, 1, rows, columns).offset.device if count > 1 else None
        grid = pixel_grid(torch.empty(1, 1, rows, columns, device=device))
        limit = pair(grid, columns - 1.0, rows - 1.0).view(1, 2, 1, 1)
        places = torch.zeros(count, count, cells, dtype=torch.long, device=device)
        visible = torch.zeros(count, count, cells, dtype=torch.bool, device=device)
        for own in range(count):
            places[own, own] = torch.arange(cells, device=device)
            visible[own, own].fill_(True)
            for step, others in ((1, range(own + 1, count)), (-1, range(own - 1, -1, -1))):
                place, seen = grid, torch.ones_like(grid[:, :1], dtype=torch.bool)
                for other in others:
                    link = flow(other - step, other, rows, columns)
                    inside = place - grid
                    offset = warp(link.offset.to(grid), inside, outside="border")
                    hidden = warp(link.occluded.to(grid), inside, "nearest", "border")
                    place = place + offset
                    out = ((place < -0.5) | (place > limit + 0.5)).any(1, keepdim=True)
                    seen = seen & (hidden < 0.5) & ~out
                    x, y = torch.minimum(place.round().clamp_min(0), limit)[0].long().flatten(1)
                    places[own, other], visible[own, other] = y * columns + x, seen.flatten()
        return Trajectories(places, visible)

    return paths


def attend_along(
    attention: SelfAttention,
    paths: Trajectories,
    queries: HiddenStates,
    keys: HiddenStates,
    values: HiddenStates,
    scale: float = 1.0,
) -> dict[int, Tensor]:
    """Attention of every cell to itself in all key frames of a batch in which its path is visible:
    ``softmax(scale q k^T / sqrt(d)) v``.

    Args:
        attention: a layer; nothing is projected here.
        paths: of the shot, at this layer's resolution.
        queries, keys, values: ``[B,N,D]`` of each key frame of a batch.
        scale: factor of the logits.

    Returns:
        ``[B,N,D]`` of each.
    """
    found, members = {}, list(values)
    for ordinal, query in queries.items():
        branches, cells, width = query.shape
        places = torch.stack([paths.places[ordinal, other] for other in members]).to(query.device)
        gathered = [
            torch.stack([each[other][:, places[i]] for i, other in enumerate(members)], 2)
            for each in (keys, values)
        ]
        key, value = (each.reshape(branches * cells, len(members), width) for each in gathered)
        seen = torch.stack([paths.visible[ordinal, other] for other in members], 1).to(query.device)
        seen = seen.repeat(branches, 1)[:, None]
        mixed = attention.attend(query.reshape(-1, 1, width), key, value, scale, seen)
        found[ordinal] = mixed.reshape(branches, cells, width)
    return found
