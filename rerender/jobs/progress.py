"""How far a run is: a bar with the time left for each stage, and the seconds each one took."""

from __future__ import annotations

import math
import os
import re
import sys
import time
from collections.abc import Callable, Sequence
from typing import Any, TextIO

from tqdm import tqdm

from rerender import peak_memory
from rerender.compiled import compile_seconds
from rerender.jobs.worker import PACE
from rerender.scene import Watch

EVERY = 10.0  # seconds between two lines where there is no terminal to draw bars on
TRIM = 32  # reports, of a frame or a few, after which freed memory is given back
COMPILE = "compile"  # stage to which compiling is counted, whatever stage asked for it


class Progress(Watch):
    """Bars on a terminal; a line now and then elsewhere. What reports here works through whole
    videos, so this is also where freed memory is given back now and then.

    Stages take turns (frames are filled while later key frames are translated), so the time since
    the last report of any stage is counted to the stage that reports.

    Args:
        stream: where it is shown; standard error if None.
        clock: seconds, monotonic.
        spent: seconds of computing, on which other processes have no influence.
        label: what is said before every line, such as "job 3 of 12".
        bars: whether bars may be drawn; jobs side by side would draw theirs over each other.

    Attributes:
        seconds: stage -> seconds on the clock, compiling included.
        spent: stage -> seconds of computing; compiling is a stage of its own.
    """

    def __init__(
        self,
        stream: TextIO | None = None,
        clock: Callable[[], float] = time.monotonic,
        spent: Callable[[], float] = peak_memory.compute_seconds,
        label: str = "",
        bars: bool = True,
    ) -> None:
        self.seconds: dict[str, float] = {}
        self.spent: dict[str, float] = {}
        self._stream = sys.stderr if stream is None else stream
        self._clock, self._cost, self._label = clock, spent, label
        self._bars_wanted = bars and self._stream.isatty()
        self._last, self._last_cost, self._compiled = clock(), spent(), compile_seconds()
        self._said: dict[str, float] = {}
        self._every = _pace()
        self._bars: dict[str, tqdm[Any]] = {}
        self._reports = 0
        self._clips: list[tuple[str, int]] = []
        self._clip = -1
        self._left = Left()

    def clips(self, named: Sequence[tuple[str, int]]) -> None:
        """Say which clips there are: the name and the frames of each, in order."""
        self._clips = list(named)

    def clip(self) -> None:
        """Turn to the next of them."""
        self._clip += 1
        self._left.next(
            self._clips[self._clip][1], sum(n for _, n in self._clips[self._clip + 1 :])
        )
        self._said.clear()

    def advance(self, stage: str, done: int, total: int, note: str = "") -> None:
        self._reports += 1
        if self._reports % TRIM == 0:
            peak_memory.give_back()
        now, took = self._count(stage)
        self._left.report(stage, done, total, took)
        if self._bars_wanted:
            self._draw(stage, done, total, note)
        elif done >= total or now - self._said.get(stage, -math.inf) >= self._every:
            self._said[stage] = now
            self._say(stage, done, total)

    def count(self, stage: str) -> None:
        """Count the time since the last report to a stage that has no bar."""
        self._count(stage)

    def credit(self, stage: str, seconds: float) -> None:
        """Count seconds of computing of another process to a stage."""
        if not seconds:
            return
        self.spent[stage] = self.spent.get(stage, 0.0) + seconds

    def close(self) -> None:
        """Leave the bars as they are and end their lines."""
        while self._bars:
            self._bars.popitem()[1].close()

    def _count(self, stage: str) -> tuple[float, float]:
        """The time now, and the seconds since the last report, which are counted to a stage."""
        now, cost, compiled = self._clock(), self._cost(), compile_seconds()
        took, compiling = now - self._last, compiled - self._compiled
        self.seconds[stage] = self.seconds.get(stage, 0.0) + took
        computed = max(cost - self._last_cost - compiling, 0.0)
        self.spent[stage] = self.spent.get(stage, 0.0) + computed
        if compiling:
            self.spent[COMPILE] = self.spent.get(COMPILE, 0.0) + compiling
        self._last, self._last_cost, self._compiled = now, cost, compiled
        return now, took

    def _where(self) -> str:
        """Job and clip, where there are several."""
        clip = ""
        if len(self._clips) > 1 and self._clip >= 0:
            clip = f"clip {self._clip + 1} of {len(self._clips)}"
        return ", ".join(filter(None, [self._label, clip]))

    def _draw(self, stage: str, done: int, total: int, note: str) -> None:
        bar: tqdm[Any] | None = self._bars.get(stage)
        if bar is None or bar.total != total or done < bar.n:
            if bar is not None:
                bar.close()
            where = self._where()
            head = f"{where}: {stage}" if where else f"{stage:<10}"
            bar = tqdm(total=total, desc=head, file=self._stream, dynamic_ncols=True)
            self._bars[stage] = bar
        left = self._left.seconds() if len(self._clips) > 1 else None
        whole = "" if left is None else f"all clips {_time(left)}"
        bar.set_postfix_str(", ".join(filter(None, [note[:30], whole])), refresh=False)
        bar.update(done - bar.n)
        if done >= total:
            self._bars.pop(stage).close()

    def _say(self, stage: str, done: int, total: int) -> None:
        """One line, written at once, so that those of other processes stand beside it."""
        spent, left = self._left.spent(stage), self._left.seconds()
        several = " for all clips" if len(self._clips) > 1 else ""
        about = f", about {_time(left)} left{several}" if left else ""
        where = self._where()
        head = f"{where}: {stage}" if where else stage
        self._stream.write(f"{head}: {done} of {total} ({spent:.1f} s{about})\n")
        self._stream.flush()


