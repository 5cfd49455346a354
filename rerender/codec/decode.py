"""A video file as a Video: lazy frames with random access, strict about damage."""

from __future__ import annotations

import logging
from bisect import bisect_right
from collections import OrderedDict
from collections.abc import Iterator, Sequence
from fractions import Fraction
from pathlib import Path
from threading import Lock
from typing import Any

import av
import av.error
from torch import Tensor

from rerender.codec.container import open_container, reason
from rerender.codec.index import Index, Key, scan, video_stream
from rerender.codec.look import Look, look_of
from rerender.errors import ConfigError, InputError
from rerender.video import Video, sha256_file, sha256_of

log = logging.getLogger(__name__)
_KEPT_BYTES = 128 * 2**20
_KEPT_FRAMES = 128  # two segments and more; small frames would pile up to all those bytes
_BACK = 8  # frames kept on the way to an earlier frame, for those who go backwards
_SECOND_TRY = 10  # seconds to seek further back where a seek landed too late


def open_video(
    path: Path | str, start: int = 0, frames: int | None = None, allow_truncated: bool = False
) -> FileVideo:
    """Open a video file and check every frame that is asked for.

    All packets are read (not decoded) to count frames, and the frames of the window are decoded
    once, so that damage is found before anything heavy starts. Rotation, mirroring and the shape of
    pixels are applied; colours are read as ``rerender.codec.color`` says; times are kept exactly.

    Args:
        path: a plain file in a common container; playlists, addresses and devices are refused.
        start: first frame.
        frames: how many frames from there; None means to the end.
        allow_truncated: take the undamaged beginning of a damaged file (see ``FileVideo.missing``).

    Raises:
        InputError: the file is missing, not a video, damaged, or has fewer frames than it says.
        ConfigError: the window is not inside the video.
    """
    path = Path(path)
    container = open_container(path)
    stream = video_stream(container, path)
    index = scan(container, stream, path)
    if index.missing and not allow_truncated:
        there = len(index.pts)
        problem = f"{there} of {there + index.missing} frames decode, the file is cut off"
        raise InputError(path, problem, "copy it again, or set data.allow_truncated=true")
    window = _window(path, len(index.pts), start, frames)
    container.close()
    return FileVideo(path, index, window, allow_truncated)


def _window(path: Path, total: int, start: int, frames: int | None) -> range:
    if not 0 <= start < total:
        raise ConfigError(
            "data.start", f"frame {start} is not in {path}, which has {total}", "choose another"
        )
    if frames is None:
        return range(start, total)
    if frames < 1:
        raise ConfigError("data.frames", f"at least 1 is needed, received {frames}", "ask for more")
    if start + frames > total:
        problem = f"{frames} frames from frame {start} are not in {path}, which has {total}"
        raise ConfigError("data.frames", problem, f"ask for at most {total - start}")
    return range(start, start + frames)


