"""Compositions of which the choices' part is kept are those of Hydra."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from hydra import compose, initialize_config_dir
from omegaconf import DictConfig, OmegaConf

from rerender.config import merged
from rerender.config.compose import preflight
from rerender.config.merged import Merging
from rerender.config.paths import CONF

RECORD = ("hydra.overrides", "hydra.job.override_dirname")


def hydras(*lines: str) -> DictConfig:
    with initialize_config_dir(str(CONF), job_name="run", version_base="1.3"):
        found: DictConfig = compose("config", [*lines], return_hydra_config=True)
    return found


@pytest.mark.parametrize(
    "lines",
    [
        ["seed=3", "keyframes.interval=2", "exp=smoke", "constraint=[pixel,shape]", "~mask"],
        ["method=rerender", "exp=table2", "model=sd15", "data=video", "model=tiny", "data=demo"],
        ["data={frames: 3}", "data.frames=4", "data.size=64", "data={size: 32}", "data=demo"],
        ["+propagation.more=1", "~constraint.shape", "++table.note='a, b'", "prompt='${seed}'"],
        ["hydra.mode=MULTIRUN", "hydra/launcher=joblib", "seed=2", "hydra.launcher.jobs=2"],
    ],
)
def test_a_composition_is_that_of_hydra(lines: list[str]) -> None:
    expected = hydras(*lines)
    for _ in range(2):  # made and kept
        found = Merging(None, ())(lines)
        for key in RECORD:
            OmegaConf.update(found, key, OmegaConf.select(expected, key))
        assert found == expected
        assert OmegaConf.is_struct(found) and not OmegaConf.is_readonly(found.hydra)
        OmegaConf.update(found, "seed", -1)  # acts on nobody else


@pytest.mark.parametrize("lines", [["constraint.pixle.end=1"], ["model=none"], ["+seed=1"]])
def test_a_refusal_is_that_of_hydra(lines: list[str]) -> None:
    said = []
    for composing in (Merging(None, ()), lambda lines: hydras(*lines)):
        with pytest.raises(Exception) as caught:
            composing(lines)
        said.append((type(caught.value), str(caught.value)))
    assert said[0] == said[1]


def test_jobs_that_differ_in_values_are_merged_once(monkeypatch: pytest.MonkeyPatch) -> None:
    merged._merged.cache_clear()
    preflight(["exp=table2", "method=rerender,fresco", "seed=0,1"])
    assert merged._merged.cache_info().misses <= 3  # and the experiment by itself


def test_a_file_that_changed_is_read_again(tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    file = tmp_path / "data" / "mine.yaml"
    file.write_text("seed: 1\n")
    (tmp_path / ".#lock").symlink_to("nothing")
    before = merged._files(tmp_path)
    assert before == merged._files(tmp_path) != ()
    os.utime(file, ns=(0, 0))
    assert merged._files(tmp_path) != before


def test_somebodys_file_is_read_by_every_command(tmp_path: Path) -> None:
    """Also where it changes within one tick of the clock and keeps its size."""
    file = tmp_path / "exp" / "mine.yaml"
    file.parent.mkdir()
    for seed in (1, 2):
        file.write_text(f"# @package _global_\nseed: {seed}\n")
        os.utime(file, ns=(0, 0))
        (job,) = preflight(["exp=mine"], str(tmp_path)).jobs
        assert job["seed"] == seed
