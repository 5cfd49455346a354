"""Whatever a name or prompt holds, tables keep their shape and it can be read back."""

from __future__ import annotations

import csv
import io
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from experiments import escape

TEXT = st.text(max_size=40) | st.text("=+-@\t\r\n'\"|\\<>&%$#_{}~^`,", max_size=20)


@given(TEXT)
def test_csv_is_read_back_and_runs_nothing(text: str) -> None:
    out = io.StringIO()
    csv.writer(out).writerow([escape.csv_cell(text), "x"])
    (cell, rest), *more = csv.reader(io.StringIO(out.getvalue(), newline=""))
    assert rest == "x" and not more
    assert not cell.startswith(("=", "+", "-", "@", "\t", "\r"))
    assert (cell[1:] if cell.startswith("'") else cell) == text


@given(TEXT)
def test_markdown_keeps_its_row_and_is_read_back(text: str) -> None:
    made = escape.markdown(text)
    assert "\n" not in made and "\r" not in made
    assert re.sub(r"\\(.)", r"\1", made) == escape.visible(text)
    within_words = re.sub(r"(?<=[A-Za-z0-9])_(?=[A-Za-z0-9])", "", made)  # these mean nothing
    bare = re.sub(r"\\.", "", within_words)
    assert not set(bare) & set("|<>&`*_[]!")


@given(TEXT)
def test_a_markdown_cell_is_as_safe_within_its_row(text: str) -> None:
    made = escape.markdown_cell(text)
    assert made in (escape.markdown(text), escape.markdown(text)[1:])
    assert re.sub(r"\\(.)", r"\1", made) == escape.visible(text)


@pytest.mark.parametrize("text", ["+ pixel", "-1", "=x"])
def test_a_markdown_cell_may_begin_with_a_sign(text: str) -> None:
    assert escape.markdown_cell(text) == text != escape.markdown(text)


@given(TEXT)
def test_latex_has_no_free_special_character(text: str) -> None:
    made = escape.latex(text)
    known = sorted(escape._LATEX.values(), key=len, reverse=True)
    bare = re.sub("|".join(map(re.escape, known)), "", made)
    assert not set(bare) & set("\\&%$#_{}~^<>\n\r")
    back = {value: key for key, value in escape._LATEX.items()}
    read = re.sub("|".join(map(re.escape, known)), lambda m: back[m[0]], made)
    assert read == escape.visible(text)


@pytest.mark.parametrize("payload", ["=cmd|' /C calc'!A0", "@SUM(1)", "  =1+1", "\t=1", "-2+3"])
def test_known_formulas_are_inert(payload: str) -> None:
    assert escape.csv_cell(payload) == f"'{payload}"


def test_known_macros_are_inert() -> None:
    made = escape.latex(r"\input{/etc/passwd} \write18{id} 50% $x_1$")
    assert r"\input" not in made and r"\write18" not in made and r"50\%" in made


def test_direction_marks_are_shown() -> None:
    assert escape.visible("a\u202eb\x1b[31m") == "a<U+202E>b<U+001B>[31m"
