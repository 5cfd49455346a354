"""Key frames that do not wait for each other share the network's batch.

A job asks for one network evaluation at a time and says whether the hidden states that it reads are
there yet. The first unfinished job never waits, so there is always something to run. With
cross-frame attention key frames run one step behind each other; without, side by side.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import NamedTuple

from torch import Tensor

from rerender.contracts import NoiseRequest
from rerender.scene import Translation


class Wait(NamedTuple):
    """What a job yields when it needs no evaluation to go on.

    Attributes:
        ready: whether what it waits for is there.
        skipped: evaluations that were counted on and turned out not to be needed.
    """

    ready: Callable[[], bool]
    skipped: int = 0


Job = Generator[NoiseRequest | Wait, Tensor, Translation]
"""Is sent the predicted noise ``[B,C,h,w]`` of each request (None after a wait)."""

Predict = Callable[[Sequence[NoiseRequest]], list[Tensor]]

Report = Callable[[int, str], None]
"""``report(count, note)`` is told of evaluations done or skipped."""


def unreported(count: int, note: str) -> None:
    """A report that nobody reads."""


@dataclass
class RunningJob:
    """A job under way, what it asks for now, and its result once it has one."""

    job: Job
    request: NoiseRequest | Wait | None = None
    result: Translation | None = None

    @property
    def translation(self) -> Translation:
        """The result of a job that has ended."""
        assert self.result is not None
        return self.result


def run(
    jobs: Iterable[Job], predict: Predict, batch_size: int = 1, report: Report = unreported
) -> Iterator[Translation]:
    """Run jobs, up to ``batch_size`` of them at once, and yield their results in order.

    Args:
        jobs: taken one by one, when there is room; a job may wait for those before it only.
        predict: evaluates the network for a batch of requests.
        batch_size: the most requests in a batch, and the most jobs under way.
        report: told of every evaluation done or skipped.

    Raises:
        RuntimeError: the first unfinished job waits, so that nothing can ever go on (a bug).
    """
    waiting, running = iter(jobs), list[RunningJob]()
    while True:
        fresh = [RunningJob(job) for job in islice(waiting, batch_size - len(running))]
        running += fresh
        if not running:
            return
        for each, noise in [(each, None) for each in fresh] or answered(running, predict, report):
            try:
                each.request = each.job.send(noise)  # type: ignore[arg-type]
            except StopIteration as stop:
                each.request, each.result = None, stop.value
        while running and running[0].request is None:
            yield running.pop(0).translation


def answered(
    running: Sequence[RunningJob], predict: Predict, report: Report
) -> list[tuple[RunningJob, Tensor | None]]:
    """Every job that can go on now with its predicted noise, all evaluated in one batch; None after
    a wait."""
    ready = [each for each in running if each.request is not None and each.request.ready()]
    if running[0] not in ready:
        raise RuntimeError("the first unfinished key frame waits for something that never comes")
    waited = [each for each in ready if isinstance(each.request, Wait)]
    asking = [each for each in ready if isinstance(each.request, NoiseRequest)]
    requests = [each.request for each in asking if isinstance(each.request, NoiseRequest)]
    noises = predict(requests) if requests else []
    for each in waited:
        if isinstance(each.request, Wait) and each.request.skipped:
            report(each.request.skipped, "")
    for request in requests:
        report(1, request.note)
    return [*((each, None) for each in waited), *zip(asking, noises, strict=True)]
