"""A table, how its values are rounded, and how it is written as csv and markdown."""

from __future__ import annotations

import csv
import io
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from statistics import median

from experiments import metric_names
from experiments.escape import csv_cell, markdown, markdown_cell

ARROWS = {"lower": "↓", "higher": "↑"}
FEW = 5
"""Clips below which no interval is printed: of two clips it is over twelve deviations wide, which
says that nothing is known, in every cell; table.csv has it."""
_SUPERSCRIPTS = str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹")


@dataclass(frozen=True)
class Cell:
    """A value in a table; None where there is none.

    Attributes:
        mean, low, high: over clips, with its 95 % interval.
        clips, of: how many clips it has, and how many any row has.
        rank: mean rank among the rows that have all clips, 1 is best.
        place: 1 or 2 where the data show it to be best or second best, else 0.
        differs: whether the data show it to differ from the reference row.
    """

    mean: float | None = None
    low: float | None = None
    high: float | None = None
    clips: int = 0
    of: int = 0
    rank: float | None = None
    place: int = 0
    differs: bool = False

    @property
    def half(self) -> float | None:
        """Half of the interval's width."""
        return None if self.low is None or self.high is None else (self.high - self.low) / 2

    @property
    def part(self) -> str:
        """ "3 of 4" where clips are missing, else ""."""
        return f"{self.clips} of {self.of}" if 0 < self.clips < self.of else ""


@dataclass(frozen=True)
class Column:
    """A metric as a column, and how its values are rounded: one scale and one precision for all.

    Attributes:
        name: the metric.
        direction: whether "lower" or "higher" is better; "" for neither.
        unit: of its values; "" for none.
        shown: whether it is printed, or in table.csv alone.
        ratio: whether means are geometric, so that intervals are symmetric on the logarithm.
        power: values are printed in units of 10^power.
        decimals: digits behind the point.
    """

    name: str
    direction: str = ""
    unit: str = ""
    shown: bool = True
    ratio: bool = False
    power: int = 0
    decimals: int = 2

    @property
    def arrow(self) -> str:
        return ARROWS.get(self.direction, "")

    @property
    def label(self) -> str:
        """The printed name."""
        return metric_names.metric(self.name)

    @property
    def measure(self) -> str:
        """The printed unit; "" for none."""
        return metric_names.unit(self.unit)

    @property
    def scale(self) -> str:
        """Such as "×10⁻⁴"; "" for none."""
        return f"×10{str(self.power).translate(_SUPERSCRIPTS)}" if self.power else ""

    @property
    def head(self) -> str:
        """Name, arrow, unit and scale in one line."""
        unit = f"({self.measure})" if self.measure else ""
        return " ".join(filter(None, [self.label, unit, self.arrow, self.scale]))

    def digits(self, value: float) -> str:
        """A value as it is printed."""
        text = f"{value / 10**self.power:.{self.decimals}f}"
        return text.lstrip("-") if float(text) == 0 else text

    def short(self, cell: Cell) -> str:
        """The mean as it is printed."""
        return "n/a" if cell.mean is None else self.digits(cell.mean)

    def spread(self, cell: Cell) -> str:
        """What stands below or behind the mean: "±" and half the interval, of a geometric mean "×÷"
        and the factor from it to either end (half the interval may exceed such a mean); of a cell
        that lacks clips how many it has, since its interval is no more to be compared than its
        mean; nothing of fewer clips than `FEW`."""
        if cell.part:
            return f"({cell.part})"
        if cell.half is None or 0 < cell.clips < FEW:
            return ""
        if self.ratio and cell.low is not None and cell.high is not None and cell.low > 0:
            factor = math.sqrt(cell.high / cell.low)
            return f"×÷{factor:.{2 if factor < 10 else 0}f}"
        return f"±{self.digits(cell.half)}"


@dataclass(frozen=True)
class Table:
    """Rows of methods against columns of metrics.

    Attributes:
        title: what it shows.
        columns: all columns, also those that are in table.csv alone.
        lines: method -> one cell for each column.
        notes: what a reader must know.
        label: of the LaTeX table.
        names: printed names of methods, where they differ.
        marks: method -> number of the note about its values.
        floors: how many of the first rows do not compete.

    """

    title: str
    columns: tuple[Column, ...]
    lines: dict[str, tuple[Cell, ...]]
    notes: tuple[str, ...] = ()
    label: str = "tab:scores"
    names: Mapping[str, str] = field(default_factory=dict)
    marks: Mapping[str, int] = field(default_factory=dict)
    floors: int = 0

    @property
    def shown(self) -> tuple[Column, ...]:
        """The printed columns."""
        return tuple(column for column in self.columns if column.shown)

    def cells(self, method: str) -> list[tuple[Column, Cell]]:
        """The printed cells of a row, each with its column."""
        pairs = zip(self.columns, self.lines[method], strict=True)
        return [(column, cell) for column, cell in pairs if column.shown]


