"""Packets and frames of one open file, from any of its key frames on."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from rerender.codec.container import open_container
from rerender.codec.index import (
    Index,
    Key,
    decoded,
    has_alpha_beside,
    strict_decoder,
    video_stream,
)

_SECOND_TRY = 10  # seconds to seek further back where a seek landed too late


class PacketReader:
    """Reads a file from a key frame on, opening it again where its container cannot seek.

    Args:
        path: the file.
        index: of its stream.
    """

    def __init__(self, path: Path, index: Index) -> None:
        self._path, self._index = path, index
        self.open()

    def open(self) -> None:
        """Open the file, or open it again."""
        self.container = open_container(self._path)
        self.stream = video_stream(self.container, self._path)

    def key(self, pts: int) -> Key:
        """The key frame from which the frame at a time, in ticks, is decoded."""
        keys = self._index.keys
        return keys[max(bisect_right(keys, pts, key=lambda key: key.pts) - 1, 0)]

    def decode(self, key: Key, strict: bool = False) -> Iterator[tuple[int, Any]]:
        """(time in ticks, decoded frame) in display order from a key frame on."""
        if not self._index.exact:  # times are known by counting from the start only
            self.open()
            decoder = self._decoder(strict)
            frames = decoded(self.container, self.stream, decoder, self._index.leading)
            yield from zip(self._index.pts, frames, strict=False)
            return
        decoder = self._decoder(strict)
        for packet in self.packets(key):
            for frame in decoder.decode(packet if packet.size else None):
                yield frame.pts, frame

    def _decoder(self, strict: bool) -> Any:
        if strict or has_alpha_beside(self.stream):
            return strict_decoder(self.stream)
        return self.stream.codec_context

    def packets(self, key: Key) -> Iterator[Any]:
        """Packets from a key frame on; a seek that lands behind it is tried again from earlier."""
        for back in (0, _SECOND_TRY, None):
            if back is None:  # a container that cannot seek is read from its start
                self.open()
            else:
                ticks = key.seek - int(back / self._index.unit)
                self.container.seek(ticks, stream=self.stream, backward=True)
            packets = self._from(key)
            first = next(packets, None)
            if first is not None:
                yield first
                yield from packets
                return

    def _from(self, key: Key) -> Iterator[Any]:
        found = False
        for packet in self.container.demux(self.stream):
            found = found or (packet.is_keyframe and packet.pts == key.pts)
            if not found and packet.dts is not None and packet.dts > key.seek:
                return
            # Frames shown before the key frame but stored after it hang on what was not decoded.
            if found and (packet.pts is None or packet.pts >= key.pts):
                yield packet
