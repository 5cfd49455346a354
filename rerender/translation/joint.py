"""Key frames translated together: all of a shot in lockstep, each seeing the others.

Joint constraints (`JointConstraint`) are bound once for a shot. A question that a key frame
asks in their company waits until all key frames of the shot ask theirs, and all are answered
in one batch, or in batches that each hold the pivots, the key frames that the others look at.
Constraints that refer to earlier key frames work as ever: in a batch earlier ones come first.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from rerender.config.parts import Parts
from rerender.contracts import (
    Edits,
    InitialLatent,
    JointConstraint,
    JointEdits,
    Model,
    NoiseRequest,
    StartContext,
)
from rerender.scene import Noise, Shot, Translation, Watch
from rerender.translate import Progress
from rerender.translation.denoise import (
    Ask,
    BoundEdits,
    DenoisingTask,
    Recorder,
    asked_maps,
    denoise,
    start,
    together,
)
from rerender.translation.key_frame import Draw, Studio, Work
from rerender.translation.lanes import Predict, RunningJob
from rerender.translation.references import References, ResumePoint
from rerender.video import Clip, KeyFrame


def translate_together(
    clip: Clip,
    shots: Sequence[Sequence[int]],
    model: Model,
    parts: Parts,
    seed: int = 0,
    watch: Watch | None = None,
    draw: Draw | None = None,
    ledger: ResumePoint | None = None,
) -> Iterator[Translation]:
    """Translate the key frames of a clip, those of a shot together.

    Arguments and results are those of `rerender.translate.translate`; traces of all key frames of
    a shot are kept until it is done.

    Raises:
        ConfigError: a constraint compares with the source prompt, and the clip has none.
    """
    parts.check(clip)
    studio = Ensemble(clip, model, parts, seed, watch or Watch(), draw)
    alone = Studio(clip, model, parts, seed, studio.watch, draw)
    ledger = ledger or ResumePoint()
    finished = ledger.finished
    progress = Progress(studio, shots, finished)
    for number, shot in enumerate(shots):
        known = min(finished, len(shot))
        finished -= known
        yield from (ledger.recall(index, number) for index in shot[:known])
        if known == len(shot):
            continue
        palette = alone.palette(shot[0], number, progress.evaluated)
        company = studio.gather(shot)
        jobs = company.jobs(shot, number, palette)
        for translation in lockstep(jobs, company.predict, progress.evaluated):
            ledger.finish(translation, None)
            yield translation


@dataclass(frozen=True)
class Ensemble(Studio):
    """The key frames of one clip, those of a shot together.

    Attributes:
        shot: the frame numbers of the shot that is translated.
        acts: what each joint constraint does to each of its key frames, and in which steps.
    """

    shot: tuple[int, ...] = ()
    acts: tuple[tuple[range, Sequence[JointEdits]], ...] = ()

    def gather(self, shot: Sequence[int]) -> Ensemble:
        """The same for one shot, its joint constraints bound."""
        whole = Shot(self.clip, tuple(shot))
        acts = [
            (self.parts.sampling.window(constraint), constraint.unite(whole, self.model))
            for constraint in self._acting()
            if isinstance(constraint, JointConstraint)
        ]
        return replace(self, shot=whole.indices, acts=tuple(acts))

    def predict(self, queries: Sequence[NoiseRequest]) -> list[Tensor]:
        """Answer what all key frames of a shot ask in company, or some of them on their own."""
        answers: dict[int, Tensor] = {}
        company = queries[0].together is not None
        for batch in (self._batches if company else self._lanes)(len(queries)):
            answered = self.model.predict_noise([queries[ordinal] for ordinal in batch])
            for ordinal, answer in zip(batch, answered, strict=True):
                answers.setdefault(ordinal, answer)
        return [answers[ordinal] for ordinal in range(len(queries))]

    def _batches(self, count: int) -> Iterator[list[int]]:
        """Which key frames share a batch: all, or the pivots and as many others as there are
        lanes left. Features of earlier key frames are there only if they are in the batch."""
        pivots = self._pivots(count)
        room = max(self.parts.sampling.lanes - len(pivots), 1)
        others = [ordinal for ordinal in range(count) if ordinal not in pivots]
        if room >= len(others) or self._remembered_layers(0):
            yield [*range(count)]
            return
        for first in range(0, len(others), room):
            yield sorted({*pivots, *others[first : first + room]})

    def _lanes(self, count: int) -> Iterator[list[int]]:
        """As many as there are lanes at a time."""
        for first in range(0, count, lanes := self.parts.sampling.lanes):
            yield [*range(first, min(first + lanes, count))]

    def _pivots(self, count: int) -> set[int]:
        joint = [c for c in self.parts.constraint if isinstance(c, JointConstraint)]
        return {ordinal for constraint in joint for ordinal in constraint.pivots(count)}

    def _work(
        self, own: Translation, cast: References | None, palette: Tensor | None, recorder: Recorder
    ) -> Work:
        """Translate one key frame in the company of the others."""
        task, opening = yield from self._begin(own.key, palette, cast)
        bound = self._company(own.key.index)
        if cast is not None:
            bound += self._bind(self._scene(own.key, cast, task.noise))
        end = yield from denoise(task, start(opening), len(task.schedule), bound, recorder)
        return self._finished(own, end)

    def _company(self, index: int) -> list[BoundEdits]:
        """What joint constraints do to the sampling of a key frame."""
        ordinal = self.shot.index(index)
        return [BoundEdits(steps, acts[ordinal].sampling) for steps, acts in self.acts]

    def _task(self, key: KeyFrame, noise: Noise, cast: References | None) -> DenoisingTask:
        task = super()._task(key, noise, cast)
        return replace(task, ready=lambda step: True, ordinal=self.shot.index(key.index))

    def _open(self, stage: StartContext) -> Generator[Ask, Tensor | None, InitialLatent]:
        """What the start makes of the stage, joint constraints looking on."""
        opened, answer = super()._open(stage), None
        told = stage.source().text[-1:] if self._looks_on() else None
        while True:
            try:
                ask = opened.send(answer)
            except StopIteration as stop:
                opening: InitialLatent = stop.value
                return opening
            if told is not None and ask.query is not None:
                ask = ask._replace(query=self._watched(ask.query, stage, told))
            answer = yield ask

    def _looks_on(self) -> bool:
        """Whether a joint constraint has a part in the inversion."""
        return any(act.inversion != Edits() for _, acts in self.acts for act in acts)

    def _watched(self, query: NoiseRequest, stage: StartContext, told: Tensor) -> NoiseRequest:
        """A question of the start; with the edits of joint constraints where it is ``told`` the
        source prompt."""
        if not torch.equal(query.condition.text[-1:], told):
            return query
        step = stage.schedule.timesteps.index(query.timestep)
        ordinal = self.shot.index(stage.key.index)
        active = [acts[ordinal].inversion for steps, acts in self.acts if step in steps]
        company = together(active, step, ordinal)
        return query._replace(maps=asked_maps(active, step), together=company)


def lockstep(
    jobs: Iterable[Work],
    predict: Predict,
    report: Callable[[Ask], None] = lambda ask: None,
) -> Iterator[Translation]:
    """Run jobs a question at a time, and yield their results in order when all are done.

    A question asked in company (`JointAttention`) is answered when every job that
    goes on asks one; other questions are answered in the meantime.

    Args:
        jobs: the key frames of one shot.
        predict: answers questions that are all asked in company, or all not.
        report: told of every evaluation done or spared.
    """
    lanes = [RunningJob(job) for job in jobs]
    for lane in lanes:
        lane.answer(None)
    while going := [lane for lane in lanes if lane.ask is not None]:
        alone = [lane for lane in going if not _in_company(lane)]
        _answer(alone or going, predict, report)
    yield from (lane.result for lane in lanes)


def _in_company(lane: RunningJob) -> bool:
    query = lane.ask.query if lane.ask is not None else None
    return query is not None and query.together is not None


def _answer(group: Sequence[RunningJob], predict: Predict, report: Callable[[Ask], None]) -> None:
    queries = [lane.ask.query for lane in group if lane.ask is not None and lane.ask.query]
    answers = iter(predict(queries) if queries else ())
    for lane in group:
        assert lane.ask is not None
        if lane.ask.query is not None or lane.ask.spared:
            report(lane.ask)
        lane.answer(next(answers) if lane.ask.query is not None else None)
