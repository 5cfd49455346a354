"""Other processes, each on a device of its own, that do parts of one clip."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from concurrent.futures import Future

from torch import Tensor

from rerender.scene import Watch
from rerender.video import Segment


class SegmentWorkers(ABC):
    """Processes to which a clip's segments are given; all make the bytes that this process would
    make.

    Attributes:
        count: how many there are.
    """

    count: int

    @abstractmethod
    def fill(self, segment: Segment) -> Future[list[Tensor]]:
        """Fill a segment, whose video is the clip's ``output``: its frames ``[3,H,W]``."""


class Workers(SegmentWorkers):
    """The same, to which shots are given too."""

    @abstractmethod
    def part(self, number: int) -> Workers:
        """The same processes, for one range of the clip (see `rerender.video.PromptRange`)."""

    @abstractmethod
    def translate(
        self, shots: Sequence[Sequence[int]], finished: int, watch: Watch
    ) -> Iterator[Tensor]:
        """Translate the key frames of all shots but the first ``finished`` ones. Each shot is made
        by one process, since within it key frames refer to each other.

        Args:
            shots: frame numbers of the key frames of each shot.
            finished: how many key frames are there already, from the first one on.
            watch: told of every network evaluation, stage ``"translate"``.

        Yields:
            The translated pictures ``[3,H,W]``, in order, as they are finished. Whoever goes on to
            the end has no more use for what the processes kept of them.

        Raises:
            RerenderError: whatever stopped a process.
        """
