"""Key frames that do not wait for each other share the network's batch.

Each is a coroutine that asks for one network evaluation at a time and says whether the hidden
states that it reads are there yet. The first unfinished one never waits, so there is always
something to run. With cross-frame attention key frames run one step behind each other; without,
side by side.

Who goes on next is said here (and in `rerender.translation.joint`, for key frames in lockstep); the
one loop that sends them on is in `rerender.translate`.
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
    """What a key frame's coroutine yields when it needs no evaluation to go on.

    Attributes:
        ready: whether what it waits for is there.
        skipped: evaluations that were counted on and turned out not to be needed.
    """

    ready: Callable[[], bool]
    skipped: int = 0


Request: TypeAlias = NoiseRequest | CleanRequest | Wait | Translation

KeyFrameCoroutine: TypeAlias = Generator[Request, Tensor, None]
"""The translation of one key frame, suspended at each request. It is sent the predicted noise
``[B,C,h,w]`` of each (None after a wait); what it yields at last is its translation."""

Predict = Callable[[Sequence[NoiseRequest]], list[Tensor]]

Report = Callable[[int, str], None]
"""``report(count, note)`` is told of evaluations done or skipped."""


def unreported(count: int, note: str) -> None:
    """A report that nobody reads."""


@dataclass
class KeyFrameLane:
    """A key frame under way and what it has asked for last; its translation where it has ended."""

    coroutine: KeyFrameCoroutine
    request: Request | None = None


class Turn(NamedTuple):
    """Who goes on next: ``lane.request = lane.coroutine.send(noise)``."""

    lane: KeyFrameLane
    noise: Tensor | None


def side_by_side(
    coroutines: Iterable[KeyFrameCoroutine],
    predict: Predict,
    batch_size: int = 1,
    report: Report = unreported,
) -> Iterator[Turn | Translation]:
    """Translate key frames, up to ``batch_size`` of them at once.

    Args:
        coroutines: taken one by one, when there is room; each may wait for those before it only.
        predict: evaluates the network for a batch of requests.
        batch_size: the most requests in a batch, and the most key frames under way.
        report: told of every evaluation done or skipped.

    Yields:
        Turns, which the caller takes at once, and translations, in order, as they are finished.

    Raises:
        RuntimeError: the first unfinished key frame waits, so that nothing can ever go on (a bug).
    """
    waiting, lanes = iter(coroutines), list[KeyFrameLane]()
    while True:
        fresh = [KeyFrameLane(each) for each in islice(waiting, batch_size - len(lanes))]
        lanes += fresh
        if not lanes:
            return
        yield from [Turn(each, None) for each in fresh] or answered(lanes, predict, report)
        del fresh
        let_go(lanes)
        while lanes and isinstance(lanes[0].request, Translation):
            yield translation_of(lanes.pop(0))


def let_go(lanes: Sequence[KeyFrameLane]) -> None:
    """Let go what coroutines that have ended still hold."""
    for lane in lanes:
        if isinstance(lane.request, Translation):
            lane.coroutine.close()


def translation_of(lane: KeyFrameLane) -> Translation:
    """The translation of a key frame that is finished."""
    assert isinstance(lane.request, Translation)
    return lane.request


def answered(lanes: Sequence[KeyFrameLane], predict: Predict, report: Report) -> list[Turn]:
    """Every key frame that can go on now with its predicted noise, all evaluated in one batch.
    Where some have waited for what is there now, these go on alone, with None: what they ask for
    then joins the next batch."""
    asking: list[tuple[KeyFrameLane, NoiseRequest]] = []
    waited: list[tuple[KeyFrameLane, Wait]] = []
    for each in lanes:
        if isinstance(each.request, NoiseRequest) and each.request.ready():
            asking.append((each, each.request))
        elif isinstance(each.request, Wait) and each.request.ready():
            waited.append((each, each.request))
    if not any(each is lanes[0] for each, _ in (*asking, *waited)):
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
