"""Matroska and WebM: elements within elements, with checksums where their writer made them."""

from __future__ import annotations

import zlib
from collections.abc import Iterator, Mapping
from typing import NamedTuple

from rerender.codec.whole.report import Bytes, DamageError

_EBML, _SEGMENT, _CLUSTER = 0x1A45DFA3, 0x18538067, 0x1F43B675
_CRC, _VOID = 0xBF, 0xEC
_INFO, _DURATION = 0x1549A966, 0x4489
_TOP = {
    *(_CLUSTER, _INFO, _CRC, _VOID),
    *(0x114D9B74, 0x1654AE6B, 0x1C53BB6B, 0x1941A469, 0x1043A770, 0x1254C367),
}  # seek head, tracks, cues, attachments, chapters, tags
_TRACKS, _TRACK, _NUMBER, _TYPE, _CODEC, _ENCODINGS = 0x1654AE6B, 0xAE, 0xD7, 0x83, 0x86, 0x6D80
_SIMPLE, _GROUP, _BLOCK, _PICTURES = 0xA3, 0xA0, 0xA1, 1
# Within a cluster: time, position, previous size, blocks of either kind, silent and encrypted ones.
_INNER = {0xE7, 0xA7, 0xAB, 0xA3, 0xA0, 0x5854, 0xAF, _CRC, _VOID}


class _Element(NamedTuple):
    number: int
    begin: int  # of what it holds
    end: int | None  # None where it does not say


class _Track(NamedTuple):
    kind: int  # 1 of pictures
    codec: bytes  # such as V_VP8; b"" where its frames are stored in another form


def _element(data: Bytes, place: int) -> _Element:
    head = data.read(place, 12)
    wide = 9 - head[0].bit_length() if head else 9
    if wide > 4 or len(head) <= wide:
        raise DamageError.at(place, "no element begins there")
    number = int.from_bytes(head[:wide], "big")
    size_wide = 9 - head[wide].bit_length()
    if size_wide > 8 or len(head) < wide + size_wide:
        raise DamageError.at(place, "no element begins there")
    bits = 7 * size_wide
    size = int.from_bytes(head[wide : wide + size_wide], "big") & ((1 << bits) - 1)
    begin = place + wide + size_wide
    return _Element(number, begin, None if size == (1 << bits) - 1 else begin + size)


def inspect_ebml(data: Bytes) -> bool:
    """Elements end within those around them and within the file, and their checksums fit."""
    header = _element(data, 0)
    if header.number != _EBML or header.end is None:
        raise DamageError.at(0, "no header is there")
    segment = _element(data, header.end)
    if segment.number != _SEGMENT:
        raise DamageError.at(header.end, "no segment begins there")
    if segment.end is not None and segment.end > data.size:
        raise DamageError.cut(f"it lacks {segment.end - data.size} bytes")
    end = data.size if segment.end is None else segment.end
    known = segment.end is not None
    tracks: dict[int, _Track] = {}
    for element in _children(data, segment.begin, end, _TOP):
        if element.end is None:
            continue
        if element.end > end:
            raise DamageError.cut(f"its last element lacks {element.end - end} bytes")
        _require_checksum(data, element)
        if element.number == _CLUSTER:
            _require_blocks(data, element, tracks)
        elif element.number in (_SIMPLE, _GROUP):
            _require_block(data, element, tracks)
        elif element.number == _TRACKS:
            tracks |= _tracks(data, element)
        elif element.number == _INFO:
            inner = _children(data, element.begin, element.end, None)
            known = known or any(part.number == _DURATION for part in inner)
    return known


def summed_ebml(data: Bytes) -> bool:
    """Whether the first cluster of a whole file begins with a checksum."""
    segment = _element(data, _element(data, 0).end or 0)
    for element in _children(data, segment.begin, segment.end or data.size, _TOP):
        if element.number == _CLUSTER:
            return data.read(element.begin, 2) == b"\xbf\x84"
    return False


