"""Containers of sized boxes: mp4 and mov, AVI, ASF."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from typing import NamedTuple

from rerender.codec.whole.report import Bytes, DamageError

_MOST_BOXES = 10**6  # far more than files have; what is beyond is not looked at


class _Box(NamedTuple):
    kind: bytes
    begin: int  # of what it holds
    end: int


def _boxes(data: Bytes, place: int, end: int) -> Iterator[_Box]:
    """Boxes of ISO/IEC 14496-12 side by side in a range; a size of 0 reaches to its end."""
    while place + 8 <= end:
        size, kind, header = data.number(place, 4), data.read(place + 4, 4), 8
        if size == 1:
            size, header = data.number(place + 8, 8), 16
        size = size or end - place
        if size < header or not all(0x20 <= byte < 0x7F or byte == 0xA9 for byte in kind):
            if place and end == data.size and not any(data.read(place, 64)):
                return  # zeros behind the last box
            raise DamageError.at(place, "no box begins there")
        yield _Box(kind, place + header, place + size)
        place += size


def inspect_mp4(data: Bytes) -> bool:
    """Boxes end within the file; fragments add up to what an index of them says."""
    kinds: Counter[bytes] = Counter()
    fragments = 0
    for box in _boxes(data, 0, data.size):
        if box.end > data.size:
            missing = box.end - data.size
            raise DamageError.cut(f"its {box.kind.decode('latin-1')} lacks {missing} bytes")
        kinds[box.kind] += 1
        if box.kind == b"moof":
            fragments += 1
            _require_fragment(data, box)
        elif box.kind == b"moov":
            for track in (inner for inner in _inner(data, box) if inner.kind == b"trak"):
                _require_samples(data, track)
        elif box.kind == b"sidx":
            _require_segments(data, box)
        elif box.kind == b"mfra":
            _require_fragments(data, box, fragments)
    # A fragmented file goes on for as long as it is written; only an index at its end closes it.
    return not fragments or b"mfra" in kinds or b"sidx" in kinds


def _inner(data: Bytes, box: _Box) -> Iterator[_Box]:
    """Boxes within one, which may not stick out of it."""
    for inner in _boxes(data, box.begin, box.end):
        if inner.end > box.end:
            raise DamageError.at(inner.begin, "a box is larger than the one around it")
        yield inner


def _require_samples(data: Bytes, track: _Box) -> None:
    """The tables of a track give as many times as sizes."""
    box = track
    for kind in (b"mdia", b"minf", b"stbl"):
        found = [inner for inner in _inner(data, box) if inner.kind == kind]
        if not found:
            return
        box = found[0]
    times = sizes = None
    for table in _inner(data, box):
        if table.kind == b"stts":
            count = data.number(table.begin + 4, 4)
            rows = data.read(table.begin + 8, min(8 * count, table.end - table.begin - 8))
            times = sum(int.from_bytes(rows[i : i + 4], "big") for i in range(0, len(rows), 8))
        elif table.kind in (b"stsz", b"stz2"):
            sizes = data.number(table.begin + 8, 4)
    if times is not None and sizes is not None and times != sizes:
        raise DamageError(f"is damaged (a track has {sizes} samples and times for {times})")


def _require_fragment(data: Bytes, moof: _Box) -> None:
    """The sizes that a fragment gives its samples fit into the data behind it."""
    for traf in (box for box in _inner(data, moof) if box.kind == b"traf"):
        default, room = 0, 0
        for box in _inner(data, traf):
            flags = data.number(box.begin + 1, 3)
            if box.kind == b"tfhd" and flags & 0x10:
                skipped = sum(size for bit, size in ((1, 8), (2, 4), (8, 4)) if flags & bit)
                default = data.number(box.begin + 8 + skipped, 4)
            elif box.kind == b"trun":
                room += _run(data, box, flags, default)
        behind = data.number(moof.end, 4) if moof.end + 8 <= data.size else 0
        if data.read(moof.end + 4, 4) == b"mdat" and behind > 1 and room > behind - 8:
            raise DamageError.at(moof.begin, "its samples are larger than the data behind it")


def _run(data: Bytes, trun: _Box, flags: int, default: int) -> int:
    """Bytes of the samples of a run; its entries fill it exactly."""
    count = data.number(trun.begin + 4, 4)
    head = 8 + 4 * bool(flags & 1) + 4 * bool(flags & 4)
    columns = [flags & bit for bit in (0x100, 0x200, 0x400, 0x800)]
    width = 4 * sum(map(bool, columns))
    if trun.begin + head + count * width != trun.end:
        raise DamageError.at(trun.begin, "a run of samples has another length than it says")
    if not columns[1]:
        return count * default
    table = data.read(trun.begin + head, count * width)
    place = 4 * bool(columns[0])
    return sum(int.from_bytes(table[i + place : i + place + 4], "big") for i in
               range(0, count * width, width))  # fmt: skip


def _require_segments(data: Bytes, sidx: _Box) -> None:
    """The segments that an index lists are in the file."""
    version = data.number(sidx.begin, 1)
    wide = 8 if version else 4
    place = sidx.begin + 12 + wide
    first, count = data.number(place, wide), data.number(place + wide + 2, 2)
    sizes = (data.number(place + wide + 4 + 12 * i, 4) & 0x7FFFFFFF for i in range(count))
    end = sidx.end + first + sum(sizes)
    if end > data.size:
        raise DamageError.cut(f"its index lists {end - data.size} bytes more")


def _require_fragments(data: Bytes, mfra: _Box, fragments: int) -> None:
    """An index at the end names no fragment that is not there, nor fewer than there are."""
    for box in _inner(data, mfra):
        if box.kind != b"tfra":
            continue
        version, sizes = data.number(box.begin, 1), data.number(box.begin + 8, 4)
        count, wide = data.number(box.begin + 12, 4), 8 if version else 4
        step = 2 * wide + sum(((sizes >> shift) & 3) + 1 for shift in (4, 2, 0))
        if box.begin + 16 + count * step != box.end or count > fragments:
            raise DamageError.at(box.begin, "the index of its fragments does not fit them")
        for number in range(count):
            place = data.number(box.begin + 16 + number * step + wide, wide)
            if data.read(place + 4, 4) != b"moof":
                raise DamageError.at(place, "no fragment is where its index says")


def inspect_avi(data: Bytes) -> bool:
    """Lists and chunks end within the file, and there are as many of each stream as it says."""
    place, counts, promised = 0, Counter[bytes](), dict[int, int]()
    while place + 12 <= data.size:
        kind, size = data.read(place, 4), data.number(place + 4, 4, "little")
        if kind != b"RIFF":
            break  # something else behind it
        end = place + 8 + size
        if end > data.size and size:
            raise DamageError.cut(f"its {data.read(place + 8, 4).decode('latin-1')} lacks"
                             f" {end - data.size} bytes")  # fmt: skip
        _walk(data, place + 12, min(end, data.size) if size else data.size, counts, promised)
        place = end + size % 2 if size else data.size
    for stream, frames in promised.items():
        there = sum(count for name, count in counts.items() if name[:2] == b"%02d" % stream)
        if there < frames:
            raise DamageError(f"{there} of {frames} frames are there, the file is cut off")
    return True


def _walk(
    data: Bytes, place: int, end: int, counts: Counter[bytes], promised: dict[int, int]
) -> None:
    """Count the chunks of a list with the lists in it, and read how many a stream should have."""
    video = False
    while place + 8 <= end and sum(counts.values()) < _MOST_BOXES:
        kind, size = data.read(place, 4), data.number(place + 4, 4, "little")
        if place + 8 + size > end:
            raise DamageError.at(place, "a chunk is larger than the list around it")
        if kind == b"LIST":
            _walk(data, place + 12, place + 8 + size, counts, promised)
        elif kind == b"strh":
            video = data.read(place + 8, 4) == b"vids"
            promised[len(promised)] = data.number(place + 40, 4, "little") if video else 0
        elif kind[:2].isdigit():
            counts[kind] += 1
        place += 8 + size + size % 2


_ASF_DATA = bytes.fromhex("3626b2758e66cf11a6d900aa0062ce6c")
_ASF_FILE = bytes.fromhex("a1dcab8c47a9cf118ee400c00c205365")


def inspect_asf(data: Bytes) -> bool:
    """The packets that the header promises are in the file."""
    place, head, known = 0, data.number(16, 8, "little"), False
    inner = 30
    while inner + 24 <= min(head, data.size):
        size = data.number(inner + 16, 8, "little")
        if data.read(inner, 16) == _ASF_FILE:
            known = not data.number(inner + 88, 4, "little") & 1  # a broadcast knows no end
            promised = data.number(inner + 40, 8, "little")
            if known and promised > data.size:
                raise DamageError.cut(f"it lacks {promised - data.size} bytes")
        if size < 24:
            raise DamageError.at(inner, "an object of its header has no size")
        inner += size
    while place + 24 <= data.size:
        size = data.number(place + 16, 8, "little")
        if size < 24:
            return known and data.read(place, 16) == _ASF_DATA
        if place + size > data.size:
            raise DamageError.cut(f"it lacks {place + size - data.size} bytes")
        place += size
    return known
