"""From key frames to finished frames, and where the record of a run goes."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar

from torch import Tensor

from rerender.contracts.source import FlowEstimator
from rerender.video import Segment, Video


class Propagation(ABC):
    """From key frames to the frames between them."""

    @abstractmethod
    def fill(self, segment: Segment, flow: FlowEstimator) -> Iterator[Tensor]:
        """Frames ``segment.start`` to ``segment.stop - 1`` in order, ``[3,H,W]`` in 0..1."""

    def batches(self) -> bool:
        """Whether several segments are better made by `fill_all` than each by a thread."""
        return False

    def fill_all(self, segments: Sequence[Segment], flow: FlowEstimator) -> Iterator[Tensor]:
        """The frames of several segments of one video, in order; all have a right key frame."""
        for segment in segments:
            yield from self.fill(segment, flow)

    def check(self) -> None:  # noqa: B027, most need nothing but themselves
        """Refuse before anything is loaded, where it could not fill a segment on this machine.

        Raises:
            RerenderError: something is missing on this machine.
        """


class Smooth(ABC):
    """A filter over the finished frames."""

    framewise: ClassVar[bool] = False  # what becomes of a frame depends on no other frame

    @abstractmethod
    def run(self, frames: Iterable[Tensor], source: Video, flow: FlowEstimator) -> Iterator[Tensor]:
        """As many frames as went in, in order, ``[3,H,W]`` in 0..1."""


Cell = float | int | str | Path | None
"""A value in a record's table; a path is that of a finished video (.mp4) or picture (.png)."""


class Tracker(ABC):
    """Where a run's record goes. A tracker never stops a run."""

    @abstractmethod
    def start(self, folder: Path, config: Mapping[str, Any], name: str, group: str) -> None:
        """Begin a record."""

    @abstractmethod
    def log(self, values: Mapping[str, float | int | str | None], step: int | None = None) -> None:
        """Add a row of values."""

    @abstractmethod
    def summary(self, values: Mapping[str, float | int | str | None]) -> None:
        """Set final values."""

    @abstractmethod
    def file(self, name: str, path: Path) -> None:
        """Add a finished file: a video (.mp4) or a picture (.png)."""

    @abstractmethod
    def table(self, name: str, columns: Sequence[str], rows: Sequence[Sequence[Cell]]) -> None:
        """Add a table; a row has one cell for each column."""

    def results(self, folder: Path, name: str, group: str, files: Sequence[Path]) -> None:  # noqa: B027, many keep none
        """Record what a sweep ended with, as a record of its own, begun and ended here.

        Args:
            folder: of the results.
            name: of the record.
            group: the experiment.
            files: tables and pages; a folder stands for all files in it.
        """

    @abstractmethod
    def finish(self, exit_code: int) -> None:
        """End the record."""
