"""Tracks of moving subjects: what keeps its look has 1, what becomes something else has not."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

import pytest
import torch
from PIL import Image
from torch import Tensor

from eval.measure import score
from eval.metrics.subject_identity import SubjectIdentity
from eval.score_files import Score
from rerender.contracts import FlowEstimator
from rerender.errors import ConfigError
from rerender.flow.field import Flow
from rerender.video import Frame, MemoryVideo
from tests.eval.toys import Shift, clip_of, shifting

SIDE, STEP = 20, 3


@dataclass(frozen=True)
class Walker(FlowEstimator):
    """The exact flow of a square that moves right over a still ground."""

    def offset(self, target: Frame, source: Frame, start: Tensor | None = None) -> Tensor:
        offset = torch.zeros(1, 2, *target.image.shape[-2:])
        left = 10 + STEP * target.index
        offset[:, 0, 14 : 14 + SIDE, left : left + SIDE] = STEP * (source.index - target.index)
        return offset

    def between(self, target: Frame, source: Frame) -> Flow:
        offset = self.offset(target, source)
        return Flow(offset, torch.zeros_like(offset[:, :1]))


def texture(seed: int, height: int, width: int) -> Tensor:
    return torch.rand(3, height, width, generator=torch.Generator().manual_seed(seed))


def walk(subjects: list[int]) -> list[Tensor]:
    """Frames in which a square of the texture of that frame's seed moves right."""
    frames = []
    for index, seed in enumerate(subjects):
        frame = texture(99, 48, 64) * 0.3
        left = 10 + STEP * index
        frame[:, 14 : 14 + SIDE, left : left + SIDE] = texture(seed, SIDE, SIDE)
        frames.append(frame)
    return frames


def measured(result: list[Tensor], metric: SubjectIdentity | None = None) -> Score:
    source = clip_of(walk([1] * len(result)))
    metric = metric or SubjectIdentity(patch=5)
    (row,) = score(source, MemoryVideo(result), [metric], Walker(), "ours")
    return row


def test_what_keeps_its_look_has_one_and_what_changes_at_half_time_falls_there() -> None:
    same = measured(walk([1] * 6))
    assert same.value == pytest.approx(1, abs=1e-5)
    assert same.curve[0] is None and same.n == 5
    changed = measured(walk([1, 1, 1, 2, 2, 2])).curve
    assert [round(v, 3) for v in changed[1:3] if v is not None] == [1, 1]
    assert all(v is not None and abs(v) < 0.3 for v in changed[3:])


def test_gain_is_no_other_identity_and_noise_is_by_degrees() -> None:
    darker = [
        frame * gain for frame, gain in zip(walk([1] * 5), (1, 0.8, 0.6, 0.9, 1), strict=True)
    ]
    assert measured(darker).value == pytest.approx(1, abs=1e-5)
    values = []
    for amount in (0.0, 0.05, 0.2, 0.8):
        noise = [amount * torch.randn(3, 48, 64, generator=_seeded(i)) for i in range(5)]
        result = [(f + n).clamp(0, 1) for f, n in zip(walk([1] * 5), noise, strict=True)]
        values.append(measured(result).value or 0)
    assert values == sorted(values, reverse=True)
    assert values[0] - values[-1] > 0.3


def _seeded(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def test_a_moving_camera_has_no_subject_until_a_mask_names_one(tmp_path: Path) -> None:
    frames = shifting(5)
    clip = clip_of(frames)
    metric = SubjectIdentity(patch=5, spacing=3)
    (row,) = score(clip, MemoryVideo(frames), [metric], Shift(1), "ours")
    assert (row.value, row.n) == (None, 0)
    assert row.note.startswith("n/a: no subject moves against the rest")
    Image.new("L", (32, 24), 255).save(tmp_path / "m.png")
    clip = replace(clip, masks=str(tmp_path / "m.png"))
    (row,) = score(clip, MemoryVideo(frames), [metric], Shift(1), "ours")
    assert row.value == pytest.approx(1, abs=1e-5)


def test_a_still_clip_and_one_frame_have_no_value() -> None:
    for frames in ([texture(1, 24, 32)] * 3, [texture(1, 24, 32)]):
        (row,) = score(clip_of(frames), MemoryVideo(frames), [SubjectIdentity()], Shift(0), "ours")
        assert row.value is None


@pytest.mark.parametrize("wrong", [{"spacing": 0}, {"patch": 4}, {"patch": 1}, {"moving": 0.0}])
def test_bad_settings_are_named(wrong: dict[str, float]) -> None:
    with pytest.raises(ConfigError, match=f"subject_identity.{next(iter(wrong))}"):
        SubjectIdentity(**wrong)  # type: ignore[arg-type]
