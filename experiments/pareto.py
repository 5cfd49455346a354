"""Trade-off fronts: which methods no other one beats in every respect."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from eval import stats
from eval.contracts import Score
from rerender import files


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

    drawn = Figure(figsize=(6, 4), layout="constrained")
    FigureCanvasAgg(drawn)
    plot = drawn.add_subplot()
    for point in whole:
        x, y, *rest = (value for value in point.values if value is not None)
        size = 40 + 8 * rest[0] ** 0.5 if rest else 60
        edge = "black" if point.method in best else "none"
        plot.scatter([x], [y], s=size, edgecolors=edge, linewidths=1.5)
        plot.annotate(
            point.method, (x, y), xytext=(6, 4), textcoords="offset points", parse_math=False
        )
    better = {"lower": "lower is better", "higher": "higher is better"}
    plot.set_xlabel(f"{axes[0].name} ({better[axes[0].direction]})", parse_math=False)
    plot.set_ylabel(f"{axes[1].name} ({better[axes[1].direction]})", parse_math=False)
    plot.grid(alpha=0.3)
    plot.margins(0.2)
    out = io.BytesIO()
    drawn.savefig(out, format="png", dpi=120, metadata={"Software": None})
    return out.getvalue()
