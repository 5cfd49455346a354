"""Containers of pages and packets one after the other: MPEG streams, FLV, Ogg."""

from __future__ import annotations

import struct
from collections.abc import Iterator

import numpy as np

from rerender.codec.whole.report import Bytes, DamageError

_SYNC = 0x47
_NULL = 0x1FFF
_AT_ONCE = 20_000  # transport packets looked at together


def inspect_ts(data: Bytes) -> bool:
    """Packets begin with their sign, none is marked as broken, and counters count."""
    size, offset = _packet_size(data)
    last: dict[int, int] = {}
    rest = data.size % size
    if rest:
        raise DamageError.cut(f"its last packet has {rest} of {size} bytes")
    for place in range(0, data.size, size * _AT_ONCE):
        block = np.frombuffer(data.read(place, size * _AT_ONCE), np.uint8).reshape(-1, size)
        heads = block[:, offset : offset + 6].astype(int)
        wrong = np.flatnonzero((heads[:, 0] != _SYNC) | (heads[:, 1] & 0x80 != 0))
        if wrong.size:
            raise DamageError.at(place + int(wrong[0]) * size, "a packet is marked as broken")
        pids = (heads[:, 1] & 0x1F) << 8 | heads[:, 2]
        kinds, counters = heads[:, 3] >> 4 & 3, heads[:, 3] & 15
        jumps = (kinds & 2 != 0) & (heads[:, 4] > 0) & (heads[:, 5] & 0x80 != 0)
        for pid in np.unique(pids):
            if pid == _NULL:
                continue
            own = np.flatnonzero((pids == pid) & (kinds & 1 != 0))
            if not own.size:
                continue
            steps = np.diff(counters[own], prepend=last.get(int(pid), counters[own[0]] - 1)) % 16
            # The same packet may come twice, and a counter may jump where that is said.
            lost = own[(steps != 1) & (steps != 0) & ~jumps[own]]
            if lost.size:
                raise DamageError.at(place + int(lost[0]) * size, "packets before it are missing")
            last[int(pid)] = int(counters[own[-1]])
    return False


def _packet_size(data: Bytes) -> tuple[int, int]:
    """(bytes of a packet, place of its sign in it): plain, with time codes, or with parity."""
    for size, offset in ((188, 0), (192, 4), (204, 0)):
        head = data.read(offset, size * 4 + 1)
        if head and all(byte == _SYNC for byte in head[::size][:5]):
            return size, offset
    raise DamageError.at(0, "no packet begins there")


def inspect_ps(data: Bytes) -> bool:
    """Packets of a program stream end where the next begins."""
    place = 0
    while place + 6 <= data.size:
        head = data.read(place, 16)
        code = head[3]
        if head[:3] != b"\0\0\1" or code < 0xB9:
            if not any(data.read(place, 4096)):  # padding to a sector, or at the end
                place += 4096
                continue
            raise DamageError.at(place, "no packet begins there")
        if code == 0xB9:
            place += 4
        elif code == 0xBA:
            place += 14 + (head[13] & 7) if len(head) > 13 and head[4] >> 6 == 1 else 12
        else:
            place += 6 + int.from_bytes(head[4:6], "big")
    if place > data.size:
        raise DamageError.cut(f"its last packet lacks {place - data.size} bytes")
    return place >= 4 and data.read(data.size - 4, 4) == b"\0\0\1\xb9"


