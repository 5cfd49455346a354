"""The parts of an error budget sum to the error of the run's own video, which others measure."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from eval import score_files
from experiments.benchmark.__main__ import main
from experiments.benchmark.error_budget import ErrorBudget, budget, budgets, to_markdown
from rerender.config.compose import preflight
from rerender.config.job import Job
from rerender.errors import InputError
from rerender.fitting import fit
from rerender.run import main as run
from rerender.scene import Trace, Translation
from rerender.video import KeyFrame, MemoryVideo, Video

QUICK = [
    "model=tiny",
    "data.size=64",
    "data.frames=7",
    "keyframes.interval=3",
    "sampling.steps=8",
    "tracker=none",
    "metrics=[fidelity]",
]


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("runs")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(root)
        assert run(["+method=full,vae", *QUICK, "--no-tables"]) == 0
    return root / "outputs"


def test_the_parts_sum_to_the_error_that_the_metrics_see(runs: Path, tmp_path: Path) -> None:
    assert main(["budget", str(runs), "--out", str(tmp_path / "budget.json")]) == 0
    found = json.loads((tmp_path / "budget.json").read_text())
    assert len(found) == 2
    curves = {}
    for folder in runs.glob("*/scores.jsonl"):
        (row,) = [row for row in score_files.read(folder) if row.metric == "psnr"]
        errors = [10 ** (-value / 10) for value in row.curve if value is not None]
        curves[folder.parent.name.rpartition("-")[0]] = sum(errors) / len(errors)
    for one in found:
        parts = sum(one[name] for name in ("vae", "key_frames", "propagation", "codec"))
        assert parts == pytest.approx(one["total"], rel=0.01)
        assert one["total"] == pytest.approx(curves[one["method"]], rel=1e-4)
    text = to_markdown(budgets(runs))
    assert "| vae_round_trip_k3 |" in text and "| full |" in text


def case() -> tuple[Job, list[Translation]]:
    """A job, and its true key frames."""
    job = Job.of(preflight([*QUICK, "prompt=null"]).jobs[0])
    (clip,) = job.data.clips()
    assert clip.truth is not None
    keys = []
    for index in (0, 3, 6):
        image = clip.truth.translation(index)
        assert image is not None
        keys.append(Translation(KeyFrame(index, clip.video[index]), Trace(image=image)))
    return job, keys


def of_keys(job: Job, keys: list[Translation], video: Video) -> ErrorBudget:
    model = job.model.load(job.parts.names())
    (clip,) = job.data.clips()
    fitted = replace(clip, video=fit(clip.video, 64, model.size_multiple))
    return budget(fitted, keys, model, job.parts, video, "m")


def test_true_key_frames_have_no_error_but_that_of_propagation_and_codec() -> None:
    job, keys = case()
    (clip,) = job.data.clips()
    assert clip.truth is not None
    every = [
        Translation(KeyFrame(index, clip.video[index]), Trace(image=clip.truth.translation(index)))
        for index in range(7)
    ]
    truth = MemoryVideo([each.image for each in every])
    model = job.model.load(job.parts.names())
    # The video is the truth: its error is 0, and the codec's part alone would not be. So the sum
    # does not fit, and this is said.
    with pytest.raises(InputError, match="its parts sum to"):
        of_keys(job, every, truth)
    # The file that a run would write of true key frames:
    import io

    from rerender.codec import encode

    data = io.BytesIO()
    encode([each.image for each in every], clip.video, data)
    found = of_keys(job, every, reopened(data.getvalue()))
    assert found.propagation == 0
    assert found.vae > 0
    assert found.key_frames == pytest.approx(-found.vae, rel=1e-9)
    assert found.codec == pytest.approx(found.total, rel=1e-9)
    # A third of the frames as key frames: propagation makes errors, the others make none.
    assert len(keys) == 3 and model is not None


def reopened(data: bytes) -> MemoryVideo:
    import tempfile

    from rerender.codec import open_video

    with tempfile.NamedTemporaryFile(suffix=".mp4") as file:
        file.write(data)
        file.flush()
        video = open_video(Path(file.name))
        return MemoryVideo([video[index] for index in range(len(video))])


def test_a_video_of_other_key_frames_is_refused(runs: Path) -> None:
    job, keys = case()
    grey = MemoryVideo([torch.full((3, 64, 64), 0.5)] * 7)
    with pytest.raises(InputError, match="run it again with this version"):
        of_keys(job, keys, grey)


def test_runs_without_truth_or_key_frames_are_refused(
    runs: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["budget", str(tmp_path)]) == 3
    import shutil

    (source,) = runs.glob("vae*")
    shutil.copytree(source, tmp_path / "vae")
    (tmp_path / "vae" / "keys" / "000003.png").unlink()
    assert main(["budget", str(tmp_path / "vae")]) == 3
    assert "000003.png: this key frame was not kept" in capsys.readouterr().err


def test_the_numbers_are_not_written_over_what_they_are_of(runs: Path, tmp_path: Path) -> None:
    file = next(runs.rglob("metrics.json"))
    before = file.read_bytes()
    assert main(["budget", str(runs), "--out", str(file)]) == 2
    assert file.read_bytes() == before