def _children(data: Bytes, place: int, end: int, allowed: set[int] | None) -> Iterator[_Element]:
    """Elements side by side; one without a size is entered, since its end is not known."""
    open_cluster = False
    while place < end:
        element = _element(data, place)
        inner = open_cluster and element.number in _INNER
        if allowed is not None and element.number not in allowed and not inner:
            raise DamageError.at(place, "an element of no known kind begins there")
        yield element
        if element.end is None and element.number != _CLUSTER:
            raise DamageError.at(place, "an element has no size")
        open_cluster = inner or (element.number == _CLUSTER and element.end is None)
        place = element.begin if element.end is None else element.end


def _require_checksum(data: Bytes, element: _Element) -> None:
    """A checksum is the first element of what it covers: all that comes behind it."""
    assert element.end is not None
    if element.end - element.begin < 6 or data.read(element.begin, 2) != b"\xbf\x84":
        return
    value, place = 0, element.begin + 6
    while place < element.end:
        block = data.read(place, min(element.end - place, 2**20))
        value, place = zlib.crc32(block, value), place + len(block)
    if value != data.number(element.begin + 2, 4, "little"):
        raise DamageError.at(element.begin, "a checksum does not fit")


def _require_blocks(data: Bytes, cluster: _Element, tracks: Mapping[int, _Track]) -> None:
    assert cluster.end is not None
    for element in _children(data, cluster.begin, cluster.end, _INNER):
        if element.end is None or element.end > cluster.end:
            raise DamageError.at(element.begin, "an element is larger than the one around it")
        _require_block(data, element, tracks)


def _tracks(data: Bytes, tracks: _Element) -> dict[int, _Track]:
    """Tracks by the number that their blocks begin with."""
    found = {}
    assert tracks.end is not None
    for entry in _children(data, tracks.begin, tracks.end, None):
        if entry.number != _TRACK or entry.end is None:
            continue
        said: dict[int, bytes] = {}
        for part in _children(data, entry.begin, entry.end, None):
            if part.number in (_NUMBER, _TYPE, _CODEC, _ENCODINGS):
                said[part.number] = data.read(part.begin, min((part.end or 0) - part.begin, 64))
        codec = b"" if _ENCODINGS in said else said.get(_CODEC, b"").rstrip(b"\0")
        number, kind = (int.from_bytes(said.get(key, b"")) for key in (_NUMBER, _TYPE))
        found[number] = _Track(kind, codec)
    return found


def _require_block(data: Bytes, block: _Element, tracks: Mapping[int, _Track]) -> None:
    """A block belongs to a track, has no flag that is not defined, and one of pictures holds one
    frame, since demuxers split others at sizes that are written in it (RFC 9559, 10.2 and 10.3)."""
    if block.number == _GROUP and block.end is not None:
        for part in _children(data, block.begin, block.end, None):
            if part.number == _BLOCK:
                _require_block(data, part, tracks)
    if block.number not in (_SIMPLE, _BLOCK) or block.end is None:
        return
    head = data.read(block.begin, min(block.end - block.begin, 20))
    wide = 9 - head[0].bit_length() if head else 9
    if len(head) < wide + 3:
        raise DamageError.at(block.begin, "a block has no head")
    number, flags = int.from_bytes(head[:wide]) & ((1 << 7 * wide) - 1), head[wide + 2]
    track = tracks.get(number)
    if tracks and track is None:
        raise DamageError.at(block.begin, "a block belongs to no track")
    if block.number == _SIMPLE and flags & 0x70:
        raise DamageError.at(block.begin + wide + 2, "a block has flags that are not defined")
    if track is not None and track.kind == _PICTURES:
        if flags & 0x06:
            raise DamageError.at(block.begin + wide + 2, "a block holds several pictures")
        if track.codec == b"V_VP8":
            size = block.end - block.begin - wide - 3
            _require_vp8(block.begin + wide + 3, head[wide + 3 :], size)


def _require_vp8(place: int, head: bytes, size: int) -> None:
    """A frame's tag: a known version, a first part that is not larger than the frame, and the start
    code of a key frame (RFC 6386, 9.1)."""
    if not size:  # a frame that was dropped
        return
    tag = int.from_bytes(head[:3], "little")
    key = not tag & 1
    if size < (10 if key else 3) or tag >> 5 > size - (10 if key else 3) or (tag >> 1) & 7 > 3:
        raise DamageError.at(place, "a frame's head does not fit it")
    if key and head[3:6] != b"\x9d\x01\x2a":
        raise DamageError.at(place, "a key frame has no start code")
