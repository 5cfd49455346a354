"""Questions to hosts that may never answer."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import Generic, TypeVar

PATIENCE = 6.0  # seconds until a host that was never heard of is given up
Answer = TypeVar("Answer")


class Question(Generic[Answer]):
    """What ``ask`` returns or raises, found in a thread of its own: looking up a name can take
    longer than any timeout that a connection has."""

    def __init__(self, ask: Callable[[], Answer]) -> None:
        self._answers: list[Answer] = []
        self._errors: list[BaseException] = []
        self._begun = time.monotonic()
        self._thread = threading.Thread(target=self._work, args=(ask,), daemon=True)
        self._thread.start()

    def _work(self, ask: Callable[[], Answer]) -> None:
        try:
            self._answers.append(ask())
        except BaseException as error:  # it is raised where the answer is wanted
            self._errors.append(error)

    def answer(self, seconds: float) -> Answer:
        """The answer, or TimeoutError where there is none so many seconds after the question was
        asked."""
        self._thread.join(max(0.0, self._begun + seconds - time.monotonic()))
        if self._errors:
            raise self._errors[0]
        if not self._answers:
            raise TimeoutError(f"no answer within {seconds:.0f} s")
        return self._answers[0]


def within(seconds: float, ask: Callable[[], Answer]) -> Answer:
    """What ``ask`` returns or raises, or TimeoutError after so many seconds."""
    return Question(ask).answer(seconds)
