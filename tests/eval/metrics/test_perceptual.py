"""Perceptual distances: equal to the lpips package, monotone in noise, never on unknown weights."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import cv2
import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from eval.metrics import lpips as ours
from eval.metrics.lpips import Lpips
from eval.metrics.lpips_demo import LpipsDemo
from eval.metrics.perceptual import FeaturePair, Maps, Perceptual, distances
from rerender.errors import ConfigError
from tests.eval.toys import Known, measure, picture, shifting


@dataclass(frozen=True, kw_only=True)
class Plain(Perceptual):
    """Squared difference of pixels as the only layer: closed forms."""

    version: ClassVar[str] = "1"

    def find(self) -> None: ...

    def maps(self, device: str) -> Maps:
        return lambda a, b: [(a - b).square().mean(1, keepdim=True)]


@pytest.fixture(scope="module")
def network() -> Any:
    import lpips

    torch.manual_seed(0)  # a random backbone is enough to compare two computations
    return lpips.LPIPS(net="squeeze", pnet_rand=True, verbose=False).eval()


def test_equal_the_package(network: Any) -> None:
    a = torch.stack([picture(64, 64, seed) for seed in (0, 1)])
    b = torch.stack([picture(64, 64, seed) for seed in (5, 6)])
    pairs = [FeaturePair(x, y, torch.ones(1, 64, 64)) for x, y in zip(a, b, strict=True)]
    with torch.inference_mode():
        theirs = network(a, b, normalize=True).flatten().tolist()
        mine = distances(lambda x, y: ours.difference_maps(network, x, y), pairs, "cpu")
    assert mine == pytest.approx(theirs, rel=1e-5)


def test_noise_is_monotone_and_the_truth_best(
    network: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ours, "load", lambda net, device: network)
    monkeypatch.setattr(Lpips, "find", lambda self: None)
    monkeypatch.setattr(Lpips, "note", lambda self: "random")
    source = [F.interpolate(picture(8, 8, i)[None], 64, mode="bilinear")[0] for i in range(3)]
    truth = Known(tuple(1 - frame for frame in source))
    values = [
        measure(
            Lpips(),
            source,
            [frame + sigma * picture(64, 64, 9) for frame in truth.frames],
            truth=truth,
        ).value
        for sigma in (0, 0.05, 0.1, 0.2)
    ]
    assert values[0] == 0
    assert values == sorted(values, key=lambda value: value or 0)


def test_source_against_result_needs_no_truth() -> None:
    frames = [picture(64, 64, seed) for seed in (0, 1)]
    made = [frame * 0.5 for frame in frames]
    row = measure(Plain(compare="source"), frames, made)
    expected = sum(float((frame - made[i]).square().mean()) for i, frame in enumerate(frames)) / 2
    assert row.value == pytest.approx(expected, rel=1e-5)
    assert row.metric.endswith("_source") and row.n == 2
    assert measure(Plain(compare="source"), frames, frames).value == 0


def test_unknown_weights_are_never_used(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path))
    frames = [picture(64, 64)] * 2
    row = measure(Lpips(compare="neighbours"), frames, frames)
    assert row.value is None and row.note.startswith("n/a: weights not found (")
    assert "https://download.pytorch.org/models/alexnet-owt-7be5be79.pth" in row.note
    file = tmp_path / "checkpoints" / "alexnet-owt-7be5be79.pth"
    file.parent.mkdir()
    file.write_bytes(b"random weights")
    row = measure(Lpips(compare="neighbours"), frames, frames)
    assert row.value is None and row.note.startswith("n/a: weights damaged (")
    assert "instead of 7be5be79" in row.note


def test_truth_neighbours_outside(tmp_path: Path) -> None:
    source = [picture(16, 16)] * 3
    brighter = [frame + 0.1 * i for i, frame in enumerate(source)]
    truth = Known(tuple(source))
    row = measure(
        Plain(), [frame * 0.5 for frame in source], [f * 0.5 for f in source], truth=truth
    )
    expected = float((source[0] * 0.5).square().mean())
    assert row.value == pytest.approx(expected, rel=1e-5)
    halves = [frame * 0.5 for frame in brighter]
    near = measure(Plain(compare="neighbours"), source, halves)
    assert near.value == pytest.approx(0.05**2, rel=1e-4) and near.curve[0] is None
    edited = [frame.clone() for frame in source]
    for frame in edited:
        frame[:, :, :8] = 0  # the edit, where the mask is white
        frame[:, :, 12:] *= 0.5  # damage outside it
    mask = np.zeros((16, 16), np.uint8)
    mask[:, :8] = 255
    (tmp_path / "toy.png").write_bytes(cv2.imencode(".png", mask)[1].tobytes())
    outside = measure(Plain(compare="outside", masks=str(tmp_path)), source, edited)
    damage = (source[0] - edited[0]).square().mean(0)[:, 8:].mean()
    assert outside.value == pytest.approx(float(damage), rel=1e-5)


def test_moved_frames_are_aligned_first() -> None:
    source = shifting(step=2)
    assert measure(Plain(compare="neighbours"), source, source, step=2).value == pytest.approx(
        0, abs=1e-12
    )
    still: list[Tensor] = [source[0]] * 10
    unaligned = measure(Plain(compare="neighbours"), still, source, step=0).value
    assert unaligned is not None and unaligned > 0.1


@pytest.mark.parametrize(
    ("metric", "reason"),
    [
        (Plain(), "the true translation is not known"),
        (Plain(compare="outside"), "no edit masks"),
        (Plain(compare="outside", masks="/no/where"), "no edit mask for toy"),
    ],
)
def test_what_is_missing_is_said(metric: Perceptual, reason: str) -> None:
    row = measure(metric, [picture()] * 2, [picture()] * 2)
    assert row.value is None and row.note.startswith("n/a: ") and reason in row.note


def test_bad_fields_are_refused() -> None:
    with pytest.raises(ConfigError, match="received 'sideways'"):
        Lpips(compare="sideways")  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match="alex, vgg, squeeze, received 'resnet'"):
        Lpips(net="resnet")  # type: ignore[arg-type]
    assert Lpips(compare="neighbours").name == "lpips_neighbours"
    assert (Lpips().name, Lpips(compare="outside").name) == ("lpips", "lpips_outside")


def test_lpips_demo_on_a_residual_network(tmp_path: Path) -> None:
    from transformers import ResNetConfig, ResNetForImageClassification

    torch.manual_seed(0)
    config = ResNetConfig(
        embedding_size=4, hidden_sizes=[4, 8], depths=[1, 1], layer_type="basic", num_labels=3
    )
    ResNetForImageClassification(config).save_pretrained(tmp_path)
    source = [picture(48, 48, i) for i in range(2)]
    truth = Known(tuple(source))
    metric = LpipsDemo(weights=str(tmp_path))
    values = [
        measure(metric, source, [f * (1 - s) + s * 0.5 for f in source], truth=truth).value or 0
        for s in (0, 0.3, 0.7)
    ]
    assert values == sorted(values) and values[0] == pytest.approx(0, abs=1e-9) and values[2] < 4
    row = measure(LpipsDemo(weights="/no/where"), source, source, truth=truth)
    assert row.value is None and "weights not found" in row.note
