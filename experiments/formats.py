"""A table and how it is written: csv, markdown, LaTeX."""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from dataclasses import dataclass

from experiments.escape import csv_cell, latex, markdown


@dataclass(frozen=True)
class Cell:
    """A value in a table, as numbers; None where there is none.

    Attributes:
        mean, low, high: over clips, with its 95 % interval.
        clips: how many clips.
        rank: mean rank among all methods of the table, 1 is best.
        best: whether the data show it to be better than every other method.
    """

    mean: float | None = None
    low: float | None = None
    high: float | None = None
    clips: int = 0
    rank: float | None = None
    best: bool = False

    @property
    def short(self) -> str:
        """The value alone."""
        return "n/a" if self.mean is None else f"{self.mean:.4g}"

    @property
    def range(self) -> str:
        """The interval alone; "" where there is none."""
        return "" if self.low is None or self.high is None else f"[{self.low:.4g}, {self.high:.4g}]"

    def __str__(self) -> str:
        return " ".join(filter(None, [self.short, self.range]))


@dataclass(frozen=True)
class Table:
    """Methods against metrics.

    Attributes:
        title: what it is.
        columns: head of each column: metric, direction and unit.
        lines: method -> one cell for each column.
        notes: what a reader must know.
    """

    title: str
    columns: tuple[str, ...]
    lines: dict[str, tuple[Cell, ...]]
    notes: tuple[str, ...] = ()


def to_csv(tables: Sequence[Table]) -> str:
    """One line for each value; texts that a spreadsheet would run as formulas are made inert."""
    out = io.StringIO()
    writer = csv.writer(out)
    writer.writerow(["table", "method", "metric", "mean", "low", "high", "rank", "clips", "best"])
    for one in tables:
        for method, cells in one.lines.items():
            for column, cell in zip(one.columns, cells, strict=True):
                values = numbers(cell.mean, cell.low, cell.high, cell.rank)
                texts = [csv_cell(text) for text in (one.title, method, column)]
                writer.writerow([*texts, *values, cell.clips or "", int(cell.best)])
    return out.getvalue()


def numbers(*values: float | None) -> list[str]:
    """Numbers with all their digits; "" for none."""
    return ["" if value is None else repr(float(value)) for value in values]


def to_markdown(tables: Sequence[Table]) -> str:
    """Tables with their notes, one after the other."""
    return "\n".join(_markdown(one) for one in tables)


def _markdown(one: Table) -> str:
    head = ["method", *map(markdown, one.columns)]
    lines = [f"### {markdown(one.title)}", "", _bar(head), _bar(["---"] * len(head))]
    for method, cells in one.lines.items():
        shown = [f"**{cell}**" if cell.best else str(cell) for cell in cells]
        lines.append(_bar([markdown(method), *shown]))
    return "\n".join([*lines, "", *(f"- {markdown(note)}" for note in one.notes), ""])


def _bar(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"


def to_latex(tables: Sequence[Table]) -> str:
    """``table`` environments with booktabs rules."""
    return "% needs \\usepackage{booktabs} and \\usepackage[T1]{fontenc}\n" + "\n".join(
        _latex(one) for one in tables
    )


def _latex(one: Table) -> str:
    lines = [
        "\\begin{table}",
        f"\\caption{{{latex(one.title)}}}",
        f"\\begin{{tabular}}{{l{'r' * len(one.columns)}}}",
        "\\toprule",
        " & ".join(["method", *map(latex, one.columns)]) + " \\\\",
        "\\midrule",
    ]
    for method, cells in one.lines.items():
        shown = [f"\\textbf{{{cell}}}" if cell.best else str(cell) for cell in cells]
        lines.append(" & ".join([latex(method), *shown]) + " \\\\")
    notes = [f"\\par\\footnotesize {latex(note)}" for note in one.notes]
    return "\n".join([*lines, "\\bottomrule", "\\end{tabular}", *notes, "\\end{table}", ""])
