"""Texts made harmless for the place they are written to: csv, markdown, LaTeX.

Names and prompts come from strangers. Each function can be undone by a reader, so nothing is lost.
"""

from __future__ import annotations

import re

_FORMULA = ("=", "+", "-", "@", "\t", "\r", "'")
_LATEX = {
    "\\": r"\textbackslash{}",
    "&": r"\&",
    "%": r"\%",
    "$": r"\$",
    "#": r"\#",
    "_": r"\_",
    "{": r"\{",
    "}": r"\}",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "<": r"\textless{}",
    ">": r"\textgreater{}",
    '"': r"\textquotedbl{}",
    "'": r"\textquotesingle{}",
    "`": r"\textasciigrave{}",
    "-": r"{-}",
    "↓": r"$\downarrow$",
    "↑": r"$\uparrow$",
    "Δ": r"$\Delta$",
    "±": r"$\pm$",
    "×": r"$\times$",
    "÷": r"$\div$",
}
_MARKDOWN = re.compile(  # everywhere; outside words; at the beginning of a line
    r"([\\`*{}\[\]!|~$<>&@^#]|(?<![A-Za-z0-9])_|_(?![A-Za-z0-9])|:(?=//)|\A[-+=])"
)
_UNSEEN = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029\u200e\u200f\u202a-\u202e\u2066-\u2069]")


def csv_cell(text: str) -> str:
    """A text that no spreadsheet runs as a formula: an apostrophe is put before those that begin
    like one (or with an apostrophe, so that it can be taken away again)."""
    return f"'{text}" if text.lstrip().startswith(_FORMULA) or text.startswith(_FORMULA) else text


def latex(text: str) -> str:
    """A text in which every character that means something to LaTeX stands for itself."""
    return "".join(_LATEX.get(letter, letter) for letter in visible(text))


def markdown(text: str) -> str:
    """A text on one line in which nothing means anything to markdown or HTML."""
    return _MARKDOWN.sub(r"\\\1", visible(text))


def markdown_cell(text: str) -> str:
    """The same for a cell of a table, which no line begins with: its "+" and "-" mean nothing."""
    return re.sub(r"\A\\(?=[-+=])", "", markdown(text))


def visible(text: str) -> str:
    """Control characters and those that turn the direction of writing as their ``<U+XXXX>``."""
    return _UNSEEN.sub(lambda found: f"<U+{ord(found[0]):04X}>", text)
