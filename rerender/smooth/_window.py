"""A sliding window over a stream: all that temporal filters hold in memory."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator
from typing import TypeVar

T = TypeVar("T")


def windows(stream: Iterable[T], radius: int) -> Iterator[tuple[int, int, list[T]]]:
    """For each element ``(index, first, elements)``: its position, that of the first element of
    its window, and the window: up to ``radius`` neighbours on each side, fewer at the ends."""
    held: deque[T] = deque()
    first = done = read = 0
    for element in stream:
        held.append(element)
        read += 1
        if read > done + radius:
            yield done, first, list(held)
            done += 1
        if done - first > radius:
            held.popleft()
            first += 1
    while done < read:
        yield done, first, list(held)
        done += 1
        if done - first > radius:
            held.popleft()
            first += 1
