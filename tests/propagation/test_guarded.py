"""Segments whose flow cannot be trusted are filled by the safer method, and it is said so."""

from __future__ import annotations

import logging

import pytest
import torch

from rerender.flow.dis import Dis
from rerender.propagate import propagate
from rerender.propagation.guarded import Guarded
from rerender.propagation.hold import Hold
from rerender.propagation.warp import Warp
from rerender.video import MemoryVideo
from tests.propagation.scenes import keys, moving, texture

PART = Guarded(Warp(), Hold(), least=0.5)


def same(video: MemoryVideo, other: Warp | Hold) -> bool:
    guarded = propagate(video, keys(video, [0, 4]), PART, Dis())
    return all(map(torch.equal, guarded, propagate(video, keys(video, [0, 4]), other, Dis())))


def test_consistent_flow_is_used(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    assert same(moving(5), Warp())
    assert "flow 0-1" in caplog.text and "filled by" not in caplog.text


def test_flow_that_does_not_find_back_is_not(caplog: pytest.LogCaptureFixture) -> None:
    video = MemoryVideo([texture(48, 64, seed) for seed in range(5)])
    assert same(video, Hold())
    assert "filled by Hold" in caplog.text
