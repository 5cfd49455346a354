"""The measurement of propagation on a device, on the processor."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from experiments.bench.propagation import device


def test_it_makes_frames_as_good_as_the_compiled_path(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(device, "REPEATS", 1)
    out = tmp_path / "device.json"
    monkeypatch.setattr("sys.argv", ["device", "--toy", "--device", "cpu", "--out", str(out)])
    device.main()
    (row,) = json.loads(out.read_text())
    assert row["size"] == "64x48" and row["fps"] > 0
    stages = {"flow", "refine", "warp", "guides", "search", "vote", "merge", "blend", "sum"}
    assert set(row["ms"]) == stages
    quality = row["psnr"]
    assert quality["cpu"] > 35 and quality["device"] > quality["cpu"] - 0.05
    (whole,) = row["end to end"]
    assert whole["segments"] == 1 and whole["fps"] > 0 and whole["psnr"] > 25
    assert row["psnr numba, dis"] > 25
