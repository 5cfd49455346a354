"""Key frames denoised jointly: all of a shot in lockstep, each attending to the others.

Joint constraints are bound once for a shot. A request for joint attention waits until all key
frames of the shot make theirs, and all are answered in one batch, in batches that each hold the
pivots, the key frames that the others attend to, or as pictures made of several. Constraints that
refer to earlier key frames work as ever: in a batch earlier ones come first.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cache

import torch
from torch import Tensor

from rerender.config.parts import Parts
from rerender.contracts import (
    Canvas,
    InversionEdits,
    JointConstraint,
    JointEdits,
    Model,
    NoiseRequest,
)
from rerender.flow.field import Flow
from rerender.scene import Shot, Translation, Watch
from rerender.translation.canvas import cut, merged
from rerender.translation.denoise import (
    BoundEdits,
    CleanRequest,
    chained_maps,
    edit_jointly,
    joint_attention,
)
from rerender.translation.lanes import (
    KeyFrameCoroutine,
    KeyFrameLane,
    Predict,
    Report,
    Turn,
    Wait,
    let_go,
    translation_of,
    unreported,
)
from rerender.translation.noise import generator
from rerender.translation.placement import moved
from rerender.translation.share import Shares, shared, shares_of
from rerender.video import Clip


@dataclass(frozen=True)
class JointShot:
    """A shot with its joint constraints bound.

    Attributes:
        indices: frame numbers of its key frames.
        edits: the steps of each joint constraint, and what it does to each key frame.
        pivots: ``pivots(step)``: ordinals of the key frames that every batch holds.
        batches: ordinals of the key frames of each batch, where a constraint says so.
        batch_size: the most key frames in a batch.
        whole: every batch must hold all key frames, since some read hidden states of others.
        shares: how far edits that follow the flow count, where a constraint says so.
    """

    indices: tuple[int, ...]
    edits: tuple[tuple[range, Sequence[JointEdits]], ...]
    pivots: Callable[[int], frozenset[int]]
    batches: Sequence[Sequence[int]] | None
    batch_size: int
    whole: bool
    shares: Shares

    @classmethod
    def of(
        cls,
        clip: Clip,
        indices: Sequence[int],
        model: Model,
        parts: Parts,
        seed: int = 0,
        watch: Watch | None = None,
    ) -> JointShot:
        """Bind the joint constraints of ``parts`` for a shot."""
        sampling = parts.sampling

        @cache
        def flow(target: int, source: int) -> Flow:
            frames = (clip.video.frame(indices[ordinal]) for ordinal in (target, source))
            return moved(parts.flow.between(*frames), model.device)

        def random(role: str, step: int) -> torch.Generator:
            return generator(f"{seed}/{indices[0]}/{role}/{step}")

        steps = sampling.steps - sampling.skipped()
        shot = Shot(clip, tuple(indices), steps, flow, random, watch or Watch())
        joint = [c for c in parts.acting if isinstance(c, JointConstraint)]
        bound = [c.bind(shot, model) for c in joint]
        shares = shares_of(bound)
        edits = tuple(
            (sampling.window(c), shared(own, shares, c.follows_flow))
            for c, own in zip(joint, bound, strict=True)
        )

        def pivots(step: int) -> frozenset[int]:
            return frozenset(ordinal for c in joint for ordinal in c.pivots(shot, step))

        asked = [batches for c in joint if (batches := c.batches(shot)) is not None]
        whole = any(c.remembers(layer, 0) for c in parts.sequential for layer in model.layers())
        batches = asked[0] if asked and not whole else None
        return cls(shot.indices, edits, pivots, batches, sampling.batch_size, whole, shares)

    def ordinal(self, index: int) -> int:
        """The number in the shot of the key frame that is frame ``index``."""
        return self.indices.index(index)

    def share(self, index: int) -> Tensor | None:
        """How far edits that follow the flow count in each latent cell of a key frame."""
        return self.shares.flow.get(self.ordinal(index))

    def bound(self, index: int) -> list[BoundEdits]:
        """What joint constraints do to the denoising of a key frame."""
        own = [(steps, edits[self.ordinal(index)]) for steps, edits in self.edits]
        return [BoundEdits(steps, each.sampling, each) for steps, each in own]

    @property
    def edits_inversion(self) -> bool:
        """Whether a joint constraint has a part in the inversion."""
        return any(each.inversion != InversionEdits() for _, edits in self.edits for each in edits)

    def inversion(self, index: int) -> Callable[[NoiseRequest, int], NoiseRequest]:
        """What joint constraints add to the requests of a key frame's inversion."""
        ordinal = self.ordinal(index)

        def edited(request: NoiseRequest, step: int) -> NoiseRequest:
            active = [edits[ordinal].inversion for steps, edits in self.edits if step in steps]
            return request._replace(
                maps=chained_maps([each.maps for each in active], step),
                joint=joint_attention(active, step, ordinal),
            )

        return edited

    def predict(self, model: Model, requests: Sequence[NoiseRequest]) -> list[Tensor]:
        """Answer requests for joint attention of all key frames of the shot, or requests of some of
        them for themselves."""
        answers: dict[int, Tensor] = {}
        joint = requests[0].joint
        if joint is not None and joint.canvas is not None:
            return self._on_canvas(model, requests, joint.canvas, joint.step)
        count = len(requests)
        for batch in self._batches(count, joint.step) if joint else self._chunks(count):
            predicted = model.predict_noise([requests[ordinal] for ordinal in batch])
            for ordinal, noise in zip(batch, predicted, strict=True):
                answers.setdefault(ordinal, noise)
        return [answers[ordinal] for ordinal in range(len(requests))]

    def _on_canvas(
        self, model: Model, requests: Sequence[NoiseRequest], canvas: Canvas, step: int
    ) -> list[Tensor]:
        """Answer requests as pictures of several key frames, as many at once as hold no more cells
        than a batch has samples."""
        grids, answers = canvas(step), dict[int, Tensor]()
        room = max(self.batch_size // max(len(grid.cells) for grid in grids), 1)
        for first in range(0, len(grids), room):
            group = grids[first : first + room]
            pictures = model.predict_noise([merged(grid, requests) for grid in group])
            for grid, picture in zip(group, pictures, strict=True):
                for ordinal, noise in zip(grid.cells, cut(grid, picture), strict=True):
                    answers.setdefault(ordinal, noise)
        return [answers[ordinal] for ordinal in range(len(requests))]

    def _batches(self, count: int, step: int) -> Iterator[Sequence[int]]:
        """Which key frames share a batch: those that a constraint names, all, or the pivots and as
        many others as there is room for."""
        if self.batches is not None:
            yield from self.batches
            return
        pivots = self.pivots(step)
        room = max(self.batch_size - len(pivots), 1)
        others = [ordinal for ordinal in range(count) if ordinal not in pivots]
        if room >= len(others) or self.whole:
            yield [*range(count)]
            return
        for first in range(0, len(others), room):
            yield sorted({*pivots, *others[first : first + room]})

    def _chunks(self, count: int) -> Iterator[list[int]]:
        for first in range(0, count, self.batch_size):
            yield [*range(first, min(first + self.batch_size, count))]


def lockstep(
    coroutines: Iterable[KeyFrameCoroutine], predict: Predict, report: Report = unreported
) -> Iterator[Turn | Translation]:
    """Translate the key frames of a shot together, a request at a time.

    A request for joint attention, or for joint editing of clean latents, is answered when every key
    frame that goes on makes one; other requests are answered in the meantime.

    Args:
        coroutines: the key frames of one shot.
        predict: answers requests that are all for joint attention, or all not.
        report: told of every evaluation done or skipped.

    Yields:
        Turns, which the caller takes at once, and the translations, in order, when all are done.
    """
    lanes = [KeyFrameLane(each) for each in coroutines]
    turns = [Turn(lane, None) for lane in lanes]
    while turns:
        yield from turns
        let_go(lanes)
        going = [each for each in lanes if not isinstance(each.request, Translation)]
        alone = [each for each in going if not _joins(each)]
        turns = _answered(alone or going, predict, report)
    yield from (translation_of(lane) for lane in lanes)


def _joins(lane: KeyFrameLane) -> bool:
    """Whether a key frame waits for the others of its shot."""
    request = lane.request
    return isinstance(request, CleanRequest) or getattr(request, "joint", None) is not None


def _answered(group: Sequence[KeyFrameLane], predict: Predict, report: Report) -> list[Turn]:
    requests = [each.request for each in group if isinstance(each.request, NoiseRequest)]
    noises = iter(predict(requests) if requests else ())
    latents = [each.request for each in group if isinstance(each.request, CleanRequest)]
    edited = iter(edit_jointly(latents) if latents else ())
    turns: list[Turn] = []
    for each in group:
        if isinstance(each.request, CleanRequest):
            turns.append(Turn(each, next(edited)))
        elif isinstance(each.request, Wait):
            report(each.request.skipped, "")
            turns.append(Turn(each, None))
        elif isinstance(each.request, NoiseRequest):
            report(1, each.request.note)
            turns.append(Turn(each, next(noises)))
    return turns
