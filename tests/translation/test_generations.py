"""How often what is seen in a key frame has gone through the autoencoder, in closed form."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from rerender.constraint.cross_frame import CrossFrame
from rerender.constraint.pixel import Pixel
from rerender.translation.generations import generations
from tests.scenes import SCENE, Shift, moving, parts


def counted(step: int, constraint: tuple[Any, ...], frames: int = 9, **more: Any) -> list[float]:
    clip = replace(SCENE, video=moving(frames, 32, step))
    chosen = parts(constraint, flow=Shift(step), **more)
    return list(generations(clip, [range(frames)], chosen).values())


def test_a_still_scene_is_handed_on_from_the_anchor_or_from_key_to_key() -> None:
    assert counted(0, (Pixel(),), 5) == [1, 2, 2, 2, 2]
    assert counted(0, (Pixel(anchored=False),), 5) == [1, 2, 3, 4, 5]
    assert counted(0, (CrossFrame(),), 5) == [1] * 5
    assert counted(0, (), 5) == [1] * 5


def test_what_comes_into_view_begins_anew() -> None:
    """A scene of 32 columns that moves by 4 a frame: after k frames 4k of them are new to the
    anchor; of these those that the key frame before shows have its generation and one more."""
    made = counted(4, (Pixel(),))
    # columns in order of appearance: those of the anchor 2; each band that came into view at frame
    # b counts 1 there and one more in each key frame after it
    for k, value in enumerate(made):
        anchor = 2.0 if k else 1.0
        bands = [1 + k - b for b in range(1, k + 1)]
        mean = ((32 - 4 * k) * anchor + 4 * sum(bands)) / 32
        assert value == pytest.approx(mean, abs=0.15)  # occlusion is softened by a pixel


def test_a_new_anchor_is_older_itself() -> None:
    fixed, renewed = (counted(4, (Pixel(),), reanchor=r) for r in (None, 0.6))
    assert renewed[:4] == fixed[:4] and renewed[-1] > 0
    assert counted(4, (Pixel(),), reanchor=0.0) == fixed


def test_shots_begin_anew() -> None:
    clip = replace(SCENE, video=moving(6, 32, 0))
    chosen = parts((Pixel(anchored=False),), flow=Shift(0))
    found = generations(clip, [[0, 2], [3, 4, 5]], chosen)
    assert found == {0: 1, 2: 2, 3: 1, 4: 2, 5: 3}
