"""The benchmark from its export over submissions to the leaderboard, at toy size."""

from __future__ import annotations

import csv
import hashlib
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from experiments.benchmark import flo, manifest
from experiments.benchmark.__main__ import main
from experiments.benchmark.export import export
from experiments.benchmark.submission import SUBMISSION, read, swapped
from experiments.benchmark.tasks import KINDS, RATE, EditTask, hidden, pixels, public
from rerender import files
from rerender.codec import encode
from rerender.data import picture
from rerender.data.folder import Folder
from rerender.demo.world import HELD_OUT, MOTIONS
from rerender.errors import ConfigError, InputError, RerenderError
from rerender.flow.field import Flow, warp
from rerender.video import MemoryVideo

PUBLIC, HIDDEN, FRAMES, SIZE = 3, 2, 4, 64
NUMBERS = ["--public", "3", "--hidden", "2", "--frames", "4", "--size", "64"]


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("place")
    assert main(["export", str(root / "bench"), *NUMBERS]) == 0
    return root


def tasks(place: Path) -> dict[str, EditTask]:
    key = manifest.read_key(place / "bench.key.json")
    return manifest.tasks_of(manifest.read(place / "bench"), key)


def put_results(folder: Path, known: dict[str, EditTask], noise: float) -> None:
    """The truth, and a share of noise."""
    for name, task in known.items():
        truth = task.clip().truth
        assert truth is not None
        for index in range(task.frames):
            image = truth.translation(index)
            assert image is not None
            random = torch.rand(image.shape, generator=torch.Generator().manual_seed(index))
            mixed = (1 - noise) * image + noise * random
            files.put(folder / name / f"{index:06d}.png", files.png(mixed))


def submit(place: Path, method: str, noise: float, *more: str) -> int:
    put_results(place / "results" / method, tasks(place), noise)
    given = [str(place / "results" / method), str(place / "submissions" / method)]
    return main(["submit", str(place / "bench"), *given, "--method", method, *more])


# -- what is exported ------------------------------------------------------------------------------


def test_every_task_has_a_true_translation_that_changes_what_its_kind_says() -> None:
    found = public(20, 3, 32)
    assert len({(task.kind, task.motion) for task in found}) == len(KINDS) * len(MOTIONS) == 20
    for task in [*found, *hidden([10**15 + n for n in range(8)], 3, 32)]:
        made = task.world.translation(task.prompt)
        assert made is not None
        before, after, style = task.world.sentence, made[0].sentence, made[1]
        changed = {
            "object": all(
                a != b and c != d for (a, c), (b, d) in zip(before.nouns, after.nouns, strict=True)
            ),
            "background": before.background != after.background,
            "style": style != "photo",
        }
        wanted = {*changed} if task.kind == "multiple" else {task.kind}
        assert {name for name, value in changed.items() if value} == wanted


def test_the_files_are_those_of_the_world(place: Path) -> None:
    bench = place / "bench"
    for task in public(PUBLIC, FRAMES, SIZE):
        truth = task.clip().truth
        assert truth is not None
        total = hashlib.sha256()
        for index in range(FRAMES):
            name = f"{task.name}/{index:06d}.png"
            source = picture.read(bench / "clips" / name).image
            assert torch.equal(files.levels(source), files.levels(task.world.frame(index)))
            total.update(pixels(source))
            image = truth.translation(index)
            assert image is not None
            true = picture.read(bench / "truth" / name).image
            assert torch.equal(files.levels(true), files.levels(image))
            layers = files.levels(picture.read(bench / "layers" / name).image)[0]
            assert torch.equal(layers, task.world.layers(index))
        entry = next(e for e in manifest.read(bench).entries if e.name == task.name)
        assert entry.sha256 == total.hexdigest() == task.source()


