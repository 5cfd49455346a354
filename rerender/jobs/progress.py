"""How far a run is: a bar with the time left for each stage, and the seconds each one took."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from typing import Any, TextIO

from tqdm import tqdm

from rerender import peak_memory
from rerender.scene import Watch

EVERY = 10.0  # seconds between two lines where there is no terminal to draw bars on
TRIM = 32  # reports, of a frame or a few, after which freed memory is given back


class Progress(Watch):
    """Bars on a terminal; a line now and then elsewhere. What reports here works through whole
    videos, so this is also where freed memory is given back now and then.

    Stages take turns (frames are filled while later key frames are translated), so the time since
    the last report of any stage is counted to the stage that reports.

    Args:
        stream: where it is shown; standard error if None.
        clock: seconds, monotonic.
    """

    def __init__(
        self, stream: TextIO | None = None, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self.seconds: dict[str, float] = {}
        self._stream = sys.stderr if stream is None else stream
        self._clock = clock
        self._last = clock()
        self._said: dict[str, float] = {}
        self._bars: dict[str, tqdm[Any]] = {}
        self._reports = 0

    def advance(self, stage: str, done: int, total: int, note: str = "") -> None:
        self._reports += 1
        if self._reports % TRIM == 0:
            peak_memory.give_back()
        now = self._clock()
        self.seconds[stage] = self.seconds.get(stage, 0.0) + now - self._last
        self._last = now
        if self._stream.isatty():
            self._draw(stage, done, total, note)
        elif done >= total or now - self._said.get(stage, now - EVERY) >= EVERY:
            self._said[stage] = now
            self._say(stage, done, total)

    def count(self, stage: str) -> None:
        """Count the time since the last report to a stage that has no bar."""
        now = self._clock()
        self.seconds[stage] = self.seconds.get(stage, 0.0) + now - self._last
        self._last = now

    def close(self) -> None:
        """Leave the bars as they are and end their lines."""
        while self._bars:
            self._bars.popitem()[1].close()

    def _draw(self, stage: str, done: int, total: int, note: str) -> None:
        bar: tqdm[Any] | None = self._bars.get(stage)
        if bar is None or bar.total != total or done < bar.n:
            if bar is not None:
                bar.close()
            bar = tqdm(total=total, desc=f"{stage:<10}", file=self._stream, dynamic_ncols=True)
            self._bars[stage] = bar
        bar.set_postfix_str(note[:30], refresh=False)
        bar.update(done - bar.n)
        if done >= total:
            self._bars.pop(stage).close()

    def _say(self, stage: str, done: int, total: int) -> None:
        spent = self.seconds[stage]
        left = f", about {spent / done * (total - done):.0f} s left" if 0 < done < total else ""
        self._stream.write(f"{stage}: {done} of {total} ({spent:.1f} s{left})\n")
        self._stream.flush()
