"""Every promise of SECURITY.md names a test, and every test that it names is there."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
PAGE = (ROOT / "SECURITY.md").read_text(encoding="utf-8")
DEFENDED = PAGE.split("## What is defended\n")[1].split("\n## ")[0]
NAMED = re.compile(r"`(tests/[\w/]+\.py)?(?:::(test_\w+))?`")


def named() -> list[tuple[str, str]]:
    """Files and tests in the order of the page; ``::test`` alone belongs to the file before it."""
    found, path = [], ""
    for match in NAMED.finditer(DEFENDED):
        path = match[1] or path
        if match[1] or match[2]:
            found.append((path, match[2] or ""))
    return found


def promises() -> list[str]:
    """Items of lists, and paragraphs that stand by themselves."""
    parts = re.split(r"\n(?=- )|\n\s*\n", DEFENDED)
    return [
        part.strip() for part in parts if re.fullmatch(r"\*\*\w[^*]*\*\*", part.strip()) is None
    ]


@pytest.mark.parametrize(("path", "test"), named())
def test_a_test_that_is_named_is_there(path: str, test: str) -> None:
    tree = ast.parse((ROOT / path).read_text(encoding="utf-8"))
    names = {node.name for node in ast.walk(tree) if isinstance(node, ast.FunctionDef)}
    assert not test or test in names
    assert any(name.startswith("test_") for name in names)


def test_every_promise_names_one() -> None:
    assert len(promises()) > 15
    assert [part for part in promises() if part and not NAMED.search(part.replace("``", ""))] == []