def test_outside_the_masks_the_truth_is_the_source(place: Path) -> None:
    for task in public(PUBLIC, FRAMES, SIZE):
        for index in range(FRAMES):
            name = f"{task.name}/{index:06d}.png"
            source, true, mask = (
                files.levels(picture.read(place / "bench" / kind / name).image)
                for kind in ("clips", "truth", "masks")
            )
            assert {*mask.unique().tolist()} <= {0, 255}
            kept = mask[0] == 0
            assert torch.equal(source[:, kept], true[:, kept])
            share = float(kept.float().mean())
            assert share == 0 if task.kind == "style" else 0.05 < share < 0.98


def test_the_flow_is_true_and_reads_back(place: Path) -> None:
    task = public(PUBLIC, FRAMES, SIZE)[1]
    folder = place / "bench" / "flow" / task.name
    assert len(list(folder.glob("*.flo"))) == len(list(folder.glob("*.png"))) == 2 * (FRAMES - 1)
    offset = flo.load((folder / "backward-000002.flo").read_bytes())
    true = task.world.flow(2, 1)
    assert torch.equal(offset, true.offset)
    occluded = picture.read(folder / "backward-000002.png").image[:1]
    assert torch.equal(occluded[None], true.occluded)
    # target(p) = source(p + offset(p)) where it is visible
    moved = Flow(offset, occluded[None]).warp(task.world.frame(1))
    visible = occluded[0] == 0
    assert float((moved - task.world.frame(2)).abs().mean(0)[visible].mean()) < 0.01
    assert torch.equal(warp(torch.ones(1, 1, SIZE, SIZE), torch.zeros_like(offset)).round(),
                       torch.ones(1, 1, SIZE, SIZE))  # fmt: skip


def test_flo_files_are_middleburys() -> None:
    offset = torch.arange(12, dtype=torch.float32).view(1, 2, 2, 3)
    data = flo.dump(offset)
    assert data[:4] == b"PIEH"  # 202021.25 as little-endian float, as the format's page says
    assert data[4:12] == bytes([3, 0, 0, 0, 2, 0, 0, 0])
    assert torch.equal(flo.load(data), offset)
    for broken in (data[:-1], b"", b"XXXX" + data[4:], data + b"x"):
        with pytest.raises(ValueError):
            flo.load(broken)


def test_hidden_clips_tell_nothing(place: Path) -> None:
    bench, known = place / "bench", tasks(place)
    names = [entry.name for entry in manifest.read(bench).entries if entry.hidden]
    assert len(names) == HIDDEN
    for kind in ("truth", "masks", "layers", "flow"):
        assert sorted(path.name for path in (bench / kind).iterdir()) == sorted(
            task.name for task in public(PUBLIC, FRAMES, SIZE)
        )
    everything = b"".join(path.read_bytes() for path in bench.glob("*.*") if path.is_file())
    for name in names:
        assert known[name].seed >= HELD_OUT
        assert str(known[name].seed).encode() not in everything
    entries = {entry.name: entry for entry in manifest.read(bench).entries}
    for name in names:
        assert (entries[name].seed, entries[name].motion) == (None, None)
        nonce = manifest.read_key(place / "bench.key.json").nonces[name]
        assert entries[name].commitment == known[name].commitment(nonce)


def test_our_own_program_reads_the_export(place: Path) -> None:
    data = Folder(place / "bench" / "clips", prompts=place / "bench" / "prompts.csv", size=SIZE)
    clips = {clip.name: clip for clip in data.clips()}
    known = tasks(place)
    assert {*clips} == {*known}
    for name, clip in clips.items():
        assert clip.prompt == known[name].prompt
        assert clip.source_prompt == known[name].world.caption
        assert len(clip.video) == FRAMES


def test_the_same_key_gives_the_same_files(place: Path, tmp_path: Path) -> None:
    given = ["export", str(tmp_path / "again"), "--key", str(place / "bench.key.json"), *NUMBERS]
    before = (place / "bench.key.json").read_bytes()
    assert main(given) == 0
    assert (place / "bench.key.json").read_bytes() == before
    for path in sorted((place / "bench").rglob("*")):
        if path.is_file():
            other = tmp_path / "again" / path.relative_to(place / "bench")
            assert other.read_bytes() == path.read_bytes(), path


