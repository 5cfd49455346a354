"""Identity of moving subjects: whether what moves keeps its look while it moves."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar, Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from eval.contracts import Batch, Curve, Gauge, Metric, Moment, Reading, Trial, UnavailableError
from eval.metrics.masks import Masks, find_masks
from rerender.errors import ConfigError
from rerender.flow.field import Flow
from rerender.kinds import Folder

_FLAT = 0.01  # standard deviation of a patch below which it has no look to keep, of values in 0..1


@dataclass(frozen=True, kw_only=True)
class SubjectIdentity(Metric):
    """Likeness of a result's patches along the tracks of what moves in the source, -1..1.

    Points of a grid on the subject are followed through the *source* by its flow until they are
    hidden or leave the frame. ``mean_k cos(P(y_t, p_k(t)), P(y_s, p_k(s)))`` with ``P`` the patch
    of the result around a point, its mean taken off, ``p_k`` the track and ``s`` its first frame: 1
    where a subject looks the same wherever it goes, about 0 where it becomes another one. The
    subject is the clip's mask, or without one what moves otherwise than most of the frame does. A
    subject that turns changes its look in the source too: read it with the source's row.

    Attributes:
        spacing: pixels between points of the grid.
        patch: side of a patch, in pixels, odd.
        moving: pixels a frame by which a point must leave the motion of most, to be of the subject.
        masks: folder of masks as for ``background``; "" for those that the clip brings, if any.
    """

    version: ClassVar[str] = "1"
    direction: ClassVar[Literal["lower", "higher"]] = "higher"

    spacing: int = 6
    patch: int = 9
    moving: float = 1.0
    masks: Folder = ""

    def __post_init__(self) -> None:
        wrong = [
            ("spacing", self.spacing, 1 <= self.spacing <= 256, "1..256 pixels", 6),
            ("patch", self.patch, 3 <= self.patch <= 63 and self.patch % 2, "odd 3..63 pixels", 9),
            ("moving", self.moving, 0 < self.moving <= 100, "(0, 100] pixels", 1),
        ]
        for key, value, fine, rule, usual in wrong:
            if not fine:
                where = f"metrics.subject_identity.{key}"
                raise ConfigError(where, f"must lie in {rule}, received {value}", f"use {usual}")

    def open(self, trial: Trial) -> Gauge:
        try:
            masks: Masks | None = find_masks(self.masks, trial)
        except UnavailableError:
            masks = None
        return _Tracks(self, masks)

    def read(self, curve: Curve, trial: Trial) -> Reading:
        if any(value is not None for value in curve):
            return super().read(curve, trial)
        return Reading(None, 0, "n/a: no subject moves against the rest of the frame")


class _Tracks:
    """The tracks of a clip so far; new ones begin where none is left."""

    def __init__(self, metric: SubjectIdentity, masks: Masks | None) -> None:
        self._metric, self._masks = metric, masks
        self._points = torch.empty(0, 2)
        self._looks = torch.empty(0, 0)

    def __call__(self, batch: Batch) -> Curve:
        pairs = zip(batch.moments, batch.references(), strict=True)
        return [None if last is None else self._step(batch, last, now) for now, last in pairs]

    def _step(self, batch: Batch, last: Moment, now: Moment) -> float | None:
        flow = batch.flow(last, now)  # where a pixel of the last frame is found in this one
        if not len(self._points):
            self._begin(flow, last)
        if not len(self._points):
            return None
        offset = _at(flow.offset, self._points).T
        hidden = _at(flow.occluded, self._points)[0]
        points = self._points + offset
        height, width = now.result.shape[-2:]
        half = self._metric.patch // 2  # a patch must lie in the frame
        limit = torch.tensor([width - 1 - half, height - 1 - half], dtype=points.dtype)
        kept = ((points >= half) & (points <= limit)).all(1) & (hidden < 0.5)
        self._points, self._looks = points[kept], self._looks[kept]
        if not len(self._points):
            return None
        return float(
            (_looks(now.result, self._points, self._metric.patch) * self._looks).sum(1).mean()
        )

    def _begin(self, flow: Flow, first: Moment) -> None:
        """Points of the grid on the subject whose patches have a look; where the subject is large
        enough, only those whose patch shows nothing of the ground."""
        height, width = first.result.shape[-2:]
        side, half = self._metric.patch, self._metric.patch // 2
        y, x = (torch.arange(half, s - half, self._metric.spacing) for s in (height, width))
        points = torch.cartesian_prod(x, y).float()
        if not len(points):
            return
        subject = self._subject(flow, first)
        inner = -F.max_pool2d(-F.pad(subject, (half,) * 4), side, 1)
        for mask in (inner, subject):
            chosen = _at(mask, points)[0] > 0.5
            chosen &= _spread(first.result, points, side) > _FLAT
            if chosen.any():
                self._points = points[chosen]
                self._looks = _looks(first.result, self._points, side)
                return

    def _subject(self, flow: Flow, first: Moment) -> Tensor:
        """``[1,1,H,W]``: 1 on the subject."""
        if self._masks is not None:
            return self._masks.at(first.index, first.source)[None].float()
        offset = flow.offset.cpu().float()
        most = offset.flatten(2).median(2).values[..., None, None]
        apart: Tensor = (offset - most).norm(dim=1, keepdim=True)
        return (apart > self._metric.moving).float()


def _at(field: Tensor, points: Tensor) -> Tensor:
    """Values ``[C,N]`` of a field ``[1,C,H,W]`` at points ``[N,2]`` in pixels (x, y), bilinear."""
    field = field.cpu().float()
    height, width = field.shape[-2:]
    scale = torch.tensor([max(width - 1, 1), max(height - 1, 1)], dtype=torch.float32)
    grid = (points / scale * 2 - 1)[None, None]
    found = F.grid_sample(field, grid, padding_mode="border", align_corners=True)
    return found[0, :, 0]


def _patches(image: Tensor, points: Tensor, side: int) -> Tensor:
    """Patches ``[N,3,side*side]`` of an image ``[3,H,W]`` around points, bilinear."""
    steps = torch.arange(side).float() - side // 2
    around = torch.stack(torch.meshgrid(steps, steps, indexing="xy"), -1).reshape(-1, 2)
    places = (points[:, None] + around[None]).reshape(-1, 2)
    return _at(image[None], places).reshape(3, len(points), -1).transpose(0, 1)


def _looks(image: Tensor, points: Tensor, side: int) -> Tensor:
    """Unit vectors ``[N,3*side*side]``: patches without the mean of their colours."""
    patches = _patches(image, points, side)
    return F.normalize((patches - patches.mean((1, 2), keepdim=True)).flatten(1), dim=1)


def _spread(image: Tensor, points: Tensor, side: int) -> Tensor:
    """Standard deviation ``[N]`` of each patch."""
    patches = _patches(image, points, side)
    centred = patches - patches.mean((1, 2), keepdim=True)
    length: Tensor = centred.flatten(1).norm(dim=1)
    return length / math.sqrt(3 * side * side)
