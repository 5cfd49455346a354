"""Where clips come from, which of their frames are key, and what is read from frames."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar, Literal

from torch import Tensor

from rerender.errors import ConfigError
from rerender.flow.field import Flow, occlusion
from rerender.video import Clip, Frame, Video


class Data(ABC):
    """Where clips come from. Everything that can be refused is refused by ``clips``.

    Attributes:
        size: short side in pixels at which clips are processed.
        output: the size of results: ``"model"`` is that at which clips are processed, ``"source"``
            that of the source.
    """

    size: int
    output: Literal["model", "source"] = "model"

    @abstractmethod
    def clips(self) -> Sequence[Clip]:
        """The clips, opened and checked, frames not yet read."""

    def each(self) -> Sequence[Data]:
        """The same clips, each alone, so that it can be a job of its own; nothing is opened."""
        return [self]


class KeyFrames(ABC):
    """Which frames are translated by diffusion, or key frames made elsewhere.

    Attributes:
        made_elsewhere: they are given, and the model is not asked.
        harmonise: whether those are brought together in colour.
    """

    made_elsewhere: ClassVar[bool] = False
    harmonise: bool = False

    @abstractmethod
    def pick(self, video: Video) -> Sequence[Sequence[int]]:
        """Indices of the key frames of each shot, increasing. The frames on both sides of every cut
        are always among them, but for key frames made elsewhere; the first and the last frame of
        the video need not be, though most pickers take them."""

    def check(self, video: Video) -> None:  # noqa: B027 - most pick from any video
        """Refuse a video that cannot be picked from, by its length alone, before anything starts.

        Raises:
            ConfigError: a frame is named that is not there.
            InputError: a picture of one that is made elsewhere cannot be used.
        """

    def given(self, video: Video) -> Mapping[int, Callable[[], Tensor]]:
        """The key frames made elsewhere by their frame, in order, each read when it is called:
        ``[3,H,W]`` in 0..1 of the video's size."""
        return {}

    def borders(self, video: Video) -> Sequence[int]:
        """The frames that begin a new shot, increasing, where key frames made elsewhere need not
        lie at the ends of shots."""
        return ()


@dataclass(frozen=True, kw_only=True)
class Control(ABC):
    """A structure map that a ControlNet follows.

    Attributes:
        weight: strength of the ControlNet's residuals.
        start: first moment it acts, as a share of the steps.
        stop: first moment it does not act any more (half-open, as for constraints).
    """

    weight: float = 1.0
    start: float = 0.0
    stop: float = 1.0

    costly: ClassVar[bool] = False  # takes longer than reading a map from a disk
    imagines: ClassVar[bool] = False  # its map is of a picture sampled from the prompt
    given: ClassVar[bool] = False  # its maps come with the clip; it makes none of other pictures

    @property
    def on_device(self) -> bool:
        """Whether torch computes its maps, on the device that images are on."""
        return False

    def __post_init__(self) -> None:
        if not 0 <= self.weight <= 10:
            raise ConfigError(
                f"control.{self.name}.weight",
                f"must lie in 0..10, received {self.weight}",
                "1 is usual",
            )
        require_window(f"control.{self.name}", self.start, self.stop)

    @property
    def name(self) -> str:
        """The word it is known by: its file and its yaml."""
        return type(self).__module__.rpartition(".")[2]

    @property
    def network(self) -> str:
        """The word that a checkpoint finds the ControlNet by; the name if nothing else is said."""
        return self.name

    @abstractmethod
    def map(self, image: Tensor) -> Tensor:
        """The control map ``[3,H,W]`` in 0..1 of an image ``[3,H,W]`` in 0..1."""

    def frame_map(self, frame: Frame) -> Tensor:
        """The control map of a frame of the clip that it is open for; of most, that of its
        image."""
        return self.map(frame.image)

    def open(self, clip: Clip) -> Control:
        """The control for one clip (one whose maps are given has to know which frames)."""
        return self

    def check(self, clip: Clip) -> None:  # noqa: B027, most make a map of any frame
        """Refuse a clip before anything is loaded.

        Raises:
            RerenderError: the maps that are given are not those of the clip.
        """


class FlowEstimator(ABC):
    """Optical flow between two frames."""

    costly: ClassVar[bool] = False  # takes longer than reading a flow from a disk

    @property
    def on_device(self) -> bool:
        """Whether torch computes it, on the device that frames are on."""
        return False

    def open(self, clip: Clip) -> FlowEstimator:
        """The estimator for one clip (an estimator that reads the truth needs to know whose)."""
        return self

    def check(self) -> None:  # noqa: B027, most need nothing but themselves
        """Refuse before anything else is loaded, where no flow could be estimated on this machine.

        Raises:
            RerenderError: something is missing on this machine.
        """

    def rough(self) -> FlowEstimator:
        """A cheaper estimator of the same kind for the links of a chain of neighbouring frames,
        whose ends are estimated again; itself where there is none."""
        return self

    @abstractmethod
    def offset(self, target: Frame, source: Frame, start: Tensor | None = None) -> Tensor:
        """Offsets ``[1,2,H,W]`` in pixels, (x, y), from target to source.

        Args:
            target: the frame whose pixels are looked for.
            source: the frame they are looked for in.
            start: a first guess ``[1,2,H,W]``; estimators that cannot use one ignore it.
        """

    def pair(self, first: Frame, second: Frame) -> tuple[Flow, Flow]:
        """The flows first -> second and second -> first, with forward-backward occlusion."""
        there, back = self.offset(first, second), self.offset(second, first)
        return Flow(there, occlusion(there, back)), Flow(back, occlusion(back, there))

    def offsets(self, first: Frame, second: Frame) -> tuple[Tensor, Tensor]:
        """The offsets first -> second and second -> first, for those who need no occlusion."""
        there, back = self.pair(first, second)
        return there.offset, back.offset

    def between(self, target: Frame, source: Frame) -> Flow:
        """The flow from target to source, with occlusion."""
        return self.pair(target, source)[0]


class BatchedFlowEstimator(FlowEstimator):
    """Optical flow of many pairs of images at once, on the device that these are on, which is not
    waited for: propagation records it as a CUDA graph. Two equal estimators do the same."""

    @property
    def on_device(self) -> bool:
        return True

    def rough(self) -> BatchedFlowEstimator:
        return self

    @abstractmethod
    def estimate(self, target: Tensor, source: Tensor, start: Tensor | None) -> Tensor:
        """Offsets ``[B,2,H,W]`` in pixels, (x, y), from targets to sources.

        Args:
            target, source: ``[B,3,H,W]`` in 0..1; values outside are clipped.
            start: a first guess ``[B,2,H,W]``; None where there is none.
        """


def require_window(where: str, start: float, stop: float) -> None:
    """Refuse a window that is empty, reversed or outside 0..1.

    Raises:
        ConfigError: naming ``where``.
    """
    if not 0.0 <= start < stop <= 1.0:
        raise ConfigError(
            where,
            f"a window needs 0 <= start < stop <= 1, received {start} to {stop}",
            "swap or widen the two",
        )
