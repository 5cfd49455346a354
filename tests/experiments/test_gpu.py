"""The bench of a device, at toy size on the processor."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

from experiments.bench.gpu import __main__ as bench
from experiments.bench.gpu import correctness
from experiments.bench.gpu.setting import BenchSetting
from experiments.bench.gpu.tables import TITLES
from experiments.bench.propagation import device as filling


@pytest.fixture(scope="module")
def out(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a run of all parts but the tests, which are run by those who run this one."""
    folder = tmp_path_factory.mktemp("gpu")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(filling, "REPEATS", 1)
        parts = [part for part in bench.PARTS if part != "tests"]
        bench.main([str(folder), "--toy", "--device", "cpu", "--parts", *parts])
    return folder


@pytest.mark.parametrize("part", [part for part in bench.PARTS if part != "tests"])
def test_every_part_is_complete(out: Path, part: str) -> None:
    found = json.loads((out / f"{part}.json").read_text())
    assert found["complete"] and "error" not in found and found["rows"]
    assert {"card", "date", "commit", "command", "torch"} <= set(found)
    assert f"## {TITLES[part]}" in (out / "gpu.md").read_text()
    assert json.loads((out / "gpu.json").read_text())[part] == found


def test_what_is_measured(out: Path) -> None:
    rows = {
        part: json.loads((out / f"{part}.json").read_text())["rows"]
        for part in bench.PARTS
        if part != "tests"
    }
    assert [row["batch_size"] for row in rows["keys"]] == [1, 2, 1]
    assert all(row["seconds"] > 0 and row["key_frames"] == 3 for row in rows["keys"])
    assert 0 < rows["outside"][0]["share_outside"] < 1
    assert [row["frames"] for row in rows["clip"]] == [5] * 4
    assert rows["memory"][0]["slope_mib"] == 0 and rows["memory"][0]["key_frames"] == 4
    assert all("error" not in row and row["psnr"] is None for row in rows["methods"])


def test_what_is_complete_is_not_done_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls: list[int] = []

    def part(setting: BenchSetting):  # type: ignore[no-untyped-def]
        calls.append(1)
        yield {"value": len(calls)}
        if len(calls) == 1:
            raise ValueError("the card fell out")
        yield {"value": 0}

    monkeypatch.setattr(bench, "PARTS", {"keys": part})
    results = []
    for _ in range(3):
        bench.main([str(tmp_path), "--toy", "--device", "cpu", "--parts", "keys"])
        results.append(json.loads((tmp_path / "keys.json").read_text()))
    assert len(calls) == 2 and results[1] == results[2]
    assert results[0]["rows"] == [{"value": 1}] and "fell out" in results[0]["error"]
    assert results[1]["rows"] == [{"value": 2}, {"value": 0}] and results[1]["complete"]
    other = {**bench.about(torch.device("cpu"), True), "card": "another"}
    monkeypatch.setattr(bench, "about", lambda *_: other)
    bench.main([str(tmp_path), "--toy", "--device", "cpu", "--parts", "keys", "--seconds", "-1"])
    assert json.loads((tmp_path / "keys.json").read_text())["error"] == "no time left"


def test_a_full_run_needs_a_device(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        bench.main([str(tmp_path), "--device", "cpu"])
    assert "--toy" in capsys.readouterr().err


def test_tests_are_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    files = correctness.marked()
    assert (
        correctness.ROOT / "tests/flow/test_dis_torch.py" in files and Path(__file__) not in files
    )
    monkeypatch.setattr(correctness, "marked", lambda: ["tests/sampler/test_ddim_nowhere.py"])
    (row,) = correctness.tests(BenchSetting.small(torch.device("cpu")))
    assert row["exit_code"] == 4 and row["failed"] == []
