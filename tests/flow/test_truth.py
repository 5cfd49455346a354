"""True flow is read as it is, or refused."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from rerender.errors import ConfigError, InputError
from rerender.flow.field import Flow
from rerender.flow.truth import TruthFlow
from rerender.video import Clip, Truth
from tests.propagation.scenes import still


class Shift:
    """Every frame is ``t`` pixels to the right of frame 0; the left half is hidden."""

    def flow(self, target: int, source: int) -> Flow:
        offset = torch.zeros(1, 2, 4, 6)
        offset[:, 0] = source - target
        hidden = torch.zeros(1, 1, 4, 6)
        hidden[..., :3] = 1
        return Flow(offset, hidden)

    def translation(self, index: int) -> Tensor | None:
        return None

    def part(self, start: int, prompt: str) -> Truth:
        return self


def test_the_truth_is_read_with_its_occlusion() -> None:
    video = still(5, 4, 6)
    flow = TruthFlow().open(Clip("made", video, "a prompt", truth=Shift()))
    there, back = flow.pair(video.frame(1), video.frame(4))
    assert (there.offset[:, 0] == 3).all() and (back.offset[:, 0] == -3).all()
    assert there.occluded.mean() == 0.5
    assert torch.equal(flow.offset(video.frame(1), video.frame(4)), there.offset)


def test_a_clip_without_truth_is_refused() -> None:
    with pytest.raises(InputError, match="holiday: its true motion is not known"):
        TruthFlow().open(Clip("holiday", still(2), "a prompt"))


def test_an_unopened_truth_is_refused() -> None:
    video = still(2)
    with pytest.raises(ConfigError, match="none was opened"):
        TruthFlow().offset(video.frame(0), video.frame(1))
