"""Flow that is computed beside the denoising: the same flows, before they are asked for."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from typing import Any, ClassVar

import pytest
import torch

from rerender.flow.field import Flow
from rerender.translation import key_frame
from rerender.translation.flow_ahead import MOST, FlowAhead, ahead
from rerender.video import Frame
from tests.scenes import ALL, SCENE, Shift, parts, translated

CUDA = torch.device("cuda")


class Noted(Shift):
    """Notes which flows are computed, and in which thread."""

    in_background: ClassVar[bool] = True

    def __init__(self) -> None:
        super().__init__()
        self.asked: dict[tuple[int, int], str] = {}

    def between(self, target: Frame, source: Frame) -> Flow:
        assert (target.index, source.index) not in self.asked, "computed twice"
        self.asked[target.index, source.index] = threading.current_thread().name
        return super().between(target, source)


@pytest.mark.parametrize("batch_size", [1, 4])
def test_same_key_frames_and_flows_from_the_background(
    tiny: Any, monkeypatch: pytest.MonkeyPatch, batch_size: int
) -> None:
    plain, beside = Noted(), Noted()
    expected = translated(tiny, parts(ALL, flow=plain, batch_size=batch_size))
    assert set(plain.asked.values()) == {threading.current_thread().name}

    monkeypatch.setattr(key_frame, "ahead", lambda flow, clip, _: ahead(flow, clip, CUDA))
    found = translated(tiny, parts(ALL, flow=beside, batch_size=batch_size))
    for one, other in zip(expected, found, strict=True):
        assert torch.equal(one.image, other.image)
    assert set(beside.asked) == set(plain.asked)
    if batch_size == 1:  # the second key frame is the first that asks
        later = {name for (target, _), name in beside.asked.items() if target > 1}
        assert later == {"flow_0"}


def test_nothing_is_begun_where_no_constraint_asks(tiny: Any, monkeypatch: Any) -> None:
    flow = Noted()
    monkeypatch.setattr(key_frame, "ahead", lambda each, clip, _: ahead(each, clip, CUDA))
    translated(tiny, parts(ALL[:1], flow=flow))
    assert not flow.asked


def test_flows_that_nobody_asks_for_are_let_go() -> None:
    frame = SCENE.video.frame
    with ThreadPoolExecutor(1) as thread:
        flow = FlowAhead(Shift(), SCENE, thread)
        for number in range(2 * MOST):  # as if each key frame had another anchor than foreseen
            flow.expect(1, [0])
            flow.between(frame(3), frame(0))
            flow._begun[number + 10, 0] = flow._begun.pop((1, 0))
        assert len(flow._begun) <= MOST + 1


def test_an_error_of_the_estimator_is_raised_where_its_flow_is_asked_for() -> None:
    class Failing(Noted):
        def between(self, target: Frame, source: Frame) -> Flow:
            if target.index == 2:
                raise MemoryError
            return super().between(target, source)

    frame = SCENE.video.frame
    with ahead(Failing(), SCENE, CUDA) as flow:
        assert flow is not None
        flow.expect(2, [1])
        flow.between(frame(1), frame(0))
        with pytest.raises(MemoryError):
            flow.between(frame(2), frame(1))


def test_no_thread_where_nothing_is_gained() -> None:
    with ahead(Noted(), SCENE, torch.device("cpu")) as flow:
        assert flow is None
    with ahead(Shift(), SCENE, CUDA) as flow:
        assert flow is None