def rounding(values: Sequence[float], power: int | None = None) -> tuple[int, int]:
    """The power of ten and the decimals with which a column is printed.

    Values around or above 0.01 have no power, if it is not given. The typical value has three
    digits, up to two more where values that differ would look alike.
    """
    sizes = [abs(value) for value in values if value]
    if not sizes:
        return power or 0, 2
    typical = math.floor(math.log10(median(sizes)))
    if power is None:
        power = typical if typical < -2 or typical > 4 else 0
    decimals = max(0, 2 - (typical - power))
    scaled = [value / 10**power for value in values]
    different = len({f"{value:.4g}" for value in scaled})
    wanted = range(decimals, decimals + 3)
    found = next((d for d in wanted if len({f"{v:.{d}f}" for v in scaled}) >= different), None)
    return power, found if found is not None else decimals + 2


def rounded(columns: Sequence[Column], lines: Sequence[Sequence[Cell]]) -> list[Column]:
    """Columns with the rounding of their cells. Those whose names differ in a number alone, such as
    one metric after 1, 2, 4 and 8 cycles, and a metric beside its end (``_last5``) are read across
    and have one power."""
    values = [
        [m for m in (cells[p].mean for cells in lines) if m is not None]
        for p in range(len(columns))
    ]
    series: dict[str, list[int]] = {}
    for place, column in enumerate(columns):
        metric = re.sub(r"_last\d+$", "", column.name)
        series.setdefault(re.sub(r"\d+", "#", metric), []).append(place)
    found = {}
    for places in series.values():
        power, _ = rounding([value for place in places for value in values[place]])
        for place in places:
            _, decimals = rounding(values[place], power)
            found[place] = replace(columns[place], power=power, decimals=decimals)
    return [found[place] for place in range(len(columns))]


def to_csv(tables: Sequence[Table]) -> str:
    """One line for each value with all digits; texts that a spreadsheet would run as formulas are
    made inert."""
    out = io.StringIO()
    writer = csv.writer(out)
    head = "table method metric better unit mean low high rank clips of best differs"
    writer.writerow(head.split())
    for one in tables:
        for method, cells in one.lines.items():
            for column, cell in zip(one.columns, cells, strict=True):
                texts = (one.title, method, column.name, column.direction, column.unit)
                values = numbers(cell.mean, cell.low, cell.high, cell.rank)
                counts = cell.clips or "", cell.of or "", cell.place or "", int(cell.differs)
                writer.writerow([*map(csv_cell, texts), *values, *counts])
    return out.getvalue()


def numbers(*values: float | None) -> list[str]:
    """Numbers with all their digits; "" for none."""
    return ["" if value is None else repr(float(value)) for value in values]


def to_markdown(tables: Sequence[Table]) -> str:
    """Tables with their notes, one after the other; columns are aligned for a terminal too."""
    return "\n".join(_markdown(one) for one in tables)


def _markdown(one: Table) -> str:
    rows = [["method", *(markdown_cell(column.head) for column in one.shown)]]
    for method in one.lines:
        mark = f" [{one.marks[method]}]" if method in one.marks else ""
        name = markdown_cell(one.names.get(method, method)) + mark
        rows.append([name, *(_cell(column, cell) for column, cell in one.cells(method))])
    widths = [max(len(row[place]) for row in rows) for place in range(len(rows[0]))]
    rule = ["-" * widths[0], *("-" * (width - 1) + ":" for width in widths[1:])]
    texts = [rows[0], rule, *rows[1:]]
    lines = [
        [text.ljust(width) if not place else text.rjust(width)]
        for row in texts
        for place, (text, width) in enumerate(zip(row, widths, strict=True))
    ]
    count = len(widths)
    bars = [
        f"| {' | '.join(cell for (cell,) in lines[start : start + count])} |"
        for start in range(0, len(lines), count)
    ]
    notes = [f"- {markdown(note)}" for note in one.notes]
    return "\n".join([f"### {markdown(one.title)}", "", *bars, "", *notes, ""])


def _cell(column: Column, cell: Cell) -> str:
    value = column.short(cell)
    value = {1: f"**{value}**", 2: f"*{value}*"}.get(cell.place, value)
    star = " *" if cell.differs else ""  # between blanks it begins no emphasis
    return " ".join(filter(None, [value + star, column.spread(cell)]))
