"""A results folder is found, scored, and only measured again where something changed."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from eval import references, score_files
from eval.results import discover
from eval.score import main
from eval.score_files import Score
from rerender import files
from rerender.codec import encode
from rerender.config.compose import preflight
from rerender.config.job import to_yaml
from rerender.data.demo import Demo
from rerender.data.names import pictures_of
from rerender.errors import InputError
from rerender.run_folder import SCORES
from rerender.video import MemoryVideo

CLIP = "demo-slow-1000000"
DATA = ["data.frames=6", "data.size=64"]
METRICS = "metrics=[warp_error,fidelity,integrity,flicker]"
SETTINGS = [*DATA, METRICS]


def demo() -> list[Tensor]:
    (clip,) = Demo(frames=6, size=64).clips()
    return [clip.video[i] for i in range(6)]


def put_frames(folder: Path, frames: list[Tensor], first: int = 0) -> None:
    for index, frame in enumerate(frames, first):
        files.put(folder / f"frame{index}.png", files.png(frame))


def put_video(path: Path, frames: list[Tensor]) -> None:
    with files.writing(path) as file:
        encode(frames, MemoryVideo(frames), file, crf=0)


@pytest.fixture
def results(tmp_path: Path) -> Path:
    """Frames of one rival, a lossless mp4 of the same by another, a third one with seeds."""
    frames = [1 - frame for frame in demo()]
    put_frames(tmp_path / "frames" / CLIP, frames)
    put_video(tmp_path / "video" / f"{CLIP}.mp4", frames)
    for seed in (1, 2):
        noisy = [frame + 0.01 * seed for frame in frames]
        put_frames(tmp_path / "seeds" / CLIP / f"seed-{seed}" / "frames", noisy)
    return tmp_path


def scored(root: Path, *settings: str) -> dict[tuple[str, int | None, str], Score]:
    assert main([str(root), *(settings or SETTINGS)]) == 0
    return {(row.method, row.seed, row.metric): row for row in score_files.read(root / SCORES)}


def test_discovery(results: Path) -> None:
    found = [(o.method, o.clip, o.seed, o.path.name) for o in discover(results)]
    assert found == [
        ("frames", CLIP, None, CLIP),
        ("seeds", CLIP, 1, "frames"),
        ("seeds", CLIP, 2, "frames"),
        ("video", CLIP, None, f"{CLIP}.mp4"),
    ]


def test_pictures_are_ordered_by_number(tmp_path: Path) -> None:
    put_frames(tmp_path, [torch.zeros(3, 4, 4)] * 12)
    (tmp_path / "notes.txt").write_text("x")
    assert [path.stem for path in pictures_of(tmp_path)] == [f"frame{i}" for i in range(12)]


def test_frames_and_their_video_score_alike(results: Path) -> None:
    found = scored(results)
    for metric in ("warp_error", "warp_error_long", "psnr", "flicker", "frame_count", "duration"):
        picture, film = found["frames", None, metric], found["video", None, metric]
        assert picture.value == pytest.approx(film.value, rel=0.05, abs=5e-4), metric
    assert found["frames", None, "frame_count"].value == 0
    assert {(row.method) for row in found.values()} == {
        "source",
        "true translation",
        "frames",
        "video",
        "seeds",
    }
    assert found["true translation", None, "ssim"].value == pytest.approx(1)
    assert found["true translation", None, "psnr"].value is None
    truth, rival = found["true translation", None, "ssim"], found["frames", None, "ssim"]
    assert truth.value is not None and rival.value is not None and truth.value > rival.value


def test_only_what_changed_is_measured_again(
    results: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    first = scored(results)
    before = (results / SCORES).read_bytes()
    capsys.readouterr()
    assert scored(results) == first
    assert (results / SCORES).read_bytes() == before
    # The truth's PSNR has no value, so it is looked at again every time.
    assert "  1 rows measured" in capsys.readouterr().out
    put_frames(results / "frames" / CLIP, [demo()[0]])  # one frame differs now
    changed = scored(results)
    assert "  9 rows measured" in capsys.readouterr().out
    assert changed["frames", None, "warp_error"] != first["frames", None, "warp_error"]
    assert changed["video", None, "warp_error"] == first["video", None, "warp_error"]
    shutil.rmtree(results / "video")
    assert not any(method == "video" for method, *_ in scored(results))


def test_a_new_version_is_measured_again(results: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    scored(results)
    monkeypatch.setattr("eval.metrics.flicker.Flicker.version", "next")
    found = scored(results)
    assert found["frames", None, "flicker"].version == "next"
    assert found["frames", None, "warp_error"].version == "2"


def test_a_broken_video_does_not_hold_up_the_others(
    results: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (results / "video" / f"{CLIP}.mp4").write_bytes(b"no video")
    put_frames(results / "frames" / "another clip", demo())
    assert main([str(results), *SETTINGS]) == 6
    said = capsys.readouterr().err
    assert f"{CLIP}.mp4: " in said and "'another clip'" in said
    assert {row.method for row in score_files.read(results / SCORES)} >= {
        "frames",
        "seeds",
    }


def test_refusals(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([str(tmp_path / "none"), *SETTINGS]) == 3
    assert main([str(tmp_path), *SETTINGS]) == 3
    put_frames(tmp_path / "m" / CLIP, demo())
    assert main([str(tmp_path)]) == 2
    assert "data=video" in capsys.readouterr().err
    assert main([str(tmp_path), "metrics=[nonsense]"]) == 2
    with pytest.raises(InputError, match="several videos"):
        for name in ("a.mp4", "b.mp4"):
            put_video(tmp_path / "m" / "two" / name, demo())
        discover(tmp_path)


def test_a_folder_that_cannot_be_written_is_refused_before_anything_is_measured(
    results: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("eval.score.score", lambda *more: pytest.fail("measured"))
    monkeypatch.setattr(os, "access", lambda path, mode: Path(path) != results)
    assert main([str(results), *SETTINGS]) == 5
    assert f"error: {results}: {results} cannot be written (permission" in capsys.readouterr().err


def test_runs_of_ours_are_found_and_told_apart(tmp_path: Path) -> None:
    base: dict[str, Any] = {
        "seed": 0,
        "sampling": {"steps": 10},
        "data": {"x": 1},
        "constraint": {"a": {}},
    }
    changes: list[dict[str, Any]] = [
        {},
        {"seed": 1},
        {"sampling": {"steps": 20}},
        {"constraint": {"a": {}, "b": {}}},
    ]
    for number, change in enumerate(changes):
        folder = tmp_path / f"demo-0000000{number}"
        files.put_json(folder / "config.yaml", {**base, **change})
        put_video(folder / "video.mp4", demo()[:1])
    found = [(o.method, o.seed) for o in discover(tmp_path)]
    assert found == [
        ("demo constraint=a,sampling.steps=10", 0),
        ("demo constraint=a,sampling.steps=10", 1),
        ("demo constraint=a,sampling.steps=20", 0),
        ("demo constraint=a+b,sampling.steps=10", 0),
    ]
    assert [o.method for o in discover(tmp_path / "demo-00000000")] == ["demo"]


def test_rows_survive_the_file(tmp_path: Path) -> None:
    row = Score('c\n\u2028"', "m", None, "x", "1", 1 / 3, 2, "n", "higher", "px", (None, 0.25), "k")
    score_files.write(tmp_path / "s.jsonl", [row])
    assert score_files.read(tmp_path / "s.jsonl") == [row]
    assert json.loads((tmp_path / "s.jsonl").read_text())["value"] == 1 / 3
    (tmp_path / "s.jsonl").write_text('{"clip": 1}\n')
    with pytest.raises(InputError, match=r"s\.jsonl:1: is not a score row"):
        score_files.read(tmp_path / "s.jsonl")
    assert score_files.read(tmp_path / "none.jsonl") == []


def test_not_a_number_is_never_written(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="JSON compliant"):
        score_files.write(tmp_path / "s", [Score("c", "m", None, "x", "1", float("nan"), 1)])


def test_floors() -> None:
    (clip,) = Demo(frames=3, size=32).clips()
    truth = references.translation(clip)
    assert truth is not None and len(truth) == 3 and truth.size == (32, 32)
    assert clip.truth is not None
    assert torch.equal(truth[1], clip.truth.translation(1))  # type: ignore[arg-type]
    assert references.source(clip) is clip.video
    (unknown,) = Demo(frames=3, size=32, prompt="no words of this world").clips()
    assert references.translation(unknown) is None


def test_prompts_of_one_clip_are_told_apart(tmp_path: Path) -> None:
    for number, prompt in enumerate(["a red fish over the night, oil", "something else"]):
        (tree,) = preflight([*SETTINGS, f"prompt='{prompt}'"]).jobs
        folder = tmp_path / f"demo-0000000{number}"
        files.put(folder / "config.yaml", to_yaml(tree).encode())
        put_video(folder / "video.mp4", demo())
    assert main([str(tmp_path)]) == 0
    found = {(row.method, row.clip) for row in score_files.read(tmp_path / SCORES)}
    assert found == {
        (method, f"{CLIP}: {prompt}")
        for method, prompt in (
            ("demo", "a red fish over the night, oil"),
            ("demo", "something else"),
            ("source", "a red fish over the night, oil"),
            ("source", "something else"),
            ("true translation", "a red fish over the night, oil"),
        )
    }


def test_a_run_whose_source_is_gone(tmp_path: Path) -> None:
    for number in range(2):
        (tree,) = preflight(SETTINGS).jobs
        if number:
            tree["data"] = {**tree["data"], "_target_": "rerender.data.gone.Gone"}
        folder = tmp_path / f"demo-0000000{number}"
        files.put(folder / "config.yaml", to_yaml(tree).encode())
        put_video(folder / "video.mp4", demo())
    assert main([str(tmp_path)]) == 2
    assert {row.method for row in score_files.read(tmp_path / SCORES)} >= {"source"}


def test_the_round_trip_of_a_model_is_a_floor(tmp_path: Path) -> None:
    put_frames(tmp_path / "rival" / CLIP, demo())
    settings = [*DATA, "metrics=[fidelity]", "model=tiny"]
    assert main([str(tmp_path), "--vae", *settings]) == 0
    methods = {row.method for row in score_files.read(tmp_path / SCORES)}
    assert methods == {"source", "true translation", "VAE round trip", "rival"}
    assert main([str(tmp_path), "--no-floors", *settings]) == 0
    assert {row.method for row in score_files.read(tmp_path / SCORES)} == {"rival"}
