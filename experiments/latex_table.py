"""A table as LaTeX that fits a column: booktabs rules, siunitx columns, intervals in small."""

from __future__ import annotations

from collections.abc import Sequence

from experiments.escape import latex
from experiments.formats import Cell, Column, Table

PREAMBLE = r"\usepackage{booktabs,siunitx} \usepackage[T1]{fontenc} \usepackage{textcomp}"
_SIZES = (("small", 46), ("footnotesize", 50), ("scriptsize", 58))  # digits that fit a column
_BOTH = 2  # times as many fit both columns
_HEAD = 6  # letters of a line of a column's head, if its words allow it
_TALL = 24  # rows with intervals below them that fit a page

ELSEWHERE = "Intervals stand in table.csv: with them the table is higher than a page."


def to_latex(tables: Sequence[Table]) -> str:
    """``table`` environments, one after the other; wide ones span both columns."""
    return f"% needs {PREAMBLE}\n" + "\n".join(map(_latex, tables))


def _latex(one: Table) -> str:
    widths = [max(_places(one, column)) + _behind(one, column) for column in one.shown]
    heads = [_head(column) for column in one.shown]
    wide = [max(w, max(map(len, h))) for w, h in zip(widths, heads, strict=True)]
    longest = max((len(_name(one, method)) for method in one.lines), default=6)
    total = longest + sum(wide) + 1.4 * len(wide)
    wider = total > _SIZES[-1][1]
    room = [(name, fits * (_BOTH if wider else 1)) for name, fits in _SIZES]
    room = room if len(one.lines) <= _TALL else []  # the smallest, to fit the height of a page
    size = next((name for name, fits in room if total <= fits), "scriptsize")
    span = "table*" if wider else "table"
    tall = len(one.lines) > _TALL and any(c.spread(cell) for c, cell in _all(one))
    lines = [
        f"\\begin{{{span}}}",
        # below a caption there is no room in classes that expect it under a figure
        "\\centering\\setlength{\\belowcaptionskip}{4pt}",
        f"\\caption{{{latex(one.title)}}}",
        f"\\label{{{one.label}}}",
        f"\\{size}\\setlength{{\\tabcolsep}}{{2.5pt}}\\sisetup{{detect-all,group-minimum-digits=9}}",
        f"\\begin{{tabular}}{{@{{}}l{''.join(_format(one, column) for column in one.shown)}@{{}}}}",
        "\\toprule",
        *_heads(heads, one.shown),
        "\\midrule",
    ]
    for number, method in enumerate(one.lines):
        if number and number == one.floors:
            lines.append("\\midrule")
        lines += _row(one, method, spread=not tall)
    lines += ["\\bottomrule", "\\end{tabular}"]
    notes = [*one.notes, *([ELSEWHERE] if tall else [])]
    if notes:
        text = " ".join(map(latex, notes))
        lines.append(f"\\par\\smallskip\\parbox{{\\linewidth}}{{\\scriptsize {text}}}")
    return "\n".join([*lines, f"\\end{{{span}}}", ""])


def _name(one: Table, method: str) -> str:
    return one.names.get(method, method)


def _row(one: Table, method: str, spread: bool) -> list[str]:
    """The line of a row, and a smaller one below it where it has intervals and they are wanted."""
    mark = f"\\textsuperscript{{{one.marks[method]}}}" if method in one.marks else ""
    cells = one.cells(method)
    lines = [" & ".join([latex(_name(one, method)) + mark, *(_value(*c) for c in cells)])]
    below = [column.spread(cell) if spread or cell.part else "" for column, cell in cells]
    if any(below):
        small = (f"{{\\tiny {latex(text)}}}" if text else "" for text in below)
        lines = [f"{lines[0]} \\\\[-3pt]", " & ".join(["", *small])]
    return [*lines[:-1], f"{lines[-1]} \\\\"]


def _value(column: Column, cell: Cell) -> str:
    if cell.mean is None:
        return "{n/a}"
    style = {1: "\\bfseries ", 2: "\\itshape "}.get(cell.place, "")
    star = "{\\textsuperscript{*}}" if cell.differs else ""
    return f"{style}{column.digits(cell.mean)}{star}"


def _heads(heads: Sequence[Sequence[str]], columns: Sequence[Column]) -> list[str]:
    """Lines of the head, each column's words below each other."""
    high = max(map(len, heads), default=1)
    padded = [[""] * (high - len(head)) + list(head) for head in heads]
    return [
        " & ".join(["", *(f"{{{_symbols(head[line])}}}" for head in padded)]) + " \\\\"
        for line in range(high)
    ]


def _head(column: Column) -> list[str]:
    """A column's head in short lines: its name and unit, then its arrow and scale."""
    lines: list[str] = []
    unit = [f"({column.measure})"] if column.measure else []
    for word in [*column.label.split(), *unit]:
        if lines and len(lines[-1]) + 1 + len(word) <= _HEAD:
            lines[-1] += f" {word}"
        else:
            lines.append(word)
    last = " ".join(filter(None, [column.arrow, column.scale]))
    return [*lines, *([last] if last else [])]


def _symbols(text: str) -> str:
    before, scaled, digits = text.partition("×10")
    if not scaled:
        return latex(text)
    power = digits.translate(str.maketrans("⁻⁰¹²³⁴⁵⁶⁷⁸⁹", "-0123456789"))
    return f"{latex(before)}$\\times 10^{{{power}}}$"


def _places(one: Table, column: Column) -> list[int]:
    """Letters of each printed value of a column."""
    found = [cell.mean for c, cell in _all(one) if c is column and cell.mean is not None]
    return [len(column.digits(value)) for value in found] or [3]


def _behind(one: Table, column: Column) -> float:
    """Room for what stands behind the values."""
    cells = [cell for c, cell in _all(one) if c is column]
    return 0.6 * any(cell.differs for cell in cells)


def _all(one: Table) -> list[tuple[Column, Cell]]:
    return [pair for method in one.lines for pair in one.cells(method)]


def _format(one: Table, column: Column) -> str:
    """The siunitx column: digits before and behind the point, and room for a star."""
    means = [cell.mean for c, cell in _all(one) if c is column and cell.mean is not None]
    texts = [column.digits(mean) for mean in means] or ["0"]
    whole = max(len(text.lstrip("-").partition(".")[0]) for text in texts)
    sign = "-" if any(text.startswith("-") for text in texts) else ""
    after = "{\\textsuperscript{*}}" if any(c.differs for k, c in _all(one) if k is column) else ""
    room = f",table-space-text-post={after}" if after else ""
    return f"S[table-format={sign}{whole}.{column.decimals}{room}]"
