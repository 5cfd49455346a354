"""Memory is estimated before a weight is read: weights exactly, the rest as it was measured."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import torch

from rerender.config.compose import literal, preflight
from rerender.config.job import Job
from rerender.contracts import MemoryUse
from rerender.errors import ResourceError
from rerender.jobs.run_job import check_job
from rerender.model import memory
from rerender.model._located import Located, NetworkFiles, in_folder
from rerender.model._single_file import CONFIGS
from rerender.model._tiling import Tiles
from tests.model.making import ours, save

MIB = 2**20
GUIDE = Path("docs/gpu.md")
MEASURED = Path("experiments/bench/cuda/h100_keys.json")
GRAPHS = Path("experiments/bench/gpu/h100.json")


def used(height: int, width: int, batch_size: int) -> MemoryUse:
    """What the key frames of the bench ask for: 15 of 20 steps, guided, cross-frame attention."""
    return MemoryUse((height, width), batch_size, 15, guided=True, keeps=True)


@pytest.fixture(scope="module")
def sd15() -> Located:
    """Stable Diffusion 1.5 with a ControlNet."""
    return described("sd15")


def described(family: str) -> Located:
    """A family with a ControlNet: configurations alone, no weights."""
    found = in_folder(CONFIGS / family)
    config = {**found.unet.config(), "_class_name": "ControlNetModel"}
    own = ("up_block_types", "out_channels", "sample_size", "center_input_sample", "_name_or_path")
    derived = {key: value for key, value in config.items() if key not in own}
    return replace(found, controlnets=(NetworkFiles("controlnet", CONFIGS, derived=derived),))


def test_estimates_meet_what_was_measured_on_a_card(sd15: Located) -> None:
    measured = json.loads(MEASURED.read_text())
    seen = 0
    for name, row in measured.items():
        size, _, batch = name.partition(" batch ")
        batch_size, (height, width) = int(batch), (int(side) for side in size.split("x"))
        if batch_size > row["key_frames"] / 2:
            continue  # its batches were never full
        found = (
            memory.estimate(sd15, used(height, width, batch_size), torch.float16, None).total / MIB
        )
        assert abs(found / row["memory_mib"] - 1) < 0.05, (name, found, row)
        seen += 1
    assert seen == 4
    found = json.loads(GRAPHS.read_text())["third"]
    for located, part in ((sd15, "keys"), (described("sdxl"), "sdxl")):
        for row in found[part]["rows"]:
            height, width = (int(side) for side in row["size"].split("x"))
            use = used(height, width, row["batch_size"])
            needed = memory.estimate(located, use, torch.float16, None).total / MIB
            assert memory.LEAST_SHARE < row["memory_mib"] / needed < 1.05, (needed, row)


def test_estimates_grow_with_size_and_batch_and_shrink_with_what_the_refusal_names(
    sd15: Located, monkeypatch: pytest.MonkeyPatch
) -> None:
    halves = {each.role: memory._size(each, torch.float16) // 2 for each in sd15.networks()}
    monkeypatch.setattr(memory, "_size", lambda each, dtype: halves[each.role] * dtype.itemsize)

    def total(use: MemoryUse, tiles: Tiles | None = None, dtype: Any = torch.float16) -> int:
        return memory.estimate(sd15, use, dtype, tiles).total

    grown = [(256, 256, 1), (512, 512, 1), (512, 896, 1), (512, 896, 2), (1024, 1024, 8)]
    totals = [total(used(*each)) for each in grown]
    assert totals == sorted(set(totals))
    large = used(1024, 1024, 1)
    assert total(large, Tiles(0)) < total(large)
    assert total(replace(large, keeps=False)) < total(large)
    assert total(large, dtype=torch.float32) > 1.9 * total(large)


@pytest.mark.parametrize("family", ["sd15", "sdxl"])
def test_the_table_of_the_documentation_is_the_estimate(
    family: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    located, size = described(family), cache(lambda role, dtype: count(networks[role], dtype))
    networks, count = {each.role: each for each in located.networks()}, memory._size
    monkeypatch.setattr(memory, "_size", lambda each, dtype: size(each.role, dtype))
    rows = re.findall(rf"^\| {family} \| (\d+)x(\d+) \| (.+) \|$", GUIDE.read_text(), re.M)
    assert len(rows) == 4
    for height, width, told in rows:
        for batch_size, mebibytes in zip((1, 2, 4), told.split(" | "), strict=True):
            use = used(int(height), int(width), batch_size)
            found = memory.estimate(located, use, torch.float16, None).total / MIB
            assert int(mebibytes.replace(",", "")) == round(found)


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_weights_are_counted_exactly(tmp_path: Path, dtype: str) -> None:
    checkpoint = ours(save(tmp_path / "sd"), dtype=dtype)
    model: Any = checkpoint.load(["canny"])
    parts, hints = model.parts, model._control_encoders  # of which ControlNets were relieved
    networks = (*parts.text_encoders, parts.vae, parts.unet, *parts.controlnets, *hints)
    held = sum(
        each.numel() * each.element_size()
        for network in networks
        for each in (*network.parameters(), *network.buffers())
    )
    located = checkpoint._located(["canny"], "nothing")
    found = memory.estimate(located, used(64, 64, 1), getattr(torch, dtype), None)
    assert found.weights == held


def test_what_does_not_fit_is_refused_before_a_weight_is_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from rerender.model import _loading

    def never(*given: Any) -> Any:
        raise AssertionError("weights were read")

    monkeypatch.setattr(_loading, "load_network", never)
    (tree, *_) = preflight(literal(("sampling.batch_size=4", "data.frames=3"))).jobs
    job = Job.of(tree)
    check_job(job, tree, tmp_path / "run")  # a device that does not say is not asked
    monkeypatch.setattr(memory, "free_memory", lambda device: 40 * MIB)
    with pytest.raises(ResourceError) as refused:
        check_job(job, tree, tmp_path / "run")
    said = str(refused.value)
    assert refused.value.exit_code == 5
    for key in ("model.device", "data.size", "sampling.batch_size (4)", "40 MiB are free"):
        assert key in said, said
    monkeypatch.setattr(memory, "free_memory", lambda device: 30 * MIB)
    with pytest.raises(ResourceError) as refused:  # no size is small enough
        check_job(job, tree, tmp_path / "run")
    assert "data.size" not in str(refused.value)
    assert "model.dtype=float16" in str(refused.value)
    monkeypatch.setattr(memory, "free_memory", lambda device: 64 * 2**30)
    check_job(job, tree, tmp_path / "run")


def test_what_may_just_fit_is_warned_of(caplog: pytest.LogCaptureFixture) -> None:
    needed, use = memory.MemoryEstimate(60, 0, 30, 40), used(64, 64, 2)
    memory.refuse(needed, 100, use, torch.float16)
    assert not caplog.records
    memory.refuse(needed, 80, use, torch.float16)
    assert "lower sampling.batch_size (2)" in caplog.text
    with pytest.raises(ResourceError):
        memory.refuse(needed, 79, use, torch.float16)