def inspect_flv(data: Bytes) -> bool:
    """Tags have the length that is written behind them, and are of one codec for picture and sound
    each: what is of another is passed over by decoders."""
    place, known = data.number(5, 4), False
    codecs: dict[int, int] = {}
    if data.number(place, 4):
        raise DamageError.at(place, "the first tag has one before it")
    place += 4
    while place < data.size:
        head = data.read(place, 11)
        if len(head) < 11:
            raise DamageError.cut(f"its last tag has {len(head)} bytes")
        kind, size = head[0], int.from_bytes(head[1:4], "big")
        if kind & 0x1F not in (8, 9, 18, 15) or any(head[8:11]):
            raise DamageError.at(place, "no tag begins there")
        end = place + 11 + size
        if end > data.size:
            raise DamageError.cut(f"its last tag lacks {end - data.size} bytes")
        if end + 4 > data.size:
            raise DamageError.cut("the length of its last tag is missing")
        if data.number(end, 4) != 11 + size:
            raise DamageError.at(end, "a tag has another length than is written behind it")
        if kind in (8, 9) and size:
            body = data.read(place + 11, 6)
            codec = body[0] >> 4 if kind == 8 else body[0] & (0x80 if body[0] & 0x80 else 0x0F)
            alike = codec == codecs.setdefault(kind, codec)
            if not alike or (kind == 9 and not _is_video(body, size)):
                raise DamageError.at(place + 11, "a tag is of no kind that goes with the others")
        if kind == 18:
            told = _told_size(data.read(place + 11, size))
            if told is not None and told > data.size:
                raise DamageError.cut(f"it lacks {told - data.size} bytes")
            known = known or told is not None
        place = end + 4
    return known


def _is_video(body: bytes, size: int) -> bool:
    """Whether a tag of video is what its first bytes say: a message in place of a picture (frame
    type 5) has two bytes at most, settings of H.264 (packet type 0) begin with their version, and
    the end of its pictures (2) has nothing behind it. Codecs named by four letters (the first bit)
    are not looked at."""
    frame, codec, packet = body[0] >> 4, body[0] & 15, body[1] if size > 4 else None
    if frame & 8:
        return True
    if frame == 5:
        return size <= 2
    if codec == 7:
        begun = packet == 1 or (packet == 0 and body[5:] == b"\1") or (packet == 2 and size == 5)
        return 1 <= frame < 5 and begun
    return 1 <= frame < 5


def _told_size(script: bytes) -> int | None:
    """The size of the file as its header tells it, a double by the name of filesize."""
    place = script.find(b"\x00\x08filesize\x00")
    if place < 0 or place + 19 > len(script):
        return None
    told = struct.unpack(">d", script[place + 11 : place + 19])[0]
    return int(told) if 0 < told < 2**53 else None


def inspect_ogg(data: Bytes) -> bool:
    """Pages have the checksum they say, none is missing, and every stream is closed."""
    numbers: dict[int, int] = {}
    open_streams: set[int] = set()
    for place, serial, number, flags in _pages(data):
        if number != numbers.get(serial, number - 1) + 1 and not flags & 2:
            raise DamageError.at(place, "pages before it are missing")
        numbers[serial] = number
        if flags & 4:
            open_streams.discard(serial)
        else:
            open_streams.add(serial)
    if open_streams:
        raise DamageError.cut("its streams are not closed")
    return True


def _pages(data: Bytes) -> Iterator[tuple[int, int, int, int]]:
    """(place, stream, number, flags) of every page, whose checksum fits."""
    place = 0
    while place < data.size:
        head = data.read(place, 27)
        if len(head) < 27:
            raise DamageError.cut(f"its last page has {len(head)} bytes")
        if head[:5] != b"OggS\0":
            raise DamageError.at(place, "no page begins there")
        table = data.read(place + 27, head[26])
        size = 27 + head[26] + sum(table)
        if len(table) < head[26] or place + size > data.size:
            raise DamageError.cut("within its last page")
        page = bytearray(data.read(place, size))
        page[22:26] = bytes(4)
        if _checksum(page) != int.from_bytes(head[22:26], "little"):
            raise DamageError.at(place, "the checksum of a page does not fit")
        serial, number = struct.unpack("<II", head[14:22])
        yield place, serial, number, head[5]
        place += size


def _table() -> list[int]:
    table = []
    for byte in range(256):
        value = byte << 24
        for _ in range(8):
            value = (value << 1 ^ (0x04C11DB7 if value & 0x80000000 else 0)) & 0xFFFFFFFF
        table.append(value)
    return table


_CRC = _table()


def _checksum(page: bytearray) -> int:
    """The CRC-32 of Ogg: not reflected, nothing inverted."""
    value = 0
    for byte in page:
        value = (value << 8 & 0xFFFFFFFF) ^ _CRC[value >> 24 ^ byte]
    return value