class Left:
    """How long a job still takes, by what its stages took: what is left of this clip, and for the
    clips to come as much as this one needs, by their frames."""

    def __init__(self) -> None:
        self._later = 0.0  # frames of later clips over those of this one
        self._took: dict[str, float] = {}  # seconds of all reports of a stage, and of this clip
        self._own: dict[str, float] = {}
        self._done: dict[str, int] = {}  # finished in earlier clips
        self._now: dict[str, tuple[int, int]] = {}  # done and total in this clip
        self._frames = 0
        self._rates: dict[str, float] = {}  # steps for each frame of the clip before

    def next(self, frames: int, later: int) -> None:
        """A clip begins.

        Args:
            frames: of this clip.
            later: of all clips after it.
        """
        for stage, (done, total) in self._now.items():
            self._done[stage] = self._done.get(stage, 0) + done
            self._rates[stage] = total / self._frames if self._frames else 0.0
        self._now, self._own = {}, {}
        self._frames, self._later = frames, later / frames

    def report(self, stage: str, done: int, total: int, took: float) -> None:
        """A stage has done so much of this clip, ``took`` seconds after the last report."""
        self._now[stage] = done, total
        self._took[stage] = self._took.get(stage, 0.0) + took
        self._own[stage] = self._own.get(stage, 0.0) + took

    def spent(self, stage: str) -> float:
        """Seconds that a stage took for this clip."""
        return self._own.get(stage, 0.0)

    def seconds(self) -> float | None:
        """Seconds until all clips are done; None while nothing is known. In the first clip, stages
        that have not begun are not known yet."""
        left, total = 0.0, 0.0
        for stage, took in self._took.items():
            expected = self._rates.get(stage, 0.0) * self._frames
            done, total = self._now.get(stage, (0, expected))
            count = self._done.get(stage, 0) + done
            if not count:
                return None
            left += took / count * (total - done + total * self._later)
        return left if self._took else None


def _time(seconds: float) -> str:
    return f"{seconds:.0f} s" if seconds < 120 else f"{seconds / 60:.0f} min"


def _pace() -> float:
    """Seconds between two lines; what is no number of them says nothing."""
    said = os.environ.get(PACE, "")
    return float(said) if re.fullmatch(r"\d{1,4}(\.\d{1,3})?", said) else EVERY