class FileVideo(Video):
    """Frames of a video file, decoded when asked for; use ``open_video`` to make one."""

    def __init__(self, path: Path, index: Index, window: range, allow_truncated: bool) -> None:
        self._path, self._index = path, index
        self._open()
        intact, self._look = self._verify(window, allow_truncated)
        self.missing = index.missing + len(window) - intact
        """Frames that the file promises and that do not decode; 0 unless that was allowed."""
        if self.missing:
            log.warning(
                "%s: %d frames are missing or damaged, going on without", path, self.missing
            )
        self._pts = index.pts[window.start : window.start + intact]
        self._position = {pts: i for i, pts in enumerate(self._pts)}
        self._times = tuple(pts * index.unit for pts in self._pts)
        self._end = (*index.pts, index.end)[window.start + intact] * index.unit
        self._kept: OrderedDict[int, Tensor] = OrderedDict()
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
        return self._path if self._container.streams.audio else None

    def __getitem__(self, index: int) -> Tensor:
        if not 0 <= index < len(self._pts):
            raise IndexError(f"frame {index} of {len(self._pts)}")
        with self._one_reader:
            if index not in self._kept:
                self._read(index)
            self._kept.move_to_end(index)
            return self._kept[index]

    def _read(self, index: int) -> None:
        """Decode up to a frame, going on from the last one where that is the shorter way."""
        key = self._key(self._pts[index])
        behind = self._next is not None and index < self._next
        if self._next is None or behind or key.pts > self._pts[self._next]:
            self._frames = self._errors_named(self._decode(key))
        first = index - _BACK if behind else index
        for pts, frame in self._frames:
            position = self._position.get(pts)
            if position is None:
                continue
            if position >= first:
                self._keep(position, self._look.picture(frame))
            if position >= index:
                break
        self._next = index + 1 if index + 1 < len(self._pts) else None
        if index not in self._kept:
            problem = f"frame {index} is not where it was when the file was opened"
            raise InputError(self._path, problem, "do not change the file during a run")

    def _keep(self, index: int, image: Tensor) -> None:
        self._kept[index] = image
        fitting = _KEPT_BYTES // (image.numel() * image.element_size())
        room = max(_BACK + 2, min(_KEPT_FRAMES, fitting))
        while len(self._kept) > room:
            self._kept.popitem(last=False)

    def _open(self) -> None:
        self._container = open_container(self._path)
        self._stream = video_stream(self._container, self._path)

    def _key(self, pts: int) -> Key:
        keys = self._index.keys
        return keys[max(bisect_right(keys, pts, key=lambda key: key.pts) - 1, 0)]

    def _verify(self, window: range, allow_truncated: bool) -> tuple[int, Look]:
        """Decode the window once without converting pixels; how many frames are intact."""
        wanted = self._index.pts[window.start : window.stop]
        look, count = None, 0
        try:
            for pts, frame in self._decode(self._key(wanted[0])):
                if pts < wanted[0]:
                    continue
                look = look or look_of(frame, self._stream, self._path)
                self._require_intact(frame, look, window.start + count)
                if pts != wanted[count]:
                    self._refuse(window.start + count, "cannot be decoded (it is left out)")
                count += 1
                if count == len(wanted):
                    return count, look
            self._refuse(window.start + count, "cannot be decoded (the stream ends there)")
        except av.error.FFmpegError as error:
            if not allow_truncated or look is None or not count:
                self._refuse(window.start + count, f"cannot be decoded ({reason(error)})", error)
        except InputError:
            if not allow_truncated or look is None or not count:
                raise
        assert look is not None  # both handlers leave otherwise
        return count, look

    def _require_intact(self, frame: Any, look: Look, index: int) -> None:
        if (frame.height, frame.width) != look.coded:
            problem = f"changes its size at frame {index}, from {look.coded[1]}x{look.coded[0]}"
            problem += f" to {frame.width}x{frame.height}"
            raise InputError(self._path, problem, "cut it there, or convert it to one size")
        if frame.is_corrupt:
            self._refuse(index, "is damaged")

    def _refuse(self, index: int, problem: str, error: Exception | None = None) -> None:
        total = len(self._index.pts) + self._index.missing
        cure = "copy or download it again, or set data.allow_truncated=true"
        raise InputError(self._path, f"frame {index} of {total} {problem}", cure) from error

    def _errors_named(self, frames: Iterator[tuple[int, Any]]) -> Iterator[tuple[int, Any]]:
        try:
            yield from frames
        except av.error.FFmpegError as error:
            raise InputError(
                self._path, f"cannot be decoded any more ({reason(error)})", "check the disk"
            ) from error

    def _decode(self, key: Key) -> Iterator[tuple[int, Any]]:
        """(time in ticks, decoded frame) in display order from a key frame on."""
        if not self._index.exact:  # times are known by counting from the start only
            self._open()
            yield from zip(self._index.pts, self._container.decode(self._stream), strict=False)
            return
        for packet in self._packets(key):
            for frame in packet.decode():
                yield frame.pts, frame

    def _packets(self, key: Key) -> Iterator[Any]:
        """Packets from a key frame on; a seek that lands behind it is tried again from earlier."""
        for back in (0, _SECOND_TRY, None):
            if back is None:  # a container that cannot seek is read from its start
                self._open()
            else:
                ticks = key.seek - int(back / self._index.unit)
                self._container.seek(ticks, stream=self._stream, backward=True)
            packets = self._from(key)
            first = next(packets, None)
            if first is not None:
                yield first
                yield from packets
                return

    def _from(self, key: Key) -> Iterator[Any]:
        found = False
        for packet in self._container.demux(self._stream):
            found = found or (packet.is_keyframe and packet.pts == key.pts)
            if not found and packet.dts is not None and packet.dts > key.seek:
                return
            # Frames shown before the key frame but stored after it hang on what was not decoded.
            if found and (packet.pts is None or packet.pts >= key.pts):
                yield packet
