"""What every choice of conf/ must fulfil, whoever adds it: found by globbing, never registered."""

from __future__ import annotations

import importlib
import re
from collections.abc import Iterator
from dataclasses import replace
from fractions import Fraction
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from eval.contracts import Metric
from eval.measure import score
from rerender import files
from rerender.config.allowlist import LISTS
from rerender.config.build import UNSET, build
from rerender.config.compose import literal, preflight
from rerender.config.job import Job
from rerender.config.paths import CONF
from rerender.contracts import (
    Constraint,
    Control,
    FlowEstimator,
    JointConstraint,
    KeyFrames,
    Model,
    Part,
    Propagation,
    Sampler,
    Smooth,
    Tracker,
)
from rerender.errors import ConfigError, RerenderError, WeightsError
from rerender.flow.dis import Dis
from rerender.pipeline import render
from rerender.scene import Watch
from rerender.video import Clip, Frame, MemoryVideo, Segment

HEIGHT, WIDTH = 48, 64
SMALL = 24, 32  # where whole runs are compared with themselves


@pytest.fixture(autouse=True, scope="module")
def one_thread() -> Iterator[None]:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def choices(group: str) -> list[str]:
    return sorted(path.stem for path in (CONF / group).glob("*.yaml"))


def composed(*arguments: str) -> dict[str, Any]:
    (job,) = preflight(literal(arguments)).jobs
    return job


@cache
def alone_chosen(group: str, name: str) -> dict[str, Any]:
    """The configuration with one choice, composed once for all tests that ask for it."""
    return composed(f"{group}=[{name}]" if group in LISTS else f"{group}={name}", "prompt=x")


def chosen(group: str, name: str) -> Any:
    """The part that a choice stands for; a tuple of parts in groups that are lists."""
    return build(filled(alone_chosen(group, name)[group]), group)


def filled(node: Any) -> Any:
    """A part of a configuration with something in place of what must be given."""
    if isinstance(node, dict):
        return {key: filled(value) for key, value in node.items()}
    return "given" if node == UNSET else node


def picture(shift: int = 0, size: tuple[int, int] = (HEIGHT, WIDTH)) -> Tensor:
    """A smooth image that can be followed, moved to the right."""
    y, x = torch.meshgrid(torch.arange(size[0]), torch.arange(size[1]) - shift, indexing="ij")
    waves = [torch.sin(x / 5 + y / 9), torch.sin(x / 7 - y / 6), torch.cos(x * y / 200)]
    return torch.stack(waves).float() * 0.4 + 0.5


def moving(count: int, size: tuple[int, int] = (HEIGHT, WIDTH)) -> MemoryVideo:
    return MemoryVideo([picture(index, size) for index in range(count)], Fraction(25))


def clip(count: int, size: tuple[int, int] = (HEIGHT, WIDTH)) -> Clip:
    return Clip("clip", moving(count, size), "a painting", "a pattern")


def shown(image: Tensor, size: tuple[int, int] = (HEIGHT, WIDTH)) -> bool:
    """Whether it is an image of the right size in 0..1."""
    inside = bool((image >= 0).all() and (image <= 1).all())
    return tuple(image.shape) == (3, *size) and inside


def kind(name: str) -> type[Part]:
    """The class that a constraint's yaml names."""
    text = (CONF / "constraint" / f"{name}.yaml").read_text(encoding="utf-8")
    module, _, cls = re.findall(r"_target_:\s*([\w.]+)", text)[0].rpartition(".")
    found: type[Part] = getattr(importlib.import_module(module), cls)
    return found


def is_joint(name: str) -> bool:
    return issubclass(kind(name), JointConstraint)


def alone(name: str) -> bool:
    """Whether it bears no other of its kind: it answers for attention, or merges key frames."""
    cls = kind(name)
    return issubclass(cls, JointConstraint) and (cls.replaces_attention or cls.merges_frames)


def drafts(name: str) -> bool:
    cls = kind(name)
    return issubclass(cls, Constraint) and cls.needs_draft


def compares(name: str) -> bool:
    """Whether it compares with an inversion."""
    cls = kind(name)
    return issubclass(cls, JointConstraint) and cls.needs_source


@pytest.mark.parametrize("name", choices("control"))
def test_a_control_maps_an_image_or_names_its_missing_weights(name: str) -> None:
    try:
        controls = chosen("control", name)
    except WeightsError as error:
        assert "given" in str(error)
        return
    for control in controls:
        assert isinstance(control, Control)
        assert control.name == name
        if control.given:
            with pytest.raises(ConfigError, match="of another picture"):
                control.map(picture())
            return
        first, again = control.map(picture()), control.map(picture())
        assert shown(first)
        assert torch.equal(first, again)


@pytest.mark.parametrize("name", choices("keyframes"))
@pytest.mark.parametrize("count", [1, 2, 3, 11, 24])
def test_first_and_last_frame_are_key_frames(name: str, count: int, tmp_path: Path) -> None:
    part, video = chosen("keyframes", name), moving(count)
    assert isinstance(part, KeyFrames)
    if part.made_elsewhere:
        for index in range(0, count, 3):
            files.put(tmp_path / f"{index}.png", files.png(video[index]))
        part = replace(part, path=tmp_path)  # type: ignore[type-var]
        part.check(video)
    shots = part.pick(video)
    indices = [index for shot in shots for index in shot]
    assert all(shots)
    assert indices == sorted(set(indices))
    if part.made_elsewhere:
        given = part.given(video)
        assert indices == list(given) == list(range(0, count, 3))
        assert all((given[i]() - video[i]).abs().max() < 1 / 255 for i in indices)
        return
    assert (indices[0], indices[-1]) == (0, count - 1)


