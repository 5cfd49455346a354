"""What file names say: frames of other tools, order, gaps, names of clips."""

from __future__ import annotations

from pathlib import Path

import pytest

from rerender.data.names import clip_name, frame_numbers, in_order, irregular
from rerender.errors import InputError


def paths(*names: str) -> list[Path]:
    return [Path(name) for name in names]


@pytest.mark.parametrize(
    ("names", "frames"),
    [
        (("0.png", "10.png", "9.png"), (0, 9, 10)),
        (("ComfyUI_00010_.png", "ComfyUI_00002_.png"), (2, 10)),
        (("frame-0010.png", "frame-0000.png"), (0, 10)),
        (("out10.png", "out9.jpg"), (9, 10)),
        (("b10.png", "a2.png"), (2, 10)),
        (("shot2_frame10.png", "shot2_frame20.png"), (10, 20)),
        (("shot2_frame10.png",), (10,)),
        (("sh010.0010.png", "SH010.0020.png"), (10, 20)),
        (("10_final.png", "20_final.png"), (10, 20)),
        (("2024-01-05_0003.png", "2024-01-05_0004.png"), (3, 4)),
        (("clip - 0007.png",), (7,)),
        (("猫0007.png",), (7,)),
    ],
)
def test_frames_by_the_names_of_other_tools(
    names: tuple[str, ...], frames: tuple[int, ...]
) -> None:
    assert tuple(frame_numbers(paths(*names))) == frames


def test_names_may_count_from_one() -> None:
    assert list(frame_numbers(paths("1.png", "11.png"), first=1)) == [0, 10]
    with pytest.raises(InputError, match=r"0\.png: its number is 0, that of the first frame is 1"):
        frame_numbers(paths("0.png", "11.png"), first=1)


TWO_WAYS = [
    ("1e3.png", "can be read as a number in two ways"),
    ("frame_1e3.png", "can be read as a number in two ways"),
    ("1.5e-3.png", "can be read as a number in two ways"),
    ("0x10.png", "can be read as a number in two ways"),
    ("-5.png", "a negative number"),
    ("frame_-5.png", "a negative number"),
    ("−5.png", "a negative number"),
    ("frame٣.png", "digits other than 0 to 9"),
    ("\uff11\uff10.png", "digits other than 0 to 9"),
    ("frame².png", "digits other than 0 to 9"),
]


@pytest.mark.parametrize(("name", "words"), TWO_WAYS)
def test_numbers_that_can_be_read_in_two_ways_are_refused(name: str, words: str) -> None:
    for reading in (frame_numbers, in_order):
        with pytest.raises(InputError, match=words) as refused:
            reading(paths("0007.png", name))
        assert refused.value.where == name


@pytest.mark.parametrize(
    ("names", "words"),
    [
        (("last.png",), "does not hold a frame number"),
        (("1.png", "last.png"), "does not hold a frame number"),
        (("12.5.png",), "a decimal number"),
        (("shot2_frame10.png", "shot3_frame20.png"), "its frame is not clear"),
        (("frame10_v2.png", "frame20_v2.png"), "its frame is not clear"),
        (("0010.png", "0020 (1).png"), "its frame is not clear"),
        (("key10.png", "20_final.png"), "its frame is not clear"),
        (("key_mp4_.png",), None),
        (("a_mp4_key.png",), "does not end in a frame number"),
        (("10.png", "0010.png"), "has the number of"),
        (("10.png", "10.jpg"), "has the number of"),
        (("a10.png", "b10.png"), "has the number of"),
    ],
)
def test_frames_that_are_not_clear_are_refused(names: tuple[str, ...], words: str | None) -> None:
    if words is None:
        assert frame_numbers(paths(*names))
        return
    with pytest.raises(InputError, match=words):
        frame_numbers(paths(*names))


def test_order_is_that_of_numbers() -> None:
    assert in_order(paths("11.png", "9.png", "10.jpg")) == paths("9.png", "10.jpg", "11.png")
    assert in_order(paths("f2b10.png", "F2b9.png")) == paths("F2b9.png", "f2b10.png")
    assert in_order(paths("1.50.png", "0.75.png")) == paths("0.75.png", "1.50.png")
    assert in_order(paths("b.png", "a.png")) == paths("a.png", "b.png")


@pytest.mark.parametrize(
    ("names", "words"),
    [
        (("0001.png", "1.png"), "has the same name or number as"),
        (("0001.png", "0001.jpg"), "has the same name or number as"),
        (("f01.png", "F1.png"), "has the same name or number as"),
        (("0.5.png", "0.10.png"), "have no clear order"),
    ],
)
def test_an_order_that_is_not_clear_is_refused(names: tuple[str, ...], words: str) -> None:
    with pytest.raises(InputError, match=words):
        in_order(paths(*names))


@pytest.mark.parametrize(
    ("names", "words"),
    [
        (["f0.png", "f1.png", "f2.jpg"], None),
        (["f7.png"], None),
        (["a.png", "b.png"], None),
        (["f0.png", "f1.png", "f2.png", "f5.png"], "2 numbers are missing (3 to 4)"),
        (["f0.png", "f2.png", "f3.png"], "1 number is missing (1)"),
        (["f0.png", "f2.png"], "1 number is missing (1)"),
        (["f0.png", "f5.png", "f10.png"], "numbers go up by 5 (from f0.png to f10.png)"),
        (
            [f"{i}.png" for i in (0, 2, 4, 6, 8, 10, 10**12)],
            "999999999994 numbers are missing (1, 3, 5, 7, …)",
        ),
        (["a1.png", "a2.png", "b1.png"], "names are of several kinds (a1.png, b1.png)"),
        (["1.png", "2.png", "cover.png"], "names are of several kinds (1.png, cover.png)"),
    ],
)
def test_gaps_are_told(names: list[str], words: str | None) -> None:
    assert irregular(in_order(paths(*names))) == words


@pytest.mark.parametrize(
    ("path", "name"),
    [
        ("cat.mp4", "cat"),
        ("猫 (1).v2.mp4", "猫 (1).v2"),
        ("...mp4", "...mp4"),
        (" .mp4", " .mp4"),
        ("a\nb\x1b.mp4", "a_b_"),
        ("a\udcffb.mp4", "a_b"),
        ("e\u0301.mp4", "\u00e9"),
    ],
)
def test_clips_have_names_that_folders_and_tables_can_have(path: str, name: str) -> None:
    assert clip_name(Path(path)) == name
