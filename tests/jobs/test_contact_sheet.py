"""The contact sheet shows the right frames of the right videos."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from rerender.flow.field import Flow, identity
from rerender.jobs.contact_sheet import moments, sheet
from rerender.video import MemoryVideo, Truth


class Green:
    """A truth that is green, up to a frame."""

    def __init__(self, known: int) -> None:
        self.known = known

    def flow(self, target: int, source: int) -> Flow:
        return identity(40, 100)

    def translation(self, index: int) -> Tensor | None:
        return flat(0, 1, 0) if index <= self.known else None

    def part(self, start: int, prompt: str) -> Truth:
        return self


def flat(*colour: float) -> Tensor:
    return torch.tensor(colour).view(3, 1, 1).expand(3, 40, 100)


@pytest.mark.parametrize(
    ("length", "count", "expected"),
    [
        (41, 6, [0, 8, 16, 24, 32, 40]),
        (3, 6, [0, 1, 2]),
        (1, 6, [0]),
        (10, 1, [0]),
        (10, 2, [0, 9]),
    ],
)
def test_moments(length: int, count: int, expected: list[int]) -> None:
    assert moments(length, count) == expected


def cells(page: Tensor, rows: int, columns: int) -> list[list[list[float]]]:
    """The colour in the middle of every picture."""
    height, width = 4 + 18 + 40, 4 + 100
    return [
        [
            page[:, row * height + 4 + 18 + 20, column * width + 54].tolist()
            for column in range(columns)
        ]
        for row in range(rows)
    ]


def test_rows_and_columns() -> None:
    source = MemoryVideo([flat(i / 40, 0, 0).expand(3, 40, 100) for i in range(41)])
    result = MemoryVideo([flat(0, 0, 1)] * 41)
    page = sheet(source, result)
    assert page.shape == (3, 2 * 62 + 4, 6 * 104 + 4)
    found = cells(page, 2, 6)
    for column, index in enumerate([0, 8, 16, 24, 32, 40]):
        assert found[0][column] == pytest.approx([index / 40, 0, 0], abs=1 / 255)
        assert found[1][column] == [0, 0, 1]
    label = page[:, 4:20, 4:100]
    assert label.min() < 0.3  # there is dark text on white
    assert label.max() == 1


def test_truth_is_a_third_row_where_it_is_known() -> None:
    video = MemoryVideo([flat(0, 0, 1)] * 5)
    page = sheet(video, video, Green(known=4))
    assert cells(page, 3, 5)[2] == [[0, 1, 0]] * 5
    assert sheet(video, video, Green(known=2)).shape == sheet(video, video).shape


def test_sizes_may_differ_and_large_ones_are_reduced() -> None:
    small, large = (
        MemoryVideo([torch.zeros(3, 20, 20)] * 2),
        MemoryVideo([torch.ones(3, 640, 640)] * 2),
    )
    assert sheet(small, large).shape == (3, 2 * 342 + 4, 2 * 324 + 4)