@pytest.mark.parametrize("name", choices("flow"))
def test_a_flow_says_where_pixels_are_found_or_why_it_cannot(name: str) -> None:
    part = chosen("flow", name)
    assert isinstance(part, FlowEstimator)
    try:
        flow = part.open(clip(3))
        offset = flow.offset(Frame(0, picture()), Frame(2, picture(2)))
    except RerenderError as error:
        assert error.exit_code in (2, 3, 4)
        return
    assert offset.shape == (1, 2, HEIGHT, WIDTH)
    middle = offset[0, :, 12:-12, 12:-12].flatten(1).median(1).values
    assert torch.allclose(middle, torch.tensor([2.0, 0.0]), atol=0.5)


@pytest.mark.parametrize("name", choices("sampler"))
def test_a_sampler_goes_from_noise_to_the_image(name: str, tiny: Model) -> None:
    part = chosen("sampler", name)
    assert isinstance(part, Sampler)
    schedule = part.schedule(8, tiny)
    assert len(schedule.timesteps) == 8
    assert list(schedule.timesteps) == sorted(schedule.timesteps, reverse=True)
    assert list(schedule.alphas_cumprod) == sorted(schedule.alphas_cumprod)


@pytest.mark.parametrize("name", choices("propagation"))
@pytest.mark.parametrize("ends", ["both", "left", "right"])
def test_a_propagation_fills_every_frame(name: str, ends: str) -> None:
    part = chosen("propagation", name)
    assert isinstance(part, Propagation)
    grey = torch.full((3, HEIGHT, WIDTH), 0.5)
    left = Frame(0, grey) if ends != "right" else None
    right = Frame(4, grey) if ends != "left" else None
    try:
        frames = list(part.fill(Segment(moving(5), 1, 4, left, right), Dis()))
    except ConfigError as error:  # a program that the user installs
        assert "no program" in str(error)
        return
    assert len(frames) == 3
    assert all(shown(frame) for frame in frames)
    # what is everywhere the same in the key frames is the same everywhere between them, unless the
    # source is mixed in
    same = all(torch.allclose(frame, grey, atol=2 / 255) for frame in frames)
    assert same or name == "source_mix"


@pytest.mark.parametrize("name", choices("smooth"))
@pytest.mark.parametrize("count", [1, 2, 7])
def test_a_filter_keeps_every_frame_and_what_does_not_change(name: str, count: int) -> None:
    part = chosen("smooth", name)
    assert isinstance(part, Smooth)
    still = MemoryVideo([picture()] * count)
    frames = list(part.run((picture() for _ in range(count)), still, Dis()))
    assert len(frames) == count
    assert all(torch.allclose(frame, picture(), atol=1e-3) for frame in frames)


@pytest.mark.parametrize(
    "choice",
    [
        *(f"constraint=[{name}]" for name in choices("constraint")),
        *(f"sampler={name}" for name in choices("sampler")),
        *(f"start={name}" for name in choices("start")),
        f"constraint=[{','.join(name for name in choices('constraint') if not is_joint(name))}]",
        f"constraint=[{','.join(n for n in choices('constraint') if not (drafts(n) or alone(n)))}]",
        "constraint=[]",
    ],
)
def test_the_method_runs_with_every_choice_twice_alike(choice: str, tiny: Model) -> None:
    # UniPC is refused together with constraints that edit the latent between steps
    fewer = ["constraint=[cross_frame]"] if choice == "sampler=unipc" else []
    if any(name in choice for name in choices("constraint") if compares(name)):
        fewer = ["start=ddim_inversion"]
    if choice == "start=latent_motion":  # it begins with noise alone
        fewer = ["sampling.strength=null"]
    if choice == "start=null_text":  # it takes its time
        fewer = ["start.iterations=1"]
    if choice == "constraint=[fresco]":  # so does it, at 20 in each block and step
        fewer = ["constraint.fresco.iterations=2"]
    job = Job.of(composed("+exp=smoke", "keyframes.interval=2", choice, *fewer))
    first, again = ([*render(clip(5, SMALL), tiny, job.parts, 3, Watch())] for _ in range(2))
    assert len(first) == 5
    assert all(shown(frame, SMALL) for frame in first)
    assert all(torch.equal(one, two) for one, two in zip(first, again, strict=True))


@pytest.mark.parametrize("name", choices("metrics"))
def test_a_metric_gives_a_number_or_its_reason(name: str) -> None:
    metrics = chosen("metrics", name)
    assert all(isinstance(metric, Metric) for metric in metrics)
    rows = score(clip(4), moving(4), metrics, Dis(), "copy")
    assert len(rows) == len(metrics)
    for row in rows:
        assert row.value is not None or row.note.startswith("n/a: ")
        assert row.version


@pytest.mark.parametrize("name", choices("tracker"))
def test_a_tracker_takes_a_whole_record(name: str, tmp_path: Path) -> None:
    tracker = chosen("tracker", name)
    assert isinstance(tracker, Tracker)
    tracker.start(tmp_path, {"seed": 1}, "name", "group")
    tracker.log({"value": 1.0, "missing": None}, step=0)
    tracker.table("rows", ["name", "value"], [["first", 1.0], ["second", None]])
    tracker.summary({"value": 1.0, "missing": None})
    tracker.finish(0)
