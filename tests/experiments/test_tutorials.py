"""The tutorials: every command composes, every picture is there, and all of them run."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from experiments.tutorials import BROUGHT, PAGES, argv, make, steps
from rerender.config.compose import literal, preflight
from rerender.errors import InputError

ALL = sorted(PAGES.glob("*.md"))
NAMES = [page.stem for page in ALL]


@pytest.mark.parametrize("page", ALL, ids=NAMES)
def test_commands_compose_and_pictures_are_there(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    found = steps(text)
    assert any(step.kind == "sh" for step in found)
    for step in found:
        if step.kind == "bring":
            assert step.text in BROUGHT
        elif step.kind == "sh":
            program, *words = argv(page, step.text)
            if program == "rerender.run" and "--config-dir" not in words:  # whose file is brought
                assert preflight(literal([word for word in words if word != "--dry"])).jobs
    made = {step.text.partition(":")[0] for step in found if step.kind == "picture"}
    shown = set(re.findall(r"!\[[^\]]+\]\(([^)]+)\)", text))
    assert made == shown and all((page.parent / name).is_file() for name in shown)


def test_pictures_are_small_and_each_is_made_by_a_page() -> None:
    made = {
        step.text.partition(":")[0]
        for page in ALL
        for step in steps(page.read_text(encoding="utf-8"))
        if step.kind == "picture"
    }
    pictures = [file for file in PAGES.iterdir() if file.suffix != ".md"]
    assert {file.name for file in pictures} == made
    assert sum(file.stat().st_size for file in pictures) < 1.5e6


def test_a_page_runs_nothing_else(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    for line in ("rm -r x", "python -m http.server", "python -c 1"):
        page.write_text(f"```sh\n{line}\n```\n")
        with pytest.raises(InputError, match="runs"):
            make(page, tmp_path)


@pytest.mark.slow
@pytest.mark.parametrize("page", ALL, ids=NAMES)
def test_a_page_runs(page: Path, tmp_path: Path) -> None:
    quick = ("sampling.steps=8", "propagation=warp", "tracker=none", "store=store")
    for data in make(page, tmp_path, quick).values():
        assert data[:4] == b"RIFF" and len(data) > 1000
