"""What networks say of frames is computed once; what is quick is left alone."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import ClassVar

import pytest
import torch
from torch import Tensor

from rerender.contracts import Control, FlowEstimator
from rerender.flow.field import Flow, occlusion
from rerender.store.cache import Cache
from rerender.store.network_outputs import kept
from rerender.video import Frame
from tests.scenes import Shift, moving, parts

CALLS: list[str] = []


@dataclass(frozen=True)
class Slow(FlowEstimator):
    """A flow that tells its frames apart and counts its calls."""

    costly: ClassVar[bool] = True
    scale: float = 1.0

    def offset(self, target: Frame, source: Frame, start: Tensor | None = None) -> Tensor:
        CALLS.append("offset")
        difference = (target.image - source.image).mean(0)[None, None] * self.scale
        return torch.cat([difference, difference], 1) + (0 if start is None else start)


@dataclass(frozen=True, kw_only=True)
class Drawn(Control):
    costly: ClassVar[bool] = True

    def map(self, image: Tensor) -> Tensor:
        CALLS.append("map")
        return image.flip(0)


@pytest.fixture
def cache(tmp_path: Path) -> Cache:
    return Cache(tmp_path)


@contextmanager
def calls(count: int) -> Iterator[None]:
    CALLS.clear()
    yield
    assert len(CALLS) == count


def test_a_flow_is_computed_once_in_each_direction(cache: Cache) -> None:
    video, slow = moving(3), Slow()
    one, two = video.frame(0), video.frame(1)
    for count in (2, 0):
        flow = kept(replace(parts(), flow=slow), cache, {}).flow
        with calls(count):
            there, back = flow.pair(one, two)
        expected = slow.offset(one, two), slow.offset(two, one)
        assert torch.equal(there.offset, expected[0])
        assert torch.equal(back.offset, expected[1])
        assert torch.equal(there.occluded, occlusion(*expected))
    with calls(0):
        assert isinstance(flow.between(two, one), Flow)
        flow.offset(one, two)


def test_a_first_guess_settings_and_frames_tell_flows_apart(cache: Cache) -> None:
    video, base = moving(3), replace(parts(), flow=Slow())
    one, two = video.frame(0), video.frame(1)
    flow, other = (kept(p, cache, {}).flow for p in (base, replace(base, flow=Slow(scale=2.0))))
    with calls(4):
        flow.offset(one, two)
        flow.offset(one, two, torch.ones(1, 2, 32, 32))
        flow.offset(one, video.frame(2))
        other.offset(one, two)
    with calls(1):
        kept(base, cache, {"flow.weights": "another file"}).flow.offset(one, two)
        unconcerned = kept(base, cache, {"control.path": "of no concern"}).flow.offset(one, two)
    assert torch.equal(unconcerned, flow.offset(one, two))


def test_a_control_map_is_computed_once_however_strongly_it_acts(cache: Cache) -> None:
    image = moving(1)[0]
    chosen = replace(parts(), control=(Drawn(),))
    weak = replace(parts(), control=(Drawn(weight=0.5, start=0.2),))
    with calls(1):
        (control,) = kept(chosen, cache, {}).control
        (weaker,) = kept(weak, cache, {}).control
        assert torch.equal(control.map(image), weaker.map(image))
    assert (weaker.weight, weaker.start, weaker.name) == (0.5, 0.2, "test_network_outputs")
    assert torch.equal(control.map(image), image.flip(0))


def test_what_is_quick_is_left_alone(cache: Cache) -> None:
    chosen = parts(flow=Shift())
    assert kept(chosen, cache, {}) == chosen
    assert not [*cache.root.iterdir()]
