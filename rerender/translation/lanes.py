"""Key frames that do not wait for each other share the network's batch.

A job asks for one network evaluation at a time and says whether the hidden states that it reads are
there yet. The first unfinished job never waits, so there is always something to run. With
cross-frame attention key frames run one step behind each other; without, side by side.

Who goes on next is said here (and in `rerender.translation.joint`, for key frames in lockstep); the
one loop that lets jobs go on is in `rerender.translate`.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import NamedTuple, TypeAlias

from torch import Tensor

from rerender.contracts import NoiseRequest
from rerender.scene import Translation
from rerender.translation.denoise import CleanRequest


class Wait(NamedTuple):
    """What a job yields when it needs no evaluation to go on.

    Attributes:
        ready: whether what it waits for is there.
        skipped: evaluations that were counted on and turned out not to be needed.
    """

    ready: Callable[[], bool]
    skipped: int = 0


Request: TypeAlias = NoiseRequest | CleanRequest | Wait | Translation

Job: TypeAlias = Generator[Request, Tensor, None]
"""Is sent the predicted noise ``[B,C,h,w]`` of each request (None after a wait); what it yields at
last is its translation."""

Predict = Callable[[Sequence[NoiseRequest]], list[Tensor]]

Report = Callable[[int, str], None]
"""``report(count, note)`` is told of evaluations done or skipped."""


def unreported(count: int, note: str) -> None:
    """A report that nobody reads."""


@dataclass
class RunningJob:
    """A job under way and what it has asked for last; its translation where it has ended."""

    job: Job
    request: Request | None = None


class Turn(NamedTuple):
    """Who goes on next: ``running.request = running.job.send(noise)``."""

    running: RunningJob
    noise: Tensor | None


def side_by_side(
    jobs: Iterable[Job], predict: Predict, batch_size: int = 1, report: Report = unreported
) -> Iterator[Turn | Translation]:
    """Run jobs, up to ``batch_size`` of them at once.

    Args:
        jobs: taken one by one, when there is room; a job may wait for those before it only.
        predict: evaluates the network for a batch of requests.
        batch_size: the most requests in a batch, and the most jobs under way.
        report: told of every evaluation done or skipped.

    Yields:
        Turns, which the caller takes at once, and translations, in order, as they are finished.

    Raises:
        RuntimeError: the first unfinished job waits, so that nothing can ever go on (a bug).
    """
    waiting, running = iter(jobs), list[RunningJob]()
    while True:
        fresh = [RunningJob(job) for job in islice(waiting, batch_size - len(running))]
        running += fresh
        if not running:
            return
        yield from [Turn(each, None) for each in fresh] or answered(running, predict, report)
        del fresh
        let_go(running)
        while running and isinstance(running[0].request, Translation):
            yield translation_of(running.pop(0))


def let_go(running: Sequence[RunningJob]) -> None:
    """Let go what the generators of jobs that have ended still hold."""
    for each in running:
        if isinstance(each.request, Translation):
            each.job.close()


def translation_of(running: RunningJob) -> Translation:
    """The translation of a job that has ended."""
    assert isinstance(running.request, Translation)
    return running.request


def answered(running: Sequence[RunningJob], predict: Predict, report: Report) -> list[Turn]:
    """Every job that can go on now with its predicted noise, all evaluated in one batch. Where some
    have waited for what is there now, these alone, with None: what they ask for then joins the next
    batch."""
    asking: list[tuple[RunningJob, NoiseRequest]] = []
    waited: list[tuple[RunningJob, Wait]] = []
    for each in running:
        if isinstance(each.request, NoiseRequest) and each.request.ready():
            asking.append((each, each.request))
        elif isinstance(each.request, Wait) and each.request.ready():
            waited.append((each, each.request))
    if not any(each is running[0] for each, _ in (*asking, *waited)):
        raise RuntimeError("the first unfinished key frame waits for something that never comes")
    if waited:
        for _, wait in waited:
            if wait.skipped:
                report(wait.skipped, "")
        return [Turn(each, None) for each, _ in waited]
    noises = predict([request for _, request in asking])
    for _, request in asking:
        report(1, request.note)
    return [Turn(each, noise) for (each, _), noise in zip(asking, noises, strict=True)]
