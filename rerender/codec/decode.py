"""A video file as a Video: lazy frames with random access, strict about damage."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from fractions import Fraction
from functools import cached_property
from pathlib import Path
from threading import Lock
from typing import Any

import av
import av.error
from torch import Tensor

from rerender.codec.concealment import CONCEALING, concealed, stopping
from rerender.codec.container import reason
from rerender.codec.index import Index
from rerender.codec.look import CLEAR, Look, look_of, lost
from rerender.codec.packets import PacketReader
from rerender.codec.picture_ends import overrun
from rerender.errors import InputError
from rerender.video import Video, sha256_file, sha256_of

_KEPT_BYTES = 128 * 2**20
_KEPT_FRAMES = 128  # two segments and more; small frames would pile up to all those bytes
_SHOWN = 2  # pictures kept of frames however large: neighbours are asked for together
_BACK = 8  # frames kept on the way to an earlier frame, for those who go backwards


def cure(offered: bool) -> str:
    """What is said to mend a damaged file; whether to take its beginning is ``offered``."""
    again = "copy or download it again"
    return f"{again}, or set data.allow_truncated=true" if offered else again


@dataclass
class _Kept:
    """A frame that was asked for or passed on the way.

    Attributes:
        frame: as it was decoded; None where the picture alone is kept.
        image: its picture; None where that can be made again.
        alpha: its alpha, where anything is transparent.
    """

    frame: Any
    image: Tensor | None = None
    alpha: Tensor | None = None


class FileVideo(Video):
    """Frames of a video file, decoded when asked for; use ``open_video`` to make one."""

    def __init__(
        self, path: Path, index: Index, window: range, allow_truncated: bool | None
    ) -> None:
        self._path, self._index = path, index
        self._reader = PacketReader(path, index)
        self._allow = allow_truncated
        self.lost: set[str] = set()
        """What reading loses or changes, in words."""
        intact, self._look = self._verify(window)
        self.missing = index.missing + len(window) - intact
        """Frames that the file promises and that do not decode; 0 unless that was allowed."""
        self._pts = index.pts[window.start : window.start + intact]
        self._position = {pts: i for i, pts in enumerate(self._pts)}
        self._times = tuple(pts * index.unit for pts in self._pts)
        self._end = (*index.pts, index.end)[window.start + intact] * index.unit
        self._kept: OrderedDict[int, _Kept] = OrderedDict()
        self._frames: Iterator[tuple[int, Any]] = iter(())
        self._next: int | None = None
        self._one_reader = Lock()  # propagation reads from several threads, FFmpeg allows one

    @property
    def path(self) -> Path:
        """The file."""
        return self._path

    @property
    def size(self) -> tuple[int, int]:
        return self._look.size

    @property
    def timestamps(self) -> Sequence[Fraction]:
        return self._times

    def digest(self) -> str:
        content = bytes.fromhex(sha256_file(self._path))
        return sha256_of(content, repr((self._pts, self._end)).encode())

    @property
    def end(self) -> Fraction:
        return self._end

    @property
    def audio(self) -> Path | None:
        return self._path if self._reader.container.streams.audio else None

    @property
    def transparent(self) -> bool:
        return CLEAR in self.lost

    def alpha(self, index: int) -> Tensor:
        return self._got(index)[1]

    def __getitem__(self, index: int) -> Tensor:
        return self._got(index)[0]

    def _got(self, index: int) -> tuple[Tensor, Tensor]:
        """A frame and its alpha."""
        if not 0 <= index < len(self._pts):
            raise IndexError(f"frame {index} of {len(self._pts)}")
        with self._one_reader:
            if index not in self._kept:
                self._read(index)
            self._kept.move_to_end(index)
            kept = self._kept[index]
            image = self._picture(kept)
            opaque = image.new_ones(1).expand(1, *image.shape[1:])
            return image, opaque if kept.alpha is None else kept.alpha

    def _read(self, index: int) -> None:
        """Decode up to a frame, going on from the last one where that is the shorter way."""
        key = self._reader.key(self._pts[index])
        behind = self._next is not None and index < self._next
        if self._next is None or behind or key.pts > self._pts[self._next]:
            self._frames = self._errors_named(self._reader.decode(key))
        first = index - _BACK if behind else index
        for pts, frame in self._frames:
            position = self._position.get(pts)
            if position is None:
                continue
            if position >= first:
                self._keep(position, frame)
            if position >= index:
                break
        self._next = index + 1 if index + 1 < len(self._pts) else None
        if index not in self._kept:
            problem = f"frame {index} is not where it was when the file was opened"
            raise InputError(self._path, problem, "do not change the file during a run")

    def _keep(self, index: int, frame: Any) -> None:
        """Keep a frame on the way: of small videos as a picture; of large ones as it was decoded,
        in an eighth of the memory, until its picture is asked for."""
        kept = self._kept[index] = _Kept(frame)
        room = max(_BACK + 2, min(_KEPT_FRAMES, self._fitting))
        if self._fitting >= room:
            self._picture(kept)
            kept.frame = None
        while len(self._kept) > room:
            self._kept.popitem(last=False)

    def _picture(self, kept: _Kept) -> Tensor:
        if kept.image is None:
            kept.image = self._look.picture(kept.frame)
            kept.alpha = self._look.alpha(kept.frame) if self.transparent else None
            shown = [each for each in self._kept.values() if each.frame and each.image is not None]
            for each in shown[: -max(self._fitting, _SHOWN)]:
                each.image = each.alpha = None
        return kept.image

    @cached_property
    def _fitting(self) -> int:
        """Pictures of this size for which there is room."""
        height, width = self.size
        return _KEPT_BYTES // (3 * 4 * height * width)

    def _verify(self, window: range) -> tuple[int, Look]:
        """Decode the window once without converting pixels; how many frames are intact.

        From the start of a file nothing is missing that a frame may refer to, so that the decoder
        may stop at any error there; what stops it and costs no picture is passed over.
        """
        index, reader = self._index, self._reader
        name, first = reader.stream.codec_context.name, index.keys[0]
        begins = reader.key(index.pts[window.start]) == first
        if index.leading or not index.exact or not begins or name not in CONCEALING:
            return self._intact(window)
        try:
            stopping(reader.stream)
            found = self._intact(window, stops=True)
            if name != "h264":
                return found
            reader.open()
            bad = overrun(reader.packets(first), reader.stream, index.pts[window.stop - 1])
            if bad is None:
                return found
        except (av.error.FFmpegError, InputError):
            reader.open()
            bad = concealed(reader.packets(first), reader.stream)
        finally:
            reader.open()
        return self._intact(window, bad)

    def _intact(
        self, window: range, bad: int | None = None, stops: bool = False
    ) -> tuple[int, Look]:
        """How many frames of the window decode, and how they look.

        Args:
            window: the frames.
            bad: time of a frame that is known to be damaged.
            stops: an error of the decoder is raised as it is.
        """
        self.lost = set()
        wanted = self._index.pts[window.start : window.stop]
        look, count = None, 0
        try:
            for pts, frame in self._reader.decode(self._reader.key(wanted[0]), strict=True):
                if pts < wanted[0]:
                    continue
                look = look or look_of(frame, self._reader.stream, self._path)
                self._require_intact(frame, look, window, count)
                self.lost |= lost(frame)
                if pts != wanted[count]:
                    self._refuse(window, count, "cannot be decoded (it is left out)")
                if bad is not None and pts >= bad:
                    self._refuse(window, count, "is damaged (parts of it do not decode)")
                count += 1
                if count == len(wanted):
                    return count, look
            self._refuse(window, count, "cannot be decoded (the stream ends there)")
        except av.error.FFmpegError as error:
            if stops:
                raise
            if not self._allow or look is None or not count:
                self._refuse(window, count, f"cannot be decoded ({reason(error)})", error)
        except InputError:
            if stops or not self._allow or look is None or not count:
                raise
        assert look is not None  # both handlers leave otherwise
        return count, look

    def _require_intact(self, frame: Any, look: Look, window: range, count: int) -> None:
        if (frame.height, frame.width) != look.coded:
            problem = (
                f"changes its size at frame {window[count]}, from {look.coded[1]}x{look.coded[0]}"
            )
            problem += f" to {frame.width}x{frame.height}"
            raise InputError(self._path, problem, "cut it there, or convert it to one size")
        if frame.is_corrupt:
            self._refuse(window, count, "is damaged")

    def _refuse(
        self, window: range, count: int, problem: str, error: Exception | None = None
    ) -> None:
        """Refuse frame ``count`` of a window; the frames before it can be used where asked for."""
        total = len(self._index.pts) + self._index.missing
        words = f"frame {window.start + count} of {total} {problem}"
        raise InputError(self._path, words, cure(self._allow is False and count > 0)) from error

    def _errors_named(self, frames: Iterator[tuple[int, Any]]) -> Iterator[tuple[int, Any]]:
        try:
            yield from frames
        except av.error.FFmpegError as error:
            raise InputError(
                self._path, f"cannot be decoded any more ({reason(error)})", "check the disk"
            ) from error