@pytest.mark.parametrize(
    ("given", "code"),
    [
        (["--size", "60"], 2),
        (["--frames", "1"], 2),
        (["--public", "0"], 2),
        (["--hidden", "3"], 2),  # the key is of two
        (["--key", "bench/key.json"], 2),  # would be published
        (["--public", "4"], 2),  # another benchmark is there
    ],
)
def test_exports_that_are_refused(
    place: Path, given: list[str], code: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(place)
    assert main(["export", "bench", *NUMBERS, *given]) == code


# -- submissions -----------------------------------------------------------------------------------


def test_nothing_is_exported_through_a_planted_link(tmp_path: Path) -> None:
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "bench").mkdir()
    (tmp_path / "bench" / "clips").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(ConfigError, match="is a link"):
        export(tmp_path / "bench", tmp_path / "key.json", 1, 0, 2, 32)
    assert not list((tmp_path / "elsewhere").iterdir())


def test_degraded_copies_are_ranked_as_they_should(place: Path) -> None:
    assert submit(place, "worst", 0.5) == 0
    assert submit(place, "best", 0.05, "--description", "hardly <b>any</b> noise") == 0
    assert submit(place, "middle", 0.2) == 0
    board = ["board", str(place / "bench"), str(place / "submissions")]
    assert main([*board, "--key", str(place / "bench.key.json")]) == 0
    with_key = json.loads((place / "submissions" / "leaderboard.json").read_text())
    # What a submission says of its own scores is not read.
    facts(place / "submissions" / "worst", scores={"psnr": 99.0}, place=1)
    assert main(board) == 0
    without = json.loads((place / "submissions" / "leaderboard.json").read_text())
    for found, which, clips in ((with_key, "hidden", HIDDEN), (without, "public", PUBLIC)):
        assert found["ranked_on"] == which
        assert [one["method"] for one in found["submissions"]] == ["best", "middle", "worst"]
        assert [one["place"] for one in found["submissions"]] == [1, 2, 3]
        means = [one["scores"][which]["psnr"] for one in found["submissions"]]
        assert means[0]["mean"] > means[1]["mean"] > means[2]["mean"]
        assert all(each["clips"] == clips for each in means)
        floors = [one["method"] for one in found["floors"]]
        assert floors == ["source", "VAE round trip", "true translation"]
        assert found["floors"][2]["scores"][which]["ssim"]["mean"] == 1
    for one, other in zip(with_key["submissions"], without["submissions"], strict=True):
        assert one["scores"]["public"] == other["scores"]["public"]
    assert "hidden" not in without["floors"][0]["scores"]
    text = (place / "submissions" / "leaderboard.md").read_text()
    assert "1. **best**: hardly \\<b\\>any\\</b\\> noise" in text
    lines = [line.split("|")[1].strip() for line in text.splitlines() if line.startswith("|")]
    lines = [line for line in lines if line.strip("-:")]
    assert lines[:6] == ["method", "source", "VAE round trip", "true translation", "best", "middle"]
    table = (place / "submissions" / "leaderboard.csv").read_text(encoding="utf-8")
    rows = list(csv.reader(table.splitlines()))
    assert {"source", "best", "worst"} <= {row[1] for row in rows}


Change = Callable[[Path], object]


def exchange(folder: Path) -> None:
    """Swap two public clips, which are always the same."""
    places = [path for path in folder.iterdir() if path.is_dir()]
    one, two = sorted(path for path in places if not path.name.startswith("hidden"))[:2]
    one.rename(folder / "aside")
    two.rename(folder / one.name)
    (folder / "aside").rename(folder / two.name)


