"""GIF: blocks of known lengths, pictures of known size, and a byte that closes the file."""

from __future__ import annotations

from rerender.codec.whole.report import Bytes, DamageError

_MOST_CODES = 20_000_000  # pictures are taken apart up to so many codes in all: seconds
_EXTENSIONS = {0x01, 0xF9, 0xFE, 0xFF}  # text, control, comment, application: GIF89a has no other


def inspect_gif(data: Bytes) -> bool:
    """Blocks follow each other to the trailer, and each picture's data fills it exactly.

    Readers pass over extensions that they do not know. There is none, so that one is most likely a
    picture whose head was lost: then nobody knows how many there should be.
    """
    place, codes, known = 13 + _colors(data.number(10, 1)), 0, True
    while True:
        if place >= data.size:
            raise DamageError.cut("the byte that closes it is missing")
        kind = data.number(place, 1)
        if kind == 0x3B:
            return known
        if kind == 0x21:
            known = known and data.number(place + 1, 1) in _EXTENSIONS
            place, _ = _blocks(data, place + 2)
        elif kind == 0x2C:
            width, height = (data.number(place + at, 2, "little") for at in (5, 7))
            begin = place + 10 + _colors(data.number(place + 9, 1))
            bits = data.number(begin, 1)
            end, packed = _blocks(data, begin + 1)
            if not 1 <= bits <= 11:
                raise DamageError.at(begin, "a picture has codes of no known width")
            if codes < _MOST_CODES:
                codes += _require_filled(packed, bits, width * height, place)
            place = end
        else:
            raise DamageError.at(place, "no block begins there")


def _colors(flags: int) -> int:
    """Bytes of a table of colours."""
    return 3 << (flags & 7) + 1 if flags & 0x80 else 0


def _blocks(data: Bytes, place: int) -> tuple[int, bytes]:
    """(where they end, what they hold) of the parts of a block, of up to 255 bytes each."""
    parts = []
    while size := data.number(place, 1):
        part = data.read(place + 1, size)
        if len(part) < size:
            raise DamageError.cut("within a block")
        parts.append(part)
        place += 1 + size
    return place + 1, b"".join(parts)


def _require_filled(packed: bytes, bits: int, pixels: int, place: int) -> int:
    """Follow the codes of a picture by the lengths of what they stand for; how many there are.

    A code that is not in the table yet, or pixels beyond or short of the picture, mean damage.
    """
    clear, stop = 1 << bits, (1 << bits) + 1
    lengths = [1] * (stop + 1)
    width, before, done, read = bits + 1, 0, 0, 0
    value, held, count = 0, 0, 0
    for byte in packed:
        value |= byte << held
        held += 8
        while held >= width:
            code = value & (1 << width) - 1
            value >>= width
            held -= width
            count += 1
            if code == stop:
                if done != pixels or read < len(packed) - 2:
                    raise DamageError.at(place, f"a picture of {pixels} pixels has data for {done}")
                return count
            if code == clear:
                lengths, width, before = [1] * (stop + 1), bits + 1, 0
                continue
            if before and len(lengths) < 4096:
                lengths.append(before + 1)
            if code >= len(lengths):
                raise DamageError.at(place, "a picture holds a code that stands for nothing")
            before = lengths[code]
            done += before
            if done > pixels:
                raise DamageError.at(place, f"a picture of {pixels} pixels has data for more")
            if len(lengths) >= 1 << width and width < 12:
                width += 1
        read += 1
    if done != pixels:  # encoders may leave the last code out
        raise DamageError.at(place, f"a picture of {pixels} pixels has data for {done}")
    return count
