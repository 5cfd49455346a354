"""Lanes: key frames that do not wait for each other share the network's batch.

A job asks for one network evaluation at a time and says whether the features it needs are there
yet. The first unfinished job never waits, so there is always something to run. With cross-frame
attention the frames run one step behind each other, a wavefront; without, side by side.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from rerender.contracts import NoiseRequest
from rerender.translation.denoise import Ask, Job

Predict = Callable[[Sequence[NoiseRequest]], list[Tensor]]


@dataclass
class RunningJob:
    """A job under way, the question it asks now, and its result once it has one."""

    job: Job
    ask: Ask | None = None
    result: Any = None

    def answer(self, value: Tensor | None) -> None:
        try:
            self.ask = self.job.send(value)
        except StopIteration as stop:
            self.ask, self.result = None, stop.value


def run(
    jobs: Iterable[Job],
    predict: Predict,
    lanes: int = 1,
    report: Callable[[Ask], None] = lambda ask: None,
) -> Iterator[Any]:
    """Run jobs, up to ``lanes`` of them at once, and yield their results in order.

    Args:
        jobs: taken one by one, when a lane is free; a job may wait for those before it only.
        predict: evaluates the network for a batch of queries.
        lanes: the most queries in a batch, and the most jobs under way.
        report: told of every evaluation done or spared.

    Raises:
        RuntimeError: the first unfinished job waits, so that nothing can ever go on (a bug).
    """
    waiting = iter(jobs)
    running: list[RunningJob] = []
    while True:
        _admit(waiting, running, lanes)
        if not running:
            return
        _tick(running, predict, report)
        while running and running[0].ask is None:
            yield running.pop(0).result


def _admit(waiting: Iterator[Job], running: list[RunningJob], lanes: int) -> None:
    while len(running) < lanes and (job := next(waiting, None)) is not None:
        lane = RunningJob(job)
        lane.answer(None)
        running.append(lane)


def _tick(running: Sequence[RunningJob], predict: Predict, report: Callable[[Ask], None]) -> None:
    """Answer every question that can be answered now, all of them in one batch."""
    ready = [lane for lane in running if lane.ask is not None and lane.ask.ready()]
    if running[0] not in ready and running[0].ask is not None:
        raise RuntimeError("the first unfinished key frame waits for something that never comes")
    batch = [(lane, lane.ask) for lane in ready if lane.ask is not None and lane.ask.query]
    answers = predict([ask.query for _, ask in batch if ask.query]) if batch else []
    for lane in ready:
        if lane.ask is not None and lane.ask.query is None:
            if lane.ask.spared:
                report(lane.ask)
            lane.answer(None)
    for (lane, ask), value in zip(batch, answers, strict=True):
        report(ask)
        lane.answer(value)
