"""Anchor's style: shares and cosines that are known, by a judge of colours and on true renders."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

from eval.metrics.anchor_style import AnchorStyle
from rerender.demo.captions import STYLES
from rerender.demo.world import HELD_OUT, World
from rerender.errors import ConfigError
from tests.eval.metrics.test_clip import Colours, colours, flat, judged
from tests.eval.toys import measure

__all__ = ["colours"]  # the fixture
HUES = ("red", "green", "blue")


def test_share_counts_later_frames_in_the_style_of_the_first(colours: str) -> None:
    metric = AnchorStyle(weights=colours, styles=HUES)
    shown = ["red", "red", "blue", "red", "green"] * 4  # more than one batch
    row = judged(metric, ["green"] * 20, shown, source_prompt="")
    assert row.metric == "anchor_style" and row.n == 19 and row.curve[0] is None
    assert row.curve[1:] == tuple(float(name == "red") for name in shown[1:])
    assert row.value == pytest.approx(11 / 19)
    still = judged(metric, ["green"] * 3, ["blue"] * 3, source_prompt="")
    assert still.value == 1


def test_a_weak_look_of_the_same_style_counts_and_cosine_says_how_weak(colours: str) -> None:
    faint = flat("red") + 0.9 * flat("blue")
    frames = [flat("red"), faint, flat("blue")]
    prompts = {"prompt": "red", "source_prompt": ""}
    share = measure(AnchorStyle(weights=colours, styles=HUES), frames, frames, prompts=prompts)
    assert share.curve == (None, 1, 0)
    cosine = AnchorStyle(weights=colours, measure="cosine")
    row = measure(cosine, frames, frames, prompts=prompts)
    expected = F.cosine_similarity(torch.tensor([1.0, 0, 0.9]), torch.tensor([1.0, 0, 0]), dim=0)
    assert row.metric == "anchor_cosine" and row.n == 2
    assert row.curve[1:] == pytest.approx((float(expected), 0))


def test_the_source_prompt_stands_before_the_style(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[str] = []

    class Listening(Colours):
        def texts(self, prompts: object) -> torch.Tensor:
            asked.extend(prompts)  # type: ignore[call-overload]
            return torch.eye(2, 3)

    frames = [flat("red")] * 2
    monkeypatch.setattr("eval.metrics.clip.load", lambda folder, device: Listening())
    measure(AnchorStyle(weights="demo", styles=("oil", "neon")), frames, frames)
    assert asked == ["a red ball, oil", "a red ball, neon"]


@pytest.mark.parametrize("style", STYLES)
def test_true_renders_are_in_their_own_style(style: str) -> None:
    world = World(HELD_OUT + 3)
    other = STYLES[(STYLES.index(style) + 3) % len(STYLES)]
    result = [world.frame(0, style), world.frame(10, style), world.frame(20, other)]
    source = [world.frame(index) for index in (0, 10, 20)]
    prompts = {"prompt": "", "source_prompt": world.caption}
    share = measure(AnchorStyle(weights="demo"), source, result, prompts=prompts)
    assert (share.metric, share.curve) == ("anchor_style_demo", (None, 1, 0))
    row = measure(AnchorStyle(weights="demo", measure="cosine"), source, result, prompts=prompts)
    same, changed = row.curve[1:]
    assert row.metric == "anchor_cosine_demo" and same is not None and changed is not None
    assert same > 0.9 > changed


def test_what_cannot_be_asked_is_refused() -> None:
    with pytest.raises(ConfigError, match="two or more"):
        AnchorStyle(weights="demo", styles=("oil",))
    with pytest.raises(ConfigError, match="two or more"):
        AnchorStyle(weights="demo", styles=("oil", "oil"))
    with pytest.raises(ConfigError, match="share or cosine"):
        AnchorStyle(weights="demo", measure="both")  # type: ignore[arg-type]
