"""The one command, end to end with random weights: what it leaves, and what it refuses."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from rerender import files
from rerender.codec import encode, open_video
from rerender.config.job import from_yaml
from rerender.errors import ConfigError
from rerender.jobs import render_clip, run_job
from rerender.run import main
from rerender.video import MemoryVideo

SMOKE = ["+exp=smoke", "tracker=none"]


@pytest.fixture(autouse=True, scope="module")
def one_thread() -> Iterator[None]:
    """Miniatures run faster on one thread, above all beside other work."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[str]]:
    """(run folder, names in outputs/) of one complete run with the default tracker."""
    place = tmp_path_factory.mktemp("run")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(place)
        patch.setenv("CANARY_TOKEN", "canary-in-env")
        assert main(["+exp=smoke", "prompt=a cat, sitting = ${oc.env:CANARY_TOKEN}"]) == 0
    (folder,) = (place / "outputs").iterdir()
    return folder, names(place / "outputs")


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty working folder."""
    place = tmp_path / "work"
    place.mkdir()
    monkeypatch.chdir(place)
    return place


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A video file of 12 frames."""
    random = torch.Generator().manual_seed(0)
    image = torch.rand(3, 48, 80, generator=random)
    video = MemoryVideo([image.roll(index, 2) for index in range(12)], Fraction(25))
    path = tmp_path_factory.mktemp("clip") / "clip.mp4"
    with files.writing(path) as file:
        encode((video[index] for index in range(12)), video, file)
    return path


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def left(place: Path) -> list[str]:
    return sorted(path.relative_to(place).as_posix() for path in place.rglob("*"))


# -- what a run leaves ----------------------------------------------------------------------------


def test_a_run_leaves_everything_and_nothing_else(
    finished: tuple[Path, list[str]],
) -> None:
    folder, outputs = finished
    assert outputs == [folder.name], "Hydra's folders are gone"
    assert names(folder) == [
        "config.yaml",
        "keys",
        "lock",
        "metrics.json",
        "record.jsonl",
        "run.log",
        "scores.jsonl",
        "sheet.png",
        "video.mp4",
        "wandb",
    ]
    assert names(folder / "keys") == ["000000.png", "000004.png", "000005.png"]


def test_as_many_frames_come_out_as_went_in(finished: tuple[Path, list[str]]) -> None:
    video = open_video(finished[0] / "video.mp4")
    assert len(video) == 6
    assert video.size == (64, 64)
    assert list(video.timestamps) == [Fraction(index, 25) for index in range(6)]


def test_metrics_say_what_was_made_and_how_good_it_is(
    finished: tuple[Path, list[str]],
) -> None:
    facts = json.loads((finished[0] / "metrics.json").read_text())
    (made,) = facts["clips"]
    assert (made["frames"], made["keys"]) == (6, [0, 4, 5])
    assert made["prompt"] == "a cat, sitting = ${oc.env:CANARY_TOKEN}"
    assert 0 < made["scores"]["warp_error"]["value"] < 1
    assert {"load", "translate", "propagate", "score"} <= set(facts["seconds"])
    assert facts["weights"]
    assert facts["versions"]["torch"].startswith("2.")


def test_the_record_and_the_configuration_read_back(
    finished: tuple[Path, list[str]],
) -> None:
    folder = finished[0]
    rows = [json.loads(line) for line in (folder / "record.jsonl").read_text().splitlines()]
    assert rows[0]["event"] == "start"
    assert rows[0]["config"] == from_yaml((folder / "config.yaml").read_text())
    assert rows[-1]["exit_code"] == 0
    assert {row["name"] for row in rows if row["event"] == "file"} == {"video", "sheet"}
    curve = [row["values"] for row in rows if row["event"] == "log"]
    assert len(curve) == 6
    assert any(name.endswith("/warp_error") for name in curve[1])


def test_the_environment_is_in_no_file(finished: tuple[Path, list[str]]) -> None:
    paths = [path for path in finished[0].rglob("*") if path.is_file()]
    assert not [path for path in paths if b"canary-in-env" in path.read_bytes()]


