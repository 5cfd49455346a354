"""Encoding again and again: closed forms of a lossy autoencoder, and the shipped one."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from eval import score_files
from experiments.encoding_cycles import FULL, PLAIN, cycled, main


class Fading:
    """An autoencoder that loses a share of the picture: E(x) = x, D(z) = keep * z."""

    def __init__(self, keep: float) -> None:
        self.keep = keep

    def encode(self, image: Tensor) -> Tensor:
        return image[None].clone()

    def decode(self, latent: Tensor) -> Tensor:
        return self.keep * latent[0]


@pytest.mark.parametrize("keep", [1.0, 0.95, 0.9])
def test_plain_fades_by_the_share_and_compensation_leaves_its_square(keep: float) -> None:
    image, model = torch.full((3, 8, 8), 0.5), Fading(keep)
    assert [float(y.mean()) for y in plainly(model, image, 0.0)] == pytest.approx(
        [0.5 * keep**n for n in (1, 2, 3)]
    )
    # x* = x + (x - keep x) = (2 - keep) x, so that a cycle keeps keep (2 - keep) = 1 - (1 - keep)^2.
    rest = 1 - (1 - keep) ** 2
    assert [float(y.mean()) for y in plainly(model, image, 1.0)] == pytest.approx(
        [0.5 * rest**n for n in (1, 2, 3)]
    )


def plainly(model: Any, image: Tensor, compensation: float) -> list[Tensor]:
    return list(cycled(model, image, compensation, threshold=0.125, cycles=3))


def test_the_command_shows_that_compensation_keeps_more(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    settings = ["data.seeds=[1000000,1000001]", "data.size=64", "data.frames=1"]
    assert main([*settings, "--cycles", "1", "4", "--out", str(tmp_path)]) == 0
    rows = score_files.read(tmp_path / "scores.jsonl")
    value = {(row.method, row.clip, row.metric): row.value for row in rows}
    assert len(value) == 2 * 3 * 2
    for clip in ("demo-slow-1000000", "demo-slow-1000001"):
        plain, kept = (value[name, clip, "mse_after_4"] for name in (PLAIN, FULL))
        assert plain is not None and kept is not None and 0 < kept < 0.5 * plain
        once = value[PLAIN, clip, "mse_after_1"]
        assert once is not None and once < plain
    assert "compensated" in (tmp_path / "table.md").read_text()
    assert (tmp_path / "cycles.png").stat().st_size > 1000
    assert main(["--cycles", "0"]) == 2 and "1..1000" in capsys.readouterr().err
