"""The Pareto front by hand and by its definition."""

from __future__ import annotations

from itertools import combinations
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.text import Text

from eval.score_files import Score
from experiments import pareto
from experiments.pareto import Axis, Point, figure, front, named, points

AXES = (Axis("text", "higher"), Axis("warp", "lower"), Axis("seconds", "lower"))


def test_by_hand() -> None:
    found = [
        Point("good text", (0.9, 0.5, 1.0)),
        Point("smooth", (0.2, 0.1, 1.0)),
        Point("beaten", (0.8, 0.6, 2.0)),
        Point("fast", (0.1, 0.9, 0.1)),
        Point("unknown", (1.0, None, 0.0)),
    ]
    assert front(found, AXES) == ["fast", "good text", "smooth"]


@given(st.lists(st.tuples(*[st.integers(0, 4)] * 3), min_size=1, max_size=12))
def test_by_definition(values: list[tuple[int, int, int]]) -> None:
    found = [Point(str(i), tuple(map(float, v))) for i, v in enumerate(values)]
    kept = {int(name) for name in front(found, AXES)}
    assert kept
    for i, (text, warp, time) in enumerate(values):
        beaten = any(
            a >= text and b <= warp and c <= time and (a, b, c) != (text, warp, time)
            for a, b, c in values
        )
        assert (i in kept) != beaten


def test_points_and_figure(tmp_path: Path) -> None:
    scores = [
        Score(clip, method, 0, metric, "1", value, 1, "", direction)
        for clip in ("a", "b")
        for method, shift in (("x_$^", 0.0), ("y", 0.1))
        for metric, value, direction in (
            ("text", 0.5 + shift, "higher"),
            ("warp", 0.2 + shift, "lower"),
        )
    ]
    found = points(scores, AXES, {"x_$^": 3.0, "y": 4.0})
    assert found[0] == Point("x_$^", (0.5, 0.2, 3.0))
    assert figure(tmp_path / "front.png", found, AXES)
    first = (tmp_path / "front.png").read_bytes()
    assert first.startswith(b"\x89PNG") and figure(tmp_path / "front.png", found, AXES)
    assert (tmp_path / "front.png").read_bytes() == first
    assert not figure(tmp_path / "none.png", points(scores, AXES), AXES)


def test_names_cover_neither_each_other_nor_points(tmp_path: Path) -> None:
    """Thirteen methods, half of them on one spot."""
    drawn = Figure(figsize=(6, 4), layout="constrained")
    FigureCanvasAgg(drawn)
    plot = drawn.add_subplot()
    places = [(f"a rather long method {i}", 0.5 + 0.001 * (i % 7), 0.1 * i) for i in range(6)]
    places += [(f"method {i}", 0.503, 0.25 + 1e-4 * i) for i in range(7)]
    plot.scatter([x for _, x, _ in places], [y for _, _, y in places])
    plot.margins(0.2)
    texts = named(plot, places)
    drawn.savefig(tmp_path / "names.png", dpi=drawn.dpi)
    boxes = [Text.get_window_extent(text) for text in texts]
    shrunk = [box.padded(-0.5) for box in boxes]
    assert not [pair for pair in combinations(shrunk, 2) if pair[0].overlaps(pair[1])]
    dots = [plot.transData.transform((x, y)) for _, x, y in places]
    assert not [dot for dot in dots for box in shrunk if box.contains(*dot)]


def test_a_figure_of_many_methods_is_larger_and_wide_values_are_logarithmic(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    drawn: list[tuple[str, str, float]] = []

    def seen(plot: Any, places: Any) -> list[Any]:
        width, _ = plot.figure.get_size_inches()
        drawn.append((plot.get_xscale(), plot.get_yscale(), float(width)))
        return []

    monkeypatch.setattr(pareto, "named", seen)
    axes = [Axis("agreement", "higher"), Axis("error", "lower")]
    few = [Point(str(each), (0.8 + each / 100, 1.0 + each)) for each in range(12)]
    many = [Point(str(each), (0.8, 10.0 ** -(each % 5))) for each in range(42)]
    assert figure(tmp_path / "few.png", few, axes)
    assert figure(tmp_path / "many.png", many, axes)
    assert drawn == [("linear", "linear", 6.0), ("linear", "log", 12.0)]
