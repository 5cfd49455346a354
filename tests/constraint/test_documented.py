"""The first constraint of CONTRIBUTING.md: its code is that of the README, and its test passes."""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from rerender.model.diffusion import StableDiffusion

ROOT = Path(__file__).resolve().parents[2]
NAME = "rerender.constraint.grain"


def blocks(page: str) -> dict[str, str]:
    """The code of a page, by the file that its first line names."""
    found = re.findall(
        r"```(?:python|yaml)\n# (\S+/\S+)\n(.*?)```", (ROOT / page).read_text(), re.S
    )
    return dict(found)


@pytest.fixture
def grain(monkeypatch: pytest.MonkeyPatch) -> Iterator[dict[str, str]]:
    """The blocks of CONTRIBUTING.md, its class installed as the module that it says."""
    code = blocks("CONTRIBUTING.md")
    module = ModuleType(NAME)
    monkeypatch.setitem(sys.modules, NAME, module)
    exec(compile(code["rerender/constraint/grain.py"], NAME, "exec"), vars(module))
    yield code


def test_the_readme_has_the_same_constraint() -> None:
    short, long = blocks("README.md"), blocks("CONTRIBUTING.md")
    assert {"rerender/constraint/grain.py", "conf/constraint/grain.yaml"} == {*short}
    assert {name: long[name] for name in short} == short
    assert {*long} - {*short} == {"tests/constraint/test_grain.py"}


def test_its_own_test_passes(grain: dict[str, str], tiny: StableDiffusion) -> None:
    found: dict[str, object] = {}
    exec(compile(grain["tests/constraint/test_grain.py"], "test_grain", "exec"), found)
    (law,) = (each for name, each in found.items() if name.startswith("test_"))
    law(tiny)  # type: ignore[operator]
