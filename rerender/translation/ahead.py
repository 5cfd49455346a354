"""Flow between key frames that is estimated while a GPU denoises the key frame before."""

from __future__ import annotations

from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass

from torch import Tensor

from rerender.contracts import FlowEstimator
from rerender.flow.field import Flow
from rerender.video import Frame


@dataclass
class _Expected:
    """A flow that may be asked for: what for, and who estimates it."""

    target: Frame
    source: Frame
    role: str
    found: Future[Flow] | None = None


class FlowAhead(FlowEstimator):
    """An estimator with a thread of its own for flows that will be asked for. Its answers are those
    of the estimator; on a processor that also denoises, nothing would be gained.

    What is estimated ahead are flows to those earlier key frames (the anchor, the previous one)
    whose flow has been asked for before: constraints differ in what they want. The thread ends with
    the last one who can ask: coroutines outlive those who made them.

    Args:
        flow: the estimator.
    """

    def __init__(self, flow: FlowEstimator) -> None:
        self._flow = flow
        self._thread = ThreadPoolExecutor(1, "flow")
        self._expected: dict[tuple[int, int], _Expected] = {}
        self._wanted: set[str] = set()

    def expect(self, target: Frame, source: Frame, role: str) -> None:
        """Be told of a flow that `between` may be asked for, and what the source is to the
        target."""
        self._expected.setdefault((target.index, source.index), _Expected(target, source, role))
        self._begin()

    def between(self, target: Frame, source: Frame) -> Flow:
        asked = self._expected.get((target.index, source.index))
        # Nobody asks for an earlier frame's flow again.
        self._expected = {
            pair: each for pair, each in self._expected.items() if pair[0] >= target.index
        }
        if asked is None:
            return self._flow.between(target, source)
        found = self._flow.between(target, source) if asked.found is None else asked.found.result()
        if asked.found is None:
            asked.found = Future()
            asked.found.set_result(found)
        self._wanted.add(asked.role)
        self._begin()
        return found

    def _begin(self) -> None:
        """Let the thread estimate what is wanted."""
        for each in self._expected.values():
            if each.found is None and each.role in self._wanted:
                each.found = self._thread.submit(self._flow.between, each.target, each.source)

    def offset(self, target: Frame, source: Frame, start: Tensor | None = None) -> Tensor:
        return self._flow.offset(target, source, start)

    def pair(self, first: Frame, second: Frame) -> tuple[Flow, Flow]:
        return self._flow.pair(first, second)

    def offsets(self, first: Frame, second: Frame) -> tuple[Tensor, Tensor]:
        return self._flow.offsets(first, second)
