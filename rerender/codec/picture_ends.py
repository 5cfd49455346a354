"""Damage that H.264 decodes without an error: slices that go on behind the end of their picture.

After a changed byte an arithmetic code decodes to other macroblocks, mostly to enough of them. The
flag ``end_of_slice_flag`` of a picture's last macroblock is 1 (ITU-T H.264, 7.3.4), but decoders do
not look at it there, since they have all that they need. So pictures are decoded as if they were
a row of macroblocks taller: the syntax of a macroblock hangs on those above and to the left of it
alone, so that slices of a whole picture end where they did, and leave just that row. FFmpeg's error
resilience is told to expect a row less (``skip_bottom``), and says where that does not hold.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import suppress
from functools import lru_cache
from itertools import takewhile
from typing import Any

import av
from av.error import FFmpegError

from rerender.codec.concealment import first_concealed
from rerender.codec.container import MAX_PIXELS

_WITH_CHROMA = (100, 110, 122, 244, 44, 83, 86, 118, 128, 138, 139, 134, 135)
"""Profiles whose parameter sets say the format of chroma (7.3.2.1.1)."""
_PARAMETERS = 7  # nal_unit_type of a sequence parameter set


def overrun(packets: Iterable[Any], stream: Any, last: int) -> int | None:
    """The time, in ticks, of the first picture whose slices go on behind its end; None if there is
    none, or where that cannot be told (pictures of fields).

    Args:
        packets: of the stream, in order of decoding, from its beginning on.
        stream: of H.264.
        last: time of the last picture that matters.
    """
    extra = stream.codec_context.extradata or b""
    width = (extra[4] & 3) + 1 if extra[:1] == b"\1" else 0
    decoder = av.CodecContext.create("h264", "r")
    try:
        decoder.extradata = _configured(extra) if width else _annex_b(extra)
        options = {"max_pixels": str(MAX_PIXELS), "skip_bottom": str(_rows(extra, width))}
    except (ValueError, IndexError):  # no parameter set that we can read
        return None
    # Pictures are not looked at: no residual is transformed and nothing is smoothed.
    decoder.options = {**options, "skip_idct": "all", "skip_loop_filter": "all"}
    decoder.thread_count = 1

    def decode(packet: Any) -> None:
        with suppress(FFmpegError, ValueError, IndexError):
            decoder.decode(_taller(packet, width))

    return first_concealed(
        takewhile(lambda each: each.dts is None or each.dts <= last, packets), decode
    )


def _taller(packet: Any, width: int) -> Any:
    """A packet whose parameter sets, if it holds any, say one row more."""
    if not packet.size:
        return None
    data = bytes(packet)
    units = _prefixed(data, width) if width else _started(data)
    if all(data[begin] & 31 != _PARAMETERS for begin, _ in units):
        return packet
    return av.Packet(_lengthened(data, width) if width else _annex_b(data))


def _prefixed(data: bytes, width: int) -> list[tuple[int, int]]:
    """(begin, end) of units behind their lengths."""
    place, found = 0, []
    while place + width < len(data):
        end = place + width + int.from_bytes(data[place : place + width], "big")
        found.append((place + width, end))
        place = end
    return found


def _started(data: bytes) -> list[tuple[int, int]]:
    """(begin, end) of units behind start codes (Annex B)."""
    found, place = [], data.find(b"\0\0\1")
    while 0 <= place < len(data) - 3:
        after = data.find(b"\0\0\1", place + 3)
        found.append((place + 3, len(data) if after < 0 else after))
        place = after
    return found


def _changed(unit: bytes) -> bytes:
    return taller(unit) if unit and unit[0] & 31 == _PARAMETERS else unit


def _lengthened(data: bytes, width: int) -> bytes:
    units = (_changed(data[begin:end]) for begin, end in _prefixed(data, width))
    return b"".join(len(unit).to_bytes(width, "big") + unit for unit in units)


def _annex_b(data: bytes) -> bytes:
    return b"".join(b"\0\0\0\1" + _changed(data[begin:end]) for begin, end in _started(data))


def _sets(extra: bytes) -> Iterator[tuple[int, int]]:
    """(begin, end) of the sequence parameter sets of a decoder configuration record (ISO/IEC
    14496-15, 5.3.3)."""
    place = 6
    for _ in range(extra[5] & 31):
        end = place + 2 + int.from_bytes(extra[place : place + 2], "big")
        yield place + 2, end
        place = end


def _configured(extra: bytes) -> bytes:
    """A decoder configuration record whose parameter sets say one row more."""
    made, last = extra[:6], 6
    for begin, end in _sets(extra):
        unit = taller(extra[begin:end])
        made, last = made + len(unit).to_bytes(2, "big") + unit, end
    return made + extra[last:]


def _rows(extra: bytes, width: int) -> int:
    """Rows of macroblocks by which pictures of the first parameter set become taller."""
    units = list(_sets(extra)) if width else _started(extra)
    first = next(extra[a:b] for a, b in [*units, (0, 0)] if extra[a:b][:1] and extra[a] & 31 == 7)
    return _Parameters(first).rows


@lru_cache(16)  # a stream repeats its parameter sets at every key frame
def taller(unit: bytes) -> bytes:
    """A sequence parameter set whose pictures have one more unit of rows.

    Raises:
        ValueError, IndexError: it is none.
    """
    return _Parameters(unit).with_height(1)


class _Parameters:
    """Where a sequence parameter set says the height of pictures (7.3.2.1.1).

    Args:
        unit: the NAL unit.
    """

    def __init__(self, unit: bytes) -> None:
        self._bits = "".join(f"{byte:08b}" for byte in unit.replace(b"\0\0\3", b"\0\0"))
        self._place = 8
        profile = self._number(8)
        self._number(16)  # constraints and level
        self._exp_golomb()
        if profile in _WITH_CHROMA:
            self._chroma()
        self._exp_golomb()
        order = self._exp_golomb()  # pic_order_cnt_type
        if order == 0:
            self._exp_golomb()
        elif order == 1:
            self._number(1)
            for _ in range(2):
                self._exp_golomb()
            for _ in range(self._exp_golomb()):
                self._exp_golomb()
        self._exp_golomb()
        self._number(1)
        self._exp_golomb()  # pic_width_in_mbs_minus1
        self._begin = self._place
        self._height = self._exp_golomb()  # pic_height_in_map_units_minus1
        self._end = self._place
        self.rows = 2 - self._number(1)  # frame_mbs_only_flag
        """Rows of macroblocks in a unit of height."""

    def with_height(self, more: int) -> bytes:
        """The NAL unit with that many units of height more."""
        code = f"{self._height + more + 1:b}"
        height = "0" * (len(code) - 1) + code
        bits = self._bits[: self._begin] + height + self._bits[self._end :].rstrip("0")
        bits += "0" * (-len(bits) % 8)
        return _escaped(bytes(int(bits[i : i + 8], 2) for i in range(0, len(bits), 8)))

    def _number(self, count: int) -> int:
        begin, self._place = self._place, self._place + count
        return int(self._bits[begin : self._place], 2)

    def _exp_golomb(self) -> int:
        zeros = self._bits.index("1", self._place) - self._place
        self._place += zeros
        return self._number(zeros + 1) - 1

    def _chroma(self) -> None:
        """Pass over the format of chroma, depths and scaling matrices."""
        planes = self._exp_golomb()
        if planes == 3:
            self._number(1)
        for _ in range(2):
            self._exp_golomb()
        self._number(1)
        if self._number(1):
            for index in range(12 if planes == 3 else 8):
                if self._number(1):
                    self._scaling(16 if index < 6 else 64)

    def _scaling(self, count: int) -> None:
        last = 8
        for _ in range(count):
            code = self._exp_golomb()
            last = (last + (code + 1) // 2 * (1 if code % 2 else -1)) % 256
            if last == 0:  # the rest is as the last one
                return


def _escaped(data: bytes) -> bytes:
    """With the bytes that keep a unit from holding a start code (7.4.1)."""
    made, zeros = bytearray(), 0
    for byte in data:
        if zeros >= 2 and byte <= 3:
            made.append(3)
            zeros = 0
        made.append(byte)
        zeros = zeros + 1 if byte == 0 else 0
    return bytes(made)
