"""Metrics follow clips and model: the demo world's judges stay in the demo world."""

from __future__ import annotations

import pytest

from rerender.config.compose import Composer, literal
from rerender.config.judges import PUBLIC as JUDGES
from rerender.config.paths import choices_of

DEMO = {"clip_score_demo", "lpips_demo"}
PUBLIC = {"clip_score", "frame_accuracy", "lpips", "lpips_source", "lpips_neighbours"}


def metrics(*arguments: str) -> list[str]:
    composer = Composer(literal(arguments))
    return list(composer.tree(composer.first()).get("metrics") or {})


REAL = ("data=video", "data.path=cat.mp4", "prompt=x")


@pytest.mark.parametrize(
    "arguments", [(), ("data=demo_study",), ("model=tiny",), ("model=demo_natural",)]
)
def test_the_demo_world_has_its_own_judges(arguments: tuple[str, ...]) -> None:
    assert set(metrics(*arguments)) > DEMO
    assert not PUBLIC & set(metrics(*arguments))


@pytest.mark.parametrize(
    "arguments",
    [REAL, (*REAL, "model=sd15"), ("model=sd15",), (*REAL, "+exp=table2"), (*REAL, "preset=fast")],
)
def test_clips_or_models_of_elsewhere_have_public_judges(arguments: tuple[str, ...]) -> None:
    found = metrics(*arguments)
    assert set(found) >= PUBLIC
    assert not [name for name in found if "demo" in name]
    inside = metrics(*(each for each in arguments if each not in (*REAL, "model=sd15")))
    others = [name for name in inside if "demo" not in name]
    kept = [
        name for name in found if not name.startswith(("clip", "lpips", "dir", "frame_a", "tem"))
    ]
    assert kept == [name for name in others if name in kept]
    assert found.index("clip_score") == inside.index("clip_score_demo")


def test_what_the_command_line_names_is_taken() -> None:
    assert metrics(*REAL, "metrics=[lpips_demo]") == ["lpips_demo", "lpips_demo_neighbours"]
    assert metrics("metrics=[lpips]") == ["lpips", "lpips_source", "lpips_neighbours"]
    assert metrics(*REAL, "metrics=[]") == []


def test_every_demo_judge_has_a_public_one() -> None:
    names = choices_of("metrics")
    asked_for_by_name = {"anchor_style_demo"}  # by studies of the demo model
    assert {n for n in names if n.endswith("_demo")} == {*JUDGES} | asked_for_by_name
