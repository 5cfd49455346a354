"""The nouns of the moving image: Frame, Video, Clip, KeyFrame, Segment.

One image convention for the whole project: RGB, float32, 0..1, channels first ``[3,H,W]``.
Only ``rerender.model`` knows other ranges, and only ``rerender.codec`` knows file formats.
"""

from __future__ import annotations

import hashlib
from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:  # commands that only look at files wait for no torch
    from torch import Tensor

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
    def transparent(self) -> bool:
        """Whether any frame is not opaque; frames are read as laid over black."""
        return False

    def alpha(self, index: int) -> Tensor:
        """Alpha of frame ``index``, ``[1,H,W]`` in 0..1, at ``output_size``."""
        import torch

        return torch.ones(1, *self.output_size)

    @property
    def audio(self) -> Path | None:
        """The file whose sound belongs to these frames, or None."""
        return None

    def __len__(self) -> int:
        return len(self.timestamps)

    def __iter__(self) -> Iterator[Tensor]:
        return (self[index] for index in range(len(self)))

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


class Window(Video):
    """Consecutive frames of a video.

    Args:
        video: the whole.
        start: first frame.
        stop: one past the last frame.
    """

    def __init__(self, video: Video, start: int, stop: int) -> None:
        self._video, self._frames = video, range(start, stop)

    @property
    def size(self) -> tuple[int, int]:
        return self._video.size

    @property
    def output_size(self) -> tuple[int, int]:
        return self._video.output_size

    @property
    def timestamps(self) -> Sequence[Fraction]:
        return self._video.timestamps[self._frames.start : self._frames.stop]

    @property
    def end(self) -> Fraction:
        times = self._video.timestamps
        stop = self._frames.stop
        return times[stop] if stop < len(times) else self._video.end

    @property
    def transparent(self) -> bool:
        return self._video.transparent

    def alpha(self, index: int) -> Tensor:
        return self._video.alpha(self._frames[index])

    def __getitem__(self, index: int) -> Tensor:
        return self._video[self._frames[index]]

    def digest(self) -> str:
        return sha256_of(self._video.digest().encode(), repr(self._frames).encode())


class Truth(Protocol):
    """What is known of a clip that was made by rule: its motion and its true translation."""

    def flow(self, target: int, source: int) -> Flow:
        """The exact flow from frame ``target`` to frame ``source``, with exact occlusion."""

    def translation(self, index: int) -> Tensor | None:
        """Frame ``index`` as the prompt asks for it, ``[3,H,W]``, or None where unknown."""

    def part(self, start: int, prompt: str) -> Truth:
        """The truth of the frames from ``start`` on, asked for with another prompt."""


@dataclass(frozen=True)
class PromptRange:
    """What is asked of a stretch of a clip.

    Attributes:
        start: its first frame.
        stop: one past its last frame.
        prompt: what the result should show.
        negative_prompt: what the result should not show.
        strength: as of the run's sampling; None is the run's.
        fade: number of frames, half of them before ``start``, over which the result goes over from
            the range before; 0 changes at once.
        loras: files of LoRAs on the run's model in this range alone, each with its scale.
    """

    start: int
    stop: int
    prompt: str
    negative_prompt: str = ""
    strength: float | None = None
    fade: int = 0
    loras: tuple[tuple[str, float], ...] = ()

    @property
    def begin(self) -> int:
        """The first frame in which it is seen."""
        return self.start - self.fade // 2

    @property
    def full_from(self) -> int:
        """The first frame in which nothing but it is seen."""
        return self.begin + self.fade


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
        kind: of the edit that the prompt asks for, such as style or object; "" where none is said.
        source_clip: name of the clip of which this is one of several edits; "" for its own.
        masks: edit mask, white where something may change: a picture, or a folder with one for
            each frame of the file; "" for none.
        first_frame: number of the first frame in the file, where masks are counted from.
        licence, attribution: of the source, kept with every result.
        ranges: what is asked when, where that changes: all frames, in order; () asks for ``prompt``
            from beginning to end.
        offset: frames of the whole clip before this one, which is one of its ranges.
    """

    name: str
    video: Video
    prompt: str
    source_prompt: str = ""
    negative_prompt: str = ""
    truth: Truth | None = None
    full: Video | None = None
    kind: str = ""
    source_clip: str = ""
    masks: str = ""
    first_frame: int = 0
    licence: str = ""
    attribution: str = ""
    ranges: tuple[PromptRange, ...] = ()
    offset: int = 0

    def prompt_at(self, index: int) -> str:
        """The prompt of a frame."""
        return next((r.prompt for r in self.ranges if r.start <= index < r.stop), self.prompt)

    @property
    def spans(self) -> list[range]:
        """The frames in which each range is seen, fades included."""
        ends = [following.full_from for following in self.ranges[1:]] + [len(self.video)]
        return [range(r.begin, end) for r, end in zip(self.ranges, ends, strict=True)]

    def part(self, number: int) -> Clip:
        """What one of the ranges asks for, as a clip of its own."""
        asked, span = self.ranges[number], self.spans[number]
        return replace(
            self,
            video=Window(self.video, span.start, span.stop),
            full=None if self.full is None else Window(self.full, span.start, span.stop),
            prompt=asked.prompt,
            negative_prompt=asked.negative_prompt,
            truth=None if self.truth is None else self.truth.part(span.start, asked.prompt),
            ranges=(),
            offset=self.offset + span.start,
        )

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

    def nearest(self, index: int) -> Frame:
        """The key frame that is nearest in time to a frame: by timestamps, which need not be evenly
        spaced. The earlier one where both are equally far, to within the millisecond that
        containers such as Matroska round their times to."""
        if self.left is None or self.right is None:
            key = self.left or self.right
            assert key is not None
            return key
        times = self.video.timestamps
        before, after = (
            times[index] - times[self.left.index],
            times[self.right.index] - times[index],
        )
        return self.right if before - after > Fraction(1, 1000) else self.left
