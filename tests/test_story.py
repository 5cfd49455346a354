"""How far it is from a command line to an equation: one story, and a run tells it."""

from __future__ import annotations

import inspect
import traceback
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

import rerender
from rerender.constraint.shape import Shape
from rerender.contracts import Edits
from rerender.pipeline import render
from rerender.run import main
from rerender.scene import State
from rerender.translation.references import ResumePoint
from rerender.video import Clip
from tests.scenes import moving, parts

HOME = Path(rerender.__file__).parent
FUNCTIONS, FILES, FROM_RENDER = 10, 9, 5  # without the constraint's own edit

Hop = tuple[str, str]
"""A file below rerender/ and a function in it."""


@pytest.fixture
def stacks(monkeypatch: pytest.MonkeyPatch) -> list[list[Hop]]:
    """The functions of ours, from the outermost one on, through which each step of a constraint is
    reached."""
    found: list[list[Hop]] = []

    def clean(state: State, latent: Tensor) -> Tensor:
        frames = [frame for frame in traceback.extract_stack() if _ours(frame.filename)]
        hops = [(Path(each.filename).relative_to(HOME).as_posix(), each.name) for each in frames]
        found.append(list(dict.fromkeys(hops)))
        return latent

    monkeypatch.setattr(Shape, "bind", lambda self, scene, model: Edits(clean=clean))
    return found


def _ours(name: str) -> bool:
    return Path(name).is_relative_to(HOME)


def test_a_command_reaches_a_constraint_in_few_functions(
    stacks: list[list[Hop]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    small = ["model=tiny", "data.size=32", "data.frames=3", "keyframes.interval=2", "metrics=[]"]
    assert main(["+exp=smoke", "tracker=none", "constraint=[shape]", "out=out", *small]) == 0
    assert stacks
    for stack in stacks:
        assert ("pipeline.py", "render") in stack, "what a run calls"
        assert stack[0] == ("run.py", "main")
        assert len(stack) <= FUNCTIONS, stack
        assert len({file for file, _ in stack}) <= FILES, stack
        assert len(stack[stack.index(("pipeline.py", "render")) :]) <= FROM_RENDER, stack


def test_render_reaches_a_constraint_in_few_functions(stacks: list[list[Hop]], tiny: Any) -> None:
    clip = Clip("clip", moving(3), "a cat")
    assert len(list(render(clip, tiny, parts((Shape(start=0.0, stop=0.5),))))) == 3
    assert stacks
    assert all(len(stack) <= FROM_RENDER for stack in stacks)


class Kept(ResumePoint):
    """All key frames of a clip, finished."""

    def __init__(self, images: list[Tensor], first: int) -> None:
        self.shots, self.finished, self.first = [range(len(images))], len(images), first
        self.images = images

    def recall(self, index: int, shot: int) -> Any:
        from tests.propagation.scenes import translated

        return translated(index, self.images[index], shot)


def test_finished_key_frames_need_no_model_and_frames_before_the_first_are_not_made() -> None:
    def load() -> Any:
        raise AssertionError("loaded")

    clip, images = (
        Clip("clip", moving(4), "a cat"),
        [torch.full((3, 32, 32), i / 4) for i in range(4)],
    )
    for first in range(4):
        made = list(render(clip, load, parts(()), resume=Kept(images, first)))
        assert len(made) == 4 - first
        assert all(torch.equal(a, b) for a, b in zip(made, images[first:], strict=True))


def test_a_model_is_loaded_when_the_first_key_frame_is_asked_for(tiny: Any) -> None:
    loads = []

    def load() -> Any:
        loads.append(1)
        return tiny

    clip = Clip("clip", moving(3), "a cat")
    frames = render(clip, load, parts(()))
    assert inspect.isgenerator(frames)
    assert not loads
    assert len(list(frames)) == 3
    assert loads == [1]