def first(folder: Path) -> Path:
    return sorted(path for path in folder.iterdir() if path.is_dir())[0]


def as_video(folder: Path, rate: int) -> None:
    """A clip as a video file at a rate."""
    place = first(folder)
    frames = [picture.read(path).image for path in sorted(place.glob("*.png"))]
    shutil.rmtree(place)
    from fractions import Fraction

    with files.writing(folder / f"{place.name}.mp4") as file:
        encode(frames, MemoryVideo(frames, Fraction(rate)), file)


def halved(folder: Path) -> None:
    for path in first(folder).glob("*.png"):
        image = picture.read(path).image[:, ::2, ::2]
        files.put(path, files.png(image))


def twice(folder: Path) -> None:
    one, two = sorted(path for path in folder.iterdir() if path.is_dir())[:2]
    for path in one.iterdir():
        files.copy(path, two / path.name)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda f: shutil.rmtree(first(f)), "lacks 1 of 5 clips"),
        (lambda f: first(f).rename(f / "unknown"), "is of no clip of the benchmark"),
        (lambda f: (first(f) / "000003.png").unlink(), "has 3 frames, the source has 4"),
        (halved, "is 32x32, the source is 64x64"),
        (lambda f: as_video(f, 30), "is not at 25 frames per second, received 30"),
        (twice, "is the same video as that of"),
        (exchange, "clips are swapped"),
    ],
)
def test_results_that_are_refused(
    place: Path, tmp_path: Path, change: Change, said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    put_results(tmp_path / "results", tasks(place), 0.1)
    change(tmp_path / "results")
    key = ["--key", str(place / "bench.key.json")]
    given = [str(place / "bench"), str(tmp_path / "results"), str(tmp_path / "made")]
    assert main(["submit", *given, "--method", "m", *key]) == 3
    assert said in capsys.readouterr().err
    assert not (tmp_path / "made").exists()


def test_a_video_at_the_right_rate_is_taken(place: Path, tmp_path: Path) -> None:
    put_results(tmp_path / "results", tasks(place), 0.1)
    as_video(tmp_path / "results", RATE)
    given = [str(place / "bench"), str(tmp_path / "results"), str(tmp_path / "made")]
    assert main(["submit", *given, "--method", "m"]) == 0
    assert len(list((tmp_path / "made").glob("*.mp4"))) == 1


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda f: (first(f) / "000000.png").write_bytes(b"x"), "was changed after"),
        (lambda f: (first(f) / "000000.png").unlink(), "was added or removed after"),
        (lambda f: (f / "more.txt").write_text("x"), "was added or removed after"),
        (exchange, "was changed after"),
        (lambda f: facts(f, benchmark="0" * 16), "is of another benchmark"),
        (lambda f: facts(f, sources={}), "was made from another source"),
        (lambda f: facts(f, method="source"), "is the name of a floor"),
        (lambda f: facts(f, method="a\nb"), "no name for a method"),
        (lambda f: facts(f, files=None), "is no submission"),
        (lambda f: (f / "link.png").symlink_to("/etc/hostname"), "is a link"),
    ],
)
def test_submissions_that_are_refused(
    place: Path, tmp_path: Path, change: Change, said: str
) -> None:
    if not (place / "submissions" / "plain").exists():
        assert submit(place, "plain", 0.1) == 0
    shutil.copytree(place / "submissions" / "plain", tmp_path / "plain")
    benchmark, known = manifest.read(place / "bench"), tasks(place)
    assert read(benchmark, tmp_path / "plain", known).method == "plain"
    change(tmp_path / "plain")
    with pytest.raises(RerenderError, match=said):
        read(benchmark, tmp_path / "plain", known)


def facts(folder: Path, **more: Any) -> None:
    path = folder / SUBMISSION
    path.write_text(json.dumps(json.loads(path.read_text()) | more))