def test_the_same_command_again_gives_the_same_bytes(
    here: Path, finished: tuple[Path, list[str]]
) -> None:
    prompt = "prompt=a cat, sitting = ${oc.env:CANARY_TOKEN}"
    for _ in range(2):
        assert main([*SMOKE, prompt, "out=again"]) == 0
        for name in ("video.mp4", "keys/000004.png", "sheet.png"):
            assert (here / "again" / name).read_bytes() == (finished[0] / name).read_bytes()


def test_a_video_file_with_several_clips_parts_and_an_odd_size(here: Path, clip: Path) -> None:
    folder = here / "clips"
    folder.mkdir()
    for name in ("a.mp4", "b.mp4"):
        shutil.copy(clip, folder / name)
    code = main(
        [
            *SMOKE,
            *["data=folder", f"data.path={folder}", "data.size=50", "data.frames=5", "prompt=x"],
            *["out=out", "metrics=[]", "pictures=[]", "constraint=[]", "control=[]"],
        ]
    )
    assert code == 0
    assert names(here / "out" / "a") == ["sheet.png", "video.mp4"]
    video = open_video(here / "out" / "b" / "video.mp4")
    assert (len(video), video.size) == (5, (50, 84))  # 48x80 with a short side of 50, even


def test_the_closing_lines_say_where_and_how_good(
    here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([*SMOKE, "out=my out"]) == 0
    out, err = capsys.readouterr()
    assert "my out/video.mp4  6 frames, 64x64" in out
    assert "warp_error" in out
    assert "translate" in out.splitlines()[-1]
    assert "Traceback" not in err


def test_what_is_not_measured_is_said_once_for_each_reason(
    here: Path, clip: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A film has no true translation, and CLIP's weights are not here: two lines, however many
    metrics wait for them; metrics.json says it of each."""
    film = ["data=video", f"data.path={clip}", "data.frames=2", "prompt=x"]
    quick = ["model=tiny", "data.size=32", "sampling.steps=2", "constraint=[]", "tracker=none"]
    assert main([*film, *quick, "metrics=[clip,fidelity,integrity]", "out=out"]) == 0
    shown = capsys.readouterr().out.splitlines()
    unmeasured = [line for line in shown if "n/a" in line]
    assert len(unmeasured) == 2, shown
    assert unmeasured[0].startswith("  n/a: clip_score, directional, frame_accuracy, ")
    assert "weights not found (" in unmeasured[0]
    assert unmeasured[1].startswith("  n/a: psnr, ssim: the true translation is not known")
    (facts,) = json.loads((here / "out" / "metrics.json").read_text())["clips"]
    assert facts["scores"]["directional"]["note"].startswith("n/a: weights not found (")


def test_a_film_by_the_default_model_ends_with_the_name_of_the_better_one(
    here: Path, clip: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    quick = ["data.frames=1", "sampling.steps=2", "constraint=[]", "metrics=[]"]
    film = ["data=video", f"data.path={clip}", "data.size=32", "prompt=oil"]
    told = "note: model=demo was trained on drawings; model=demo_natural"
    assert main([*quick, *film, "tracker=none"]) == 0
    assert told in capsys.readouterr().err.splitlines()[-1]
    world = ["data=demo", "data.size=32"]
    for more in ([*film, "model=demo"], world):
        assert main([*quick, "tracker=none", *more]) == 0
        assert "note" not in capsys.readouterr().err


def test_hydra_may_be_told_to_run_once(here: Path) -> None:
    assert main([*SMOKE, "hydra.mode=RUN", "out=out", "metrics=[]"]) == 0
    assert names(here) == [".store", "out"]


# -- what it refuses ------------------------------------------------------------------------------


def cut(clip: Path, place: Path) -> list[str]:
    data = clip.read_bytes()
    (place / "cut.mp4").write_bytes(data[: len(data) * 6 // 10])
    return ["data=video", "data.path=cut.mp4", "prompt=x"]


def text(clip: Path, place: Path) -> list[str]:
    (place / "text.mp4").write_text("<!DOCTYPE html><html></html>")
    return ["data=video", "data.path=text.mp4", "prompt=x"]


def missing(clip: Path, place: Path) -> list[str]:
    return ["data=video", "data.path=missing.mp4", "prompt=x"]


def no_prompt(clip: Path, place: Path) -> list[str]:
    return ["data=video", f"data.path={clip}"]


def no_source_prompt(clip: Path, place: Path) -> list[str]:
    return ["data=video", f"data.path={clip}", "prompt=x", "+method=fatezero"]


def no_program(clip: Path, place: Path) -> list[str]:
    return ["propagation=ebsynth", "propagation.program=nowhere/ebsynth"]


def no_flow(clip: Path, place: Path) -> list[str]:
    return ["flow=raft", "flow.weights=nowhere.pth"]


def no_motion(clip: Path, place: Path) -> list[str]:
    return ["data=video", f"data.path={clip}", "prompt=x", "flow=truth"]


def typo(clip: Path, place: Path) -> list[str]:
    return ["data.sise=64"]


def window(clip: Path, place: Path) -> list[str]:
    return ["constraint.cross_frame.start=0.9", "constraint.cross_frame.stop=0.2"]


def beyond(clip: Path, place: Path) -> list[str]:
    return ["data=video", f"data.path={clip}", "prompt=x", "data.start=7", "data.frames=6"]


def key_beyond(clip: Path, place: Path) -> list[str]:
    (place / "new").mkdir()
    more = ["keyframes=manual", "keyframes.indices=[0,5,40]", "out=new/out"]
    return ["data=video", f"data.path={clip}", "prompt=x", *more]


def cut_beyond(clip: Path, place: Path) -> list[str]:
    more = ["keyframes=manual", "keyframes.cuts=[12]"]
    return ["data=video", f"data.path={clip}", "prompt=x", *more]


def out_is_a_file(clip: Path, place: Path) -> list[str]:
    (place / "taken").write_text("mine")
    return ["out=taken"]


def out_below_a_file(clip: Path, place: Path) -> list[str]:
    (place / "taken").write_text("mine")
    return ["out=taken/deeper"]


def out_holds_others(clip: Path, place: Path) -> list[str]:
    (place / "photos").mkdir()
    (place / "photos" / "cat.png").write_text("mine")
    return ["out=photos"]


def no_weights(clip: Path, place: Path) -> list[str]:
    (place / "weights").mkdir()
    return ["model=sd15", "model.path=weights", "out=new/folder"]


def shared_folder(clip: Path, place: Path) -> list[str]:
    return ["out=one", "seed=1,2"]


@pytest.mark.parametrize(
    ("case", "code", "said"),
    [
        (cut, 3, "cut.mp4"),
        (text, 3, "text.mp4"),
        (missing, 3, "missing.mp4"),
        (no_prompt, 2, "prompt"),
        (no_source_prompt, 2, "source_prompt: constraint cross_maps compares"),
        (no_program, 2, "propagation.program: no program 'nowhere/ebsynth' is found"),
        (no_flow, 4, "nowhere.pth: there is no such file"),
        (no_motion, 3, "its true motion is not known, received flow=truth"),
        (typo, 2, "data.sise"),
        (window, 2, "constraint.cross_frame"),
        (beyond, 2, "data.frames"),
        (key_beyond, 2, "keyframes.indices: frame 40 is not in the video, which has 12"),
        (cut_beyond, 2, "keyframes.cuts: frame 12 is not in the video, which has 12"),
        (out_is_a_file, 2, "out"),
        (out_below_a_file, 2, "out"),
        (out_holds_others, 2, "out"),
        (no_weights, 4, "no such folder"),
        (shared_folder, 2, "out"),
    ],
)
def test_a_refusal_is_one_line_with_its_code_and_leaves_nothing(
    case: Any,
    code: int,
    said: str,
    here: Path,
    clip: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    arguments = case(clip, here)
    before = left(here)
    assert main(["tracker=none", "model=tiny", *arguments]) == code
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith("error: ")
    assert said in err
    assert err.count("\n") == 1, err
    assert left(here) == before


def test_hydras_own_help_needs_no_setting(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--hydra-help", "model=tiny", "constraint=[]"]) == 0
    assert "--multirun" in capsys.readouterr().out


def test_a_folder_in_use_is_left_alone(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with files.lock(here / "out"):
        assert main([*SMOKE, "out=out"]) == 75
        assert left(here) == ["out", "out/lock"]
    assert f"pid {os.getpid()}" in capsys.readouterr().err


def test_a_folder_keeps_the_result_of_one_configuration(
    here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (here / "out").mkdir()
    (here / "out" / "config.yaml").write_text("seed: 7\n")
    assert main([*SMOKE, "out=out"]) == 2
    assert "holds the result of another configuration" in capsys.readouterr().err


# -- what goes wrong on the way -------------------------------------------------------------------


def breaking(error: BaseException | None = None, number: int | None = None) -> Any:
    """A stand-in for the pipeline that makes one frame, then fails or is sent a signal."""

    def frames(clip: Any, *args: Any) -> Iterator[Tensor]:
        yield clip.video[0]
        if number is not None:
            os.kill(os.getpid(), number)
        if error is not None:
            raise error

    return frames


@pytest.mark.parametrize(
    ("error", "number", "code", "says"),
    [
        (OSError(28, "No space left on device"), None, 5, "no space left"),
        (MemoryError(), None, 5, "lower data.size"),
        (torch.OutOfMemoryError("CUDA out of memory"), None, 5, "lower data.size"),
        (ConfigError("model", "does not fit", "choose another"), None, 2, "does not fit"),
        (RuntimeError("surprise\nin two lines"), None, 70, "surprise in two lines"),
        (None, signal.SIGTERM, 143, "goes on from there"),
        (None, signal.SIGINT, 130, "goes on from there"),
    ],
)
def test_a_failure_on_the_way_has_its_code_and_no_video(
    error: BaseException | None,
    number: int | None,
    code: int,
    says: str,
    here: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(render_clip, "render", breaking(error, number))
    # A shell starts its background jobs with SIGINT ignored: here it must interrupt.
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        assert main([*SMOKE, "out=out"]) == code
    finally:
        signal.signal(signal.SIGINT, before)
    err = capsys.readouterr().err
    (line,) = [line for line in err.splitlines() if line.startswith("error: ")]
    assert says in line
    assert "Traceback" not in err
    assert names(here / "out") == ["config.yaml", "lock", "record.jsonl", "run.log"]
    last = (here / "out" / "record.jsonl").read_text().splitlines()[-1]
    assert json.loads(last)["exit_code"] == code
    assert says in (here / "out" / "run.log").read_text()
    assert not (here / "outputs").exists()


def test_a_traceback_is_shown_when_asked_for(
    here: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(render_clip, "render", breaking(RuntimeError("surprise")))
    assert main([*SMOKE, "debug=true"]) == 70
    assert "Traceback" in capsys.readouterr().err


def test_one_failing_job_does_not_stop_the_others(
    here: Path, clip: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    shutil.copy(clip, here / "good.mp4")
    (here / "bad.mp4").write_text("no video")
    arguments = ["data=video", "data.frames=3", "prompt=x", "metrics=[]"]
    assert main([*SMOKE, *arguments, "data.path='bad.mp4','good.mp4'"]) == 6
    out, err = capsys.readouterr()
    assert "3 frames" in out
    assert "failed: job 1: bad.mp4" in err
    assert "1 of 2 jobs failed" in err.splitlines()[-1]
    (done,) = (here / "outputs").iterdir()
    assert (done / "video.mp4").is_file()


# -- the README's promise -------------------------------------------------------------------------


def test_the_constraint_of_the_readme_is_one_file_and_one_yaml(tmp_path: Path) -> None:
    root = Path(run_job.__file__).parents[2]
    for package in ("rerender", "eval", "conf"):
        ignored = shutil.ignore_patterns("__pycache__", "weights")
        shutil.copytree(root / package, tmp_path / package, ignore=ignored)
    readme = (root / "README.md").read_text()
    for kind, comment in (("python", "# rerender/"), ("yaml", "# conf/")):
        (block,) = (text for text in readme.split(f"```{kind}\n")[1:] if text.startswith(comment))
        lines = block.partition("```")[0].splitlines()
        (tmp_path / lines[0].removeprefix("# ")).write_text("\n".join(lines[1:]) + "\n")
    # Frames between key frames would be filled by loops that this copy has to compile first.
    given = [*SMOKE, "data.frames=3", "keyframes.interval=1", "constraint=[cross_frame,grain]"]
    command = ["-m", "rerender.run", *given, "out=out"]
    done = subprocess.run(
        [sys.executable, *command, "constraint.grain.amount=0.1", "metrics=[]"],
        cwd=tmp_path,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=200,
    )
    assert done.returncode == 0, done.stderr
    assert "grain" in (tmp_path / "out" / "config.yaml").read_text()
