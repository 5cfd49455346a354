"""Flow that is estimated ahead is the flow that is asked for, estimated once."""

from __future__ import annotations

import threading
from dataclasses import replace

import pytest
import torch
from torch import Tensor

from rerender import parts
from rerender.contracts import FlowEstimator
from rerender.flow.field import Flow, identity
from rerender.model.diffusion import StableDiffusion
from rerender.model.tiny import components
from rerender.translate import translate
from rerender.translation.ahead import FlowAhead
from rerender.video import Frame
from tests.device.pretend import DEVICE, pretended
from tests.scenes import SCENE, moving

KEYS = 4


class Counted(FlowEstimator):
    """No motion; remembers who asked, and in which thread."""

    def __init__(self) -> None:
        self.asked: list[tuple[int, int, bool]] = []

    def offset(self, target: Frame, source: Frame, start: Tensor | None = None) -> Tensor:
        raise AssertionError("flows between key frames alone are asked for")

    def between(self, target: Frame, source: Frame) -> Flow:
        here = threading.current_thread() is threading.main_thread()
        self.asked.append((target.index, source.index, here))
        if target.index == 13:
            raise ValueError("an unlucky frame")
        return identity(*target.image.shape[-2:])


def frame(index: int) -> Frame:
    return Frame(index, torch.zeros(3, 16, 16))


def test_what_is_expected_is_estimated_once_in_another_thread_if_its_kind_is_wanted() -> None:
    counted = Counted()
    flow = FlowAhead(counted)
    for target in (1, 2, 3):
        flow.expect(frame(target), frame(0), "anchor")
        flow.expect(frame(target), frame(target - 1), "previous")
        for _ in range(2):
            assert isinstance(flow.between(frame(target), frame(0)), Flow)
    flow.between(frame(3), frame(1))  # nobody expected it
    ahead = [(2, 0, False), (3, 0, False)]
    assert counted.asked == [(1, 0, True), *ahead, (3, 1, True)]


def test_an_error_ahead_is_raised_where_the_flow_is_asked_for() -> None:
    flow = FlowAhead(Counted())
    flow.expect(frame(1), frame(0), "anchor")
    flow.between(frame(1), frame(0))
    flow.expect(frame(13), frame(0), "anchor")
    flow.between(frame(2), frame(0))
    with pytest.raises(ValueError, match="unlucky"):
        flow.between(frame(13), frame(0))


def test_the_thread_ends_with_who_can_ask() -> None:
    flow = FlowAhead(Counted())
    flow.expect(frame(1), frame(0), "anchor")
    flow.between(frame(1), frame(0))
    flow.expect(frame(2), frame(0), "anchor")
    flow.between(frame(2), frame(0))
    (thread,) = flow._thread._threads
    assert thread.is_alive()
    del flow
    thread.join(5)
    assert not thread.is_alive()


@pytest.mark.parametrize("batch_size", [1, 3, 8])
def test_jobs_that_outlive_their_maker_still_get_their_flow(batch_size: int) -> None:
    """All lanes are begun at once, before any of them asks for a flow."""
    settings = ("constraint=[shape]", "sampling.steps=2", f"sampling.batch_size={batch_size}")
    chosen = replace(parts("model=tiny", *settings, "constraint.shape.stop=1"), flow=Counted())
    clip = replace(SCENE, video=moving(KEYS))
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        plain = StableDiffusion(components(1))
    expected = [each.image for each in translate(clip, [range(KEYS)], plain, chosen)]
    with pretended(), torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = StableDiffusion(components(1), DEVICE)
        found = [each.image for each in translate(clip, [range(KEYS)], model, chosen)]
    assert all(torch.allclose(*pair, atol=1e-4) for pair in zip(found, expected, strict=True))


def test_on_a_device_all_flows_but_the_first_are_estimated_ahead() -> None:
    few = ("constraint=[shape]", "sampling.steps=2", "constraint.shape.stop=1")
    counted = Counted()
    chosen = replace(parts("model=tiny", *few), flow=counted)
    clip = replace(SCENE, video=moving(KEYS))

    def images(device: torch.device | None) -> list[Tensor]:
        counted.asked.clear()
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            model = StableDiffusion(components(1), device)
        return [each.image for each in translate(clip, [range(KEYS)], model, chosen)]

    expected, pairs = images(None), {(index, 0) for index in range(1, KEYS)}
    assert set(counted.asked) == {(*pair, True) for pair in pairs}
    with pretended():
        found = images(DEVICE)
    assert all(torch.allclose(*pair, atol=1e-4) for pair in zip(found, expected, strict=True))
    assert len(counted.asked) == len(pairs) and {each[:2] for each in counted.asked} == pairs
    assert sum(not here for *_, here in counted.asked) == len(pairs) - 1