def test_a_refused_submission_stops_no_other(place: Path, tmp_path: Path) -> None:
    for name in ("good", "bad", "copy"):
        if not (place / "submissions" / "good").exists():
            assert submit(place, "good", 0.1) == 0
        shutil.copytree(place / "submissions" / "good", tmp_path / name)
    (first(tmp_path / "bad") / "000000.png").write_bytes(b"x")
    assert main(["board", str(place / "bench"), str(tmp_path)]) == 6
    found = json.loads((tmp_path / "leaderboard.json").read_text())
    assert [one["method"] for one in found["submissions"]] == ["good"]
    refused = {one["folder"]: one["reason"] for one in found["refused"]}
    assert "was changed after" in refused["bad"]
    assert "name of another submission" in refused["good"]  # "copy" comes first in the alphabet
    assert "### Refused" in (tmp_path / "leaderboard.md").read_text()


def test_changed_sources_and_keys_are_refused(
    place: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    shutil.copytree(place / "bench", tmp_path / "bench")
    put_results(tmp_path / "results", tasks(place), 0.1)
    given = ["submit", str(tmp_path / "bench"), str(tmp_path / "results"), str(tmp_path / "made")]
    path = first(tmp_path / "bench" / "clips") / "000001.png"
    image = picture.read(path).image
    files.put(path, files.png(1 - image))
    assert main([*given, "--method", "m"]) == 3
    assert "was changed: it is not the source" in capsys.readouterr().err
    files.put(path, files.png(image))
    other = json.loads((place / "bench.key.json").read_text())
    other["hidden"][0]["seed"] += 1
    (tmp_path / "other.json").write_text(json.dumps(other))
    assert main([*given, "--method", "m", "--key", str(tmp_path / "other.json")]) == 3
    assert "its key does not fit" in capsys.readouterr().err
    text = (tmp_path / "bench" / "benchmark.json").read_text()
    (tmp_path / "bench" / "benchmark.json").write_text(text.replace("oil", "pencil", 1) + " ")
    found = json.loads(text)
    found["clips"][0]["prompt"] = "something else"
    (tmp_path / "bench" / "benchmark.json").write_text(json.dumps(found))
    with pytest.raises(InputError, match="does not fit its id"):
        manifest.read(tmp_path / "bench")
    assert main(["board", str(place / "bench"), str(tmp_path / "none")]) == 3


# -- swaps -----------------------------------------------------------------------------------------


def videos(
    known: dict[str, EditTask], look: Callable[[EditTask, int], Tensor]
) -> dict[str, MemoryVideo]:
    return {
        name: MemoryVideo([look(task, index) for index in range(task.frames)])
        for name, task in known.items()
    }


def test_swaps_are_seen_and_poor_methods_are_none() -> None:
    known = {task.name: task for task in public(12, 3, 32)}

    def true(task: EditTask, index: int) -> Tensor:
        truth = task.clip().truth
        assert truth is not None
        image = truth.translation(index)
        assert image is not None
        return image

    def noisy(task: EditTask, index: int) -> Tensor:
        generator = torch.Generator().manual_seed(task.seed + index)
        random = torch.rand(3, 32, 32, generator=generator)
        return 0.5 * true(task, index) + 0.5 * random

    poor = {
        "truth": true,
        "noisy": noisy,
        "source": lambda task, index: task.world.frame(index),
        "black": lambda task, index: torch.zeros(3, 32, 32),
        "noise": lambda task, index: noisy(task, index) - 0.5 * true(task, index),
        "inverted": lambda task, index: 1 - true(task, index),
        "between": lambda task, index: (true(task, index) + task.world.frame(index)) / 2,
    }
    for name, look in poor.items():
        assert swapped(videos(known, look), known) == [], name
    good = videos(known, noisy)
    one, two, three, *_ = known
    circle = {**good, one: good[two], two: good[three], three: good[one]}
    (group,) = swapped(circle, known)
    assert sorted(group) == sorted([one, two, three])
