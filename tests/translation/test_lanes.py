"""Which requests share a batch."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import torch
from torch import Tensor

from rerender.contracts import Condition, NoiseRequest
from rerender.scene import Trace, Translation
from rerender.translation.lanes import Turn, Wait, side_by_side
from rerender.video import KeyFrame

CONDITION = Condition(torch.zeros(1, 1, 1), ())


def request(name: str) -> NoiseRequest:
    return NoiseRequest(torch.zeros(1), 0, CONDITION, (), note=name)


def test_a_key_frame_that_has_waited_is_in_the_next_batch() -> None:
    """b waits for the end of a; c asks all the time. Nothing is evaluated without b once it can go
    on."""
    ended: set[str] = set()

    def key(name: str, steps: int, after: str | None) -> Iterator[Any]:
        if after:
            yield Wait(lambda: after in ended, skipped=2)
        for step in range(steps):
            yield request(f"{name}{step}")
        ended.add(name)
        yield Translation(KeyFrame(0, torch.zeros(3, 1, 1)), Trace())

    batches, reported = [], []

    def predict(requests: Sequence[NoiseRequest]) -> list[Tensor]:
        batches.append([each.note for each in requests])
        return [torch.zeros(1) for _ in requests]

    keys: list[Any] = [key("a", 2, None), key("b", 2, "a"), key("c", 5, None)]
    done = 0
    for turn in side_by_side(keys, predict, 3, lambda count, note: reported.append((count, note))):
        if isinstance(turn, Turn):
            turn.lane.request = turn.lane.coroutine.send(turn.noise)  # type: ignore[arg-type]
        else:
            done += 1
    assert done == 3
    assert batches == [["a0", "c0"], ["a1", "c1"], ["b0", "c2"], ["b1", "c3"], ["c4"]]
    assert reported.count((2, "")) == 1
    assert sum(count for count, _ in reported) == 2 + 9
