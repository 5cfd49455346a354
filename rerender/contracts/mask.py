"""Where a video is restyled, and where it is kept."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator

from torch import Tensor

from rerender.contracts.source import FlowEstimator
from rerender.video import Video


class Mask(ABC):
    """Which region of a video is restyled.

    Attributes:
        rest_strength: share of the denoising steps that is executed outside of the region, at most
            ``sampling.strength``; None translates key frames everywhere alike.
        rest_control: how strongly controls act outside of the region, as a share of their weight.
    """

    rest_strength: float | None = None
    rest_control: float = 1.0

    @property
    def regional(self) -> bool:
        """Whether key frames are translated otherwise outside of the region."""
        return self.rest_strength is not None or self.rest_control != 1

    def repainted(self, region: Tensor) -> Tensor:
        """What of a region ``[1,H,W]`` or of its outside is not the source in the result."""
        return region

    def check(self, video: Video) -> None:  # noqa: B027, most need nothing
        """Refuse what cannot be a mask of this video, before anything starts.

        Raises:
            RerenderError: it cannot be read, or is of another length or shape.
        """

    @abstractmethod
    def regions(self, video: Video, flow: FlowEstimator) -> Iterator[Tensor]:
        """How far each frame belongs to the region, from the first on, ``[1,H,W]`` in 0..1.

        Args:
            video: the source; masks are of its ``size``.
            flow: the flow estimator, opened for this video.
        """

    @abstractmethod
    def composite(
        self, frames: Iterable[Tensor], video: Video, flow: FlowEstimator, first: int = 0
    ) -> Iterator[Tensor]:
        """Finished frames with the source where it is kept.

        Args:
            frames: results ``[3,H,W]`` in 0..1 of the video's ``size``, from ``first`` on.
            video: the source.
            flow: the flow estimator, opened for this video.
            first: number of the first frame.

        Yields:
            Images ``[3,H,W]`` of the video's ``output_size``, or what came in.
        """
