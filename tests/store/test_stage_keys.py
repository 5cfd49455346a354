"""What decides a stage, and what does not."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from rerender import files
from rerender.config.compose import preflight
from rerender.config.job import Job
from rerender.config.paths import ROOT
from rerender.errors import InputError
from rerender.fitting import fit
from rerender.jobs.plan import plan
from rerender.store import provenance, run_identity
from rerender.store.run_identity import Identity, content_of
from rerender.store.stage_keys import Stages, stages_of
from rerender.video import MemoryVideo
from tests.scenes import moving

BASE = ["+exp=smoke", "tracker=none"]


def stages(*more: str, weights: str = "w", device: str = "cpu") -> Stages:
    (tree,) = preflight([*BASE, *more], None).jobs
    job = Job.of(tree)
    (clip,) = job.data.clips()
    fitted = replace(clip, video=fit(clip.video, job.data.size, 8))
    return Stages(tree, Identity.of(tree), fitted, weights, device)


@pytest.fixture(scope="module")
def base() -> Stages:
    return stages()


@pytest.mark.parametrize(
    "change",
    [
        "seed=1",
        "prompt=a cat",
        "negative_prompt=blurry",
        "sampling.steps=5",
        "constraint=[cross_frame]",
        "constraint=[]",
        "keyframes.interval=3",
        "control=[]",
        "control.canny.low=10",
        "sampler=dpm",
        "data.size=72",
        "data.frames=7",
        "data.motion=fast",
        "flow=truth",
        "model.seed=1",
    ],
)
def test_what_decides_key_frames_decides_the_video_too(change: str, base: Stages) -> None:
    other = stages(change)
    assert other.keys != base.keys
    assert other.video != base.video


def test_another_number_of_threads_is_another_processor(base: Stages) -> None:
    """Convolutions of one picture and products of matrices have other last bits on two threads than
    on one, so key frames made on one are not gone on with on two."""
    job, clip = Job.of(base.tree), base.clip
    loading: Any = SimpleNamespace(size_multiple=8, digest="w")
    before, found = torch.get_num_threads(), []
    try:
        for threads in (1, 2, 1):
            torch.set_num_threads(threads)
            found.append(stages_of(job, base.tree, base.identity, clip, loading))
    finally:
        torch.set_num_threads(before)
    one, two, again = found
    assert one.keys == again.keys != two.keys
    assert one.video == again.video != two.video


@pytest.mark.parametrize("change", ["propagation=hold", "propagation=warp", "smooth=median"])
def test_filling_leaves_key_frames_valid(change: str, base: Stages) -> None:
    other = stages(change)
    assert other.keys == base.keys
    assert other.video != base.video


@pytest.mark.parametrize(
    "change", ["out=x", "name=x", "pictures=[]", "debug=true", "tracker=wandb", "store=null"]
)
def test_where_results_go_decides_nothing(change: str, base: Stages) -> None:
    other = stages(change)
    assert (other.keys, other.video) == (base.keys, base.video)


def test_metrics_and_their_settings_decide_scores_only(base: Stages) -> None:
    other = stages("metrics=[warp_error,flicker]")
    assert (other.keys, other.video) == (base.keys, base.video)
    score = base.score("warp_error", "1", "v")
    assert other.score("warp_error", "1", "v") == score
    assert base.score("flicker", "1", "v") != score
    assert base.score("warp_error", "2", "v") != score
    assert base.score("warp_error", "1", "another video") != score


@pytest.mark.parametrize(
    ("change", "decides"),
    [
        ("flow=truth", True),
        ("prompt=a cat", True),
        ("data.size=72", True),
        ("data.motion=fast", True),
        ("metrics.warp_error.span=2", True),
        ("seed=1", False),
        ("constraint=[]", False),
        ("propagation=hold", False),
        ("store=null", False),
    ],
)
def test_what_decides_a_score_of_one_and_the_same_video(
    change: str, decides: bool, base: Stages
) -> None:
    more = ["metrics=[warp_error]"] if change.startswith("metrics.") else []
    score = stages(*more, change).score("warp_error", "1", "v")
    assert (score != base.score("warp_error", "1", "v")) == decides


def test_where_it_is_measured_decides_no_score(base: Stages) -> None:
    """Rows of a run on a GPU hold where its results are collected on the processor."""
    there = stages(device="cuda", weights="other")
    assert there.score("warp_error", "1", "v") == base.score("warp_error", "1", "v")


def test_weights_and_device_decide(base: Stages) -> None:
    assert stages(weights="other").keys != base.keys
    assert stages(device="cuda").keys != base.keys


def test_code_decides_where_it_is_used(monkeypatch: pytest.MonkeyPatch, base: Stages) -> None:
    """A line more in a file changes the stages that run it, and no others."""

    def edited(name: str) -> tuple[bool, bool]:
        file, read = ROOT / "rerender" / name, provenance._text
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(
                provenance, "_text", lambda path: read(path) + ("# x" if path == file else "")
            )
            other = stages()
            return other.keys != base.keys, other.video != base.video

    assert edited("translation/denoise.py") == (True, True)
    assert edited("flow/_sample.py") == (True, True)
    assert edited("constraint/shape.py") == (True, True)
    assert edited("propagation/patchmatch.py") == (False, True)
    assert edited("codec/encode.py") == (False, True)
    assert edited("pipeline.py") == (False, True)
    assert edited("propagation/warp.py") == (False, False)
    assert edited("tracker/wandb.py") == (False, False)
    assert edited("run.py") == (False, False)


def test_code_is_followed_through_imports() -> None:
    found = provenance.code_of(["rerender.translate"])
    assert found == provenance.code_of(
        ["rerender.translate", "rerender.translation.denoise", "torch"]
    )
    assert found != provenance.code_of(["rerender.translate", "rerender.propagation.warp"])


def test_a_video_says_what_it_holds(tmp_path: Path) -> None:
    one, same, other = moving(3), moving(3), moving(3, seed=1)
    assert one.digest() == same.digest() != other.digest()
    frames: list[Any] = [one[index] for index in range(3)]
    assert MemoryVideo(frames).digest() == one.digest()
    assert MemoryVideo(frames[:2]).digest() != one.digest()
    assert fit(one, 16, 8).digest() != one.digest()
    assert fit(one, 16, 8).digest() == fit(same, 16, 8).digest()


def test_a_folder_far_larger_than_any_input_is_refused_before_it_is_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("a/1.png", "a/2.png", "3.png", ".git/4"):
        files.put(tmp_path / name, name.encode())
    monkeypatch.setattr(run_identity, "MOST_FILES", 3)
    before = content_of(tmp_path)
    (tmp_path / os.fsdecode(b"\xff.png")).write_bytes(b"")
    monkeypatch.setattr(run_identity, "digest", lambda file: pytest.fail("it was read"))
    with pytest.raises(InputError, match="holds more than 3 files"):
        content_of(tmp_path)
    monkeypatch.undo()
    assert content_of(tmp_path) != before  # a name that is no UTF-8 counts too


@pytest.mark.parametrize("asked", ["data=folder", "data=video", "mask.path"])
def test_a_plan_refuses_what_is_no_input_before_it_is_read(
    asked: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "texts").mkdir()
    (tmp_path / "texts" / "much.txt").write_bytes(b"text")
    given = ["mask=file", "mask.path=texts"] if asked == "mask.path" else [asked, "data.path=texts"]
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(run_identity, "digest", lambda file: pytest.fail("it was read"))
    with pytest.raises(InputError, match="texts: "):
        plan(preflight([*given, "prompt=oil", "constraint=[]", "model=tiny"]))
