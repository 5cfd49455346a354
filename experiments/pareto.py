"""Trade-off fronts: which methods no other one beats in every respect."""

from __future__ import annotations

import io
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from eval import stats
from eval.score_files import Score
from rerender import files

WIDE = 30.0  # values further apart than this factor are drawn on a logarithmic axis


@dataclass(frozen=True)
class Point:
    """A method in the plane of a trade-off.

    Attributes:
        method: its name.
        values: one for each axis; None where unknown.
    """

    method: str
    values: tuple[float | None, ...]


@dataclass(frozen=True)
class Axis:
    """What is traded: a name and whether "lower" or "higher" is better."""

    name: str
    direction: str


def front(points: Sequence[Point], axes: Sequence[Axis]) -> list[str]:
    """Methods that no other one equals or beats on every axis and beats on one (Pareto front).

    Methods that lack a value on some axis are left out; those that coincide are all kept.
    """
    signs = [1 if axis.direction == "lower" else -1 for axis in axes]
    known = {
        point.method: tuple(
            s * v for s, v in zip(signs, point.values, strict=True) if v is not None
        )
        for point in points
        if None not in point.values
    }
    return sorted(name for name, own in known.items() if not _beaten(own, list(known.values())))


def _beaten(own: tuple[float, ...], others: Sequence[tuple[float, ...]]) -> bool:
    return any(
        other != own and all(o <= mine for o, mine in zip(other, own, strict=True))
        for other in others
    )


def points(
    scores: Sequence[Score], axes: Sequence[Axis], seconds: Mapping[str, float] | None = None
) -> list[Point]:
    """Each method's mean over clips on every axis; "seconds" is looked up where it is an axis."""
    means = {(s.method, s.metric): s.mean for s in stats.summarise(scores)}
    methods = sorted({row.method for row in scores})
    spent = seconds or {}
    return [
        Point(
            method,
            tuple(
                spent.get(method) if axis.name == "seconds" else means.get((method, axis.name))
                for axis in axes
            ),
        )
        for method in methods
    ]


def figure(path: Path, found: Sequence[Point], axes: Sequence[Axis]) -> bool:
    """Draw the first two axes, the third as the size of a dot; the front is ringed.

    Returns:
        Whether there was anything to draw.
    """
    whole = [point for point in found if None not in point.values]
    if not whole:
        return False
    files.put(path, _draw(whole, axes, front(found, axes)))
    return True


def _draw(whole: Sequence[Point], axes: Sequence[Axis], best: Sequence[str]) -> bytes:
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    more = min(max(len(whole) - 12, 0), 30)  # names that need room beyond that of twelve
    drawn = Figure(figsize=(6 + 0.2 * more, 4 + 0.2 * more), layout="constrained")
    FigureCanvasAgg(drawn)
    plot = drawn.add_subplot()
    for point in whole:
        x, y, *rest = (value for value in point.values if value is not None)
        size = 40 + 8 * rest[0] ** 0.5 if rest else 60
        edge = "black" if point.method in best else "none"
        plot.scatter([x], [y], s=size, edgecolors=edge, linewidths=1.5)
    better = {"lower": "lower is better", "higher": "higher is better"}
    plot.set_xlabel(f"{axes[0].name} ({better[axes[0].direction]})", parse_math=False)
    plot.set_ylabel(f"{axes[1].name} ({better[axes[1].direction]})", parse_math=False)
    for change, column in ((plot.set_xscale, 0), (plot.set_yscale, 1)):
        values = [_place(point)[column] for point in whole]
        if min(values) > 0 and max(values) > WIDE * min(values):
            change("log")
    plot.grid(alpha=0.3)
    plot.margins(0.2)
    named(plot, [(point.method, *_place(point)) for point in whole])
    out = io.BytesIO()
    drawn.savefig(out, format="png", dpi=120, metadata={"Software": None})
    return out.getvalue()


def _place(point: Point) -> tuple[float, float]:
    x, y, *_ = (float(value) for value in point.values if value is not None)
    return x, y


def named(plot: Any, places: Sequence[tuple[str, float, float]]) -> list[Any]:
    """Write names beside points so that none covers another or a point: each takes the nearest
    free place around its own, and a thin line leads to it from afar.

    Args:
        plot: axes whose limits are set and whose points are drawn.
        places: name, x and y of each point.

    Returns:
        The texts.
    """
    figure = plot.figure
    figure.draw_without_rendering()
    figure.set_layout_engine("none")  # what was measured must stay where it is
    renderer = figure.canvas.get_renderer()
    frame, scale = plot.get_window_extent(renderer), figure.dpi / 72
    dots = [plot.transData.transform((x, y)) for _, x, y in places]
    taken = [_box(x - 5 * scale, y - 5 * scale, 10 * scale, 10 * scale) for x, y in dots]
    texts = []
    for name, x, y in places:
        text = plot.annotate(
            name,
            (x, y),
            xytext=(0, 0),
            textcoords="offset points",
            fontsize=8,
            parse_math=False,
            arrowprops={"arrowstyle": "-", "lw": 0.5, "alpha": 0.6, "shrinkA": 0, "shrinkB": 4},
        )
        size = text.get_window_extent(renderer)
        at = plot.transData.transform((x, y))
        free = [
            _box(at[0] + dx * scale, at[1] + dy * scale, size.width, size.height)
            for dx, dy in _around(size.width / scale, size.height / scale)
        ]
        inside = [box for box in free if _within(box, frame)]
        box = next((b for b in inside if not any(b.overlaps(t) for t in taken)), free[0])
        text.set_position(((box.x0 - at[0]) / scale, (box.y0 - at[1]) / scale))
        taken.append(box)
        texts.append(text)
    return texts


def _around(width: float, height: float) -> Iterator[tuple[float, float]]:
    """Places of the lower left corner of a text around a point, in points, the nearest first."""
    for ring in range(24):
        gap = 6 + ring * (height + 1) / 2
        rise = [0.0] if not ring else [gap, -gap]
        for up in rise:
            yield 6, up - height / 2
            yield -6 - width, up - height / 2
            yield -width / 2, (up if up > 0 else up - height) if ring else gap


def _box(x: float, y: float, width: float, height: float) -> Any:
    from matplotlib.transforms import Bbox

    return Bbox.from_bounds(x, y, width, height)


def _within(box: Any, frame: Any) -> bool:
    return bool(
        box.x0 >= frame.x0 and box.x1 <= frame.x1 and box.y0 >= frame.y0 and box.y1 <= frame.y1
    )
