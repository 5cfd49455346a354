"""The nouns of the moving image: Frame, Video, Clip, KeyFrame, Segment.

One image convention for the whole project: RGB, float32, 0..1, channels first ``[3,H,W]``.
Only ``rerender.model`` knows other ranges, and only ``rerender.codec`` knows file formats.
"""

from __future__ import annotations

import hashlib
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from torch import Tensor

if TYPE_CHECKING:
    from rerender.flow.field import Flow


@dataclass(frozen=True)
class Frame:
    """One picture of a video.

    Attributes:
        index: its position in the video, from 0.
        image: ``[3,H,W]`` RGB, float32, 0..1.
    """

    index: int
    image: Tensor


class Video(ABC):
    """Frames in display order, read when asked for; rotation and colour are already settled."""

    @property
    @abstractmethod
    def size(self) -> tuple[int, int]:
        """(height, width) in pixels of every frame that is read."""

    @property
    @abstractmethod
    def timestamps(self) -> Sequence[Fraction]:
        """Presentation time of each frame in seconds, strictly increasing."""

    @property
    def end(self) -> Fraction:
        """The time at which the last frame stops being shown, in seconds."""
        times = self.timestamps
        last = times[-1] - times[-2] if len(times) > 1 else Fraction(1, 25)
        return times[-1] + last

    @property
    def output_size(self) -> tuple[int, int]:
        """(height, width) a result is shown at; differs from ``size`` where frames were
        rounded to what the model can process."""
        return self.size

    @property
    def audio(self) -> Path | None:
        """The file whose sound belongs to these frames, or None."""
        return None

    def __len__(self) -> int:
        return len(self.timestamps)

    @abstractmethod
    def __getitem__(self, index: int) -> Tensor:
        """Frame ``index`` as ``[3,H,W]`` RGB, float32, 0..1."""

    def frame(self, index: int) -> Frame:
        """Frame ``index`` together with its position."""
        return Frame(index, self[index])

    def digest(self) -> str:
        """A hash of all that can be read from this video: frames, times, sizes and sound. Kinds of
        video that know what their frames come from hash that instead of every frame."""
        frames = (self[index].contiguous().numpy() for index in range(len(self)))
        sound = self.audio.read_bytes() if self.audio else b""
        times = repr((self.size, self.output_size, *self.timestamps, self.end))
        return sha256_of(times.encode(), *frames, sound)


def sha256_of(*contents: Any) -> str:
    """The sha256 of contents, each by its own sha256, so that borders between them count.

    Args:
        contents: bytes, or contiguous arrays.
    """
    total = hashlib.sha256()
    for content in contents:
        total.update(hashlib.sha256(content).digest())
    return total.hexdigest()


def sha256_file(path: Path) -> str:
    """The sha256 of a file's content, in hexadecimal.

    Raises:
        OSError: it cannot be read.
    """
    total = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(2**20):
            total.update(block)
    return total.hexdigest()


class MemoryVideo(Video):
    """Frames that are in memory already.

    Args:
        frames: equally sized images ``[3,H,W]``, float32, 0..1.
        rate: frames per second.
    """

    def __init__(self, frames: Sequence[Tensor], rate: Fraction = Fraction(25)) -> None:
        self._frames = tuple(frames)
        self._timestamps = tuple(index / rate for index in range(len(self._frames)))

    @property
    def size(self) -> tuple[int, int]:
        height, width = self._frames[0].shape[-2:]
        return height, width

    @property
    def timestamps(self) -> Sequence[Fraction]:
        return self._timestamps

    def __getitem__(self, index: int) -> Tensor:
        return self._frames[index]


class Truth(Protocol):
    """What is known of a clip that was made by rule: its motion and its true translation."""

    def flow(self, target: int, source: int) -> Flow:
        """The exact flow from frame ``target`` to frame ``source``, with exact occlusion."""

    def translation(self, index: int) -> Tensor | None:
        """Frame ``index`` as the prompt asks for it, ``[3,H,W]``, or None where unknown."""


@dataclass(frozen=True)
class Clip:
    """A video with what is asked of it.

    Attributes:
        name: a short name, used for files and table rows.
        video: the source frames.
        prompt: what the result should show.
        source_prompt: what the source shows (used by metrics and inversions only).
        negative_prompt: what the result should not show.
        truth: exact motion and translation, where the clip was made by rule.
        full: the source at the size at which the result is made, where that is larger than the
            size at which key frames are translated, which is the size of ``video``.
    """

    name: str
    video: Video
    prompt: str
    source_prompt: str = ""
    negative_prompt: str = ""
    truth: Truth | None = None
    full: Video | None = None

    @property
    def output(self) -> Video:
        """The source as the result is made from it: ``full`` where it is given, else ``video``."""
        return self.full or self.video


@dataclass(frozen=True)
class KeyFrame(Frame):
    """A frame that diffusion translates.

    Attributes:
        controls: one control map ``[3,H,W]`` in 0..1 for each ControlNet.
        shot: number of the shot it belongs to; the first key frame of a shot is its anchor.
        region: how far each pixel belongs to the region that is translated with full strength,
            ``[1,H,W]`` in 0..1; None is everywhere.
    """

    controls: tuple[Tensor, ...] = ()
    shot: int = 0
    region: Tensor | None = None


@dataclass(frozen=True)
class Segment:
    """Source frames to be filled between translated key frames.

    Attributes:
        video: the source.
        start: first frame to fill.
        stop: one past the last frame to fill.
        left: the translated key frame before ``start``; None where there is none.
        right: the translated key frame at or after ``stop``; None where there is none.
    """

    video: Video
    start: int
    stop: int
    left: Frame | None
    right: Frame | None

    def __len__(self) -> int:
        return self.stop - self.start
