"""The folder of a run against strangers: planted links, inputs that are outputs, damaged files."""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch

from rerender import files
from rerender.config.compose import preflight
from rerender.config.job import key_of
from rerender.errors import RerenderError
from rerender.exits import failure
from rerender.jobs import record
from rerender.jobs.record import FILES, FOLDERS, RESERVED, check_names
from rerender.jobs.run_job import run_job
from rerender.run import main
from rerender.run_folder import METRICS, REPORT, VIDEO, read_facts
from rerender.store.run_identity import Identity, check_apart, owner
from rerender.video import Clip
from tests.scenes import moving
from tests.test_resume import ARGUMENTS

GROWING = ("run.log", "record.jsonl", "lock")
MORE = ["data.seeds=[1000000,1000001]"]


@pytest.fixture(autouse=True, scope="module")
def one_thread() -> Iterator[None]:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture(scope="module")
def tree() -> dict[str, Any]:
    (found,) = preflight(ARGUMENTS, None).jobs
    return dict(found)


@pytest.fixture(scope="module")
def place(tree: dict[str, Any], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A working folder with finished runs: ``one`` clip with W&B, and ``two`` clips."""
    folder = tmp_path_factory.mktemp("finished")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        online = [word for word in ARGUMENTS if not word.startswith("tracker")]
        assert main([*online, "tracker=wandb", "out=one"]) == 0
        assert main([*ARGUMENTS, *MORE, "out=two"]) == 0
    return folder


@pytest.fixture
def here(place: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(place)
    return place


def prints(folder: Path) -> dict[str, str]:
    """The hash of every file below a folder, of links what they lead to, of folders nothing."""
    found = {}
    for path in sorted(folder.rglob("*")):
        name = path.relative_to(folder).as_posix()
        if path.is_symlink():
            found[name] = path.readlink().as_posix()
        else:
            found[name] = (
                hashlib.sha256(path.read_bytes()).hexdigest() if path.is_file() else "folder"
            )
    return found


def code_of(work: Callable[[], object]) -> tuple[int, str]:
    try:
        work()
    except RerenderError as error:
        return failure(error).code, failure(error).message
    return 0, ""


# -- planted links ---------------------------------------------------------------------------------


def plants(place: Path, name: str, kind: str) -> Path:
    """A folder that holds this run's config.yaml and, at one of its paths, something planted."""
    out = place / "out"
    shutil.rmtree(out, ignore_errors=True)
    target = out / name
    target.parent.mkdir(parents=True)
    if not (out / "config.yaml").exists() and name != "config.yaml":
        shutil.copy(place.parent / "config.yaml", out / "config.yaml")
    outside = place / "outside"
    if kind == "folder":
        target.symlink_to(outside / "folder")
    elif kind == "file":
        target.symlink_to(outside / "file")
    elif kind == "dangling":
        target.symlink_to(outside / "nothing")
    else:
        os.mkfifo(target)
    return out


@pytest.mark.parametrize("kind", ["file", "folder", "dangling", "pipe"])
@pytest.mark.parametrize("run", ["one", "two"])
def test_nothing_is_written_through_what_is_planted_in_an_output_folder(
    run: str, kind: str, here: Path, tmp_path: Path
) -> None:
    """At every path that a finished run has, file or folder, found by looking; and the stages."""
    tree = dict(preflight([*ARGUMENTS, *(MORE if run == "two" else ())], None).jobs[0])
    names = [path.relative_to(here / run).as_posix() for path in (here / run).rglob("*")]
    assert len(names) > 20 if run == "one" else len(names) > 10
    shutil.copy(here / run / "config.yaml", tmp_path / "config.yaml")
    work = files.folder(tmp_path / "work")
    (work / "outside" / "folder").mkdir(parents=True)
    (work / "outside" / "file").write_bytes((here / run / "config.yaml").read_bytes())
    (work / "outside" / "folder" / "mine.txt").write_text("mine")
    before = prints(work / "outside")
    for name in [*names, ".store", ".store/keys", "CLIP"]:
        out = plants(work, name, kind)
        code, line = code_of(partial(run_job, tree, out, ""))
        assert prints(work / "outside") == before, name
        if name.endswith("debug-core.log") and kind != "pipe":
            assert code in (0, 2), line  # W&B makes such a link itself, and never writes through it
        else:
            assert code == 2, (name, line)
            assert line.count("\n") == 0
            assert os.path.lexists(out / name), "what is refused is left as it was"


def test_a_second_name_of_a_file_elsewhere_keeps_its_content(here: Path, tmp_path: Path) -> None:
    tree = dict(preflight(ARGUMENTS, None).jobs[0])
    out = files.folder(tmp_path / "out")
    shutil.copy(here / "one" / "config.yaml", out / "config.yaml")
    written = [name for name in FILES if (here / "one" / name).exists()]
    assert {METRICS, VIDEO} <= {*written}
    for name in written:
        (tmp_path / name).write_bytes((here / "one" / name).read_bytes())
        (out / name).unlink(missing_ok=True)
        (out / name).hardlink_to(tmp_path / name)
    before = {name: (tmp_path / name).read_bytes() for name in written}
    run_job(tree, out, "")
    assert {name: (tmp_path / name).read_bytes() for name in written} == before


def test_a_results_folder_is_not_written_through_either(here: Path, tmp_path: Path) -> None:
    from experiments.finish_sweep import collect

    outside = files.folder(tmp_path / "outside")
    (outside / "mine.txt").write_text("mine")
    files.folder(outside / "deep")
    collect(tmp_path / "whole", [here / "one"])
    names = [p.relative_to(tmp_path / "whole").as_posix() for p in (tmp_path / "whole").rglob("*")]
    assert {"report", "report/media", "one", "one/keys", "scores.jsonl"} <= {*names}
    before = prints(outside)
    kinds = {(Path(name).suffix, name.count("/")): name for name in names}
    for name in {*kinds.values(), "report", "report/media", "one", "one/keys"}:
        for target in (outside, outside / "mine.txt"):
            root = tmp_path / "results"
            shutil.rmtree(root, ignore_errors=True)
            (root / name).parent.mkdir(parents=True)
            (root / name).symlink_to(target)
            code, line = code_of(partial(collect, root, [here / "one"]))
            assert prints(outside) == before, name
            assert code in (0, 2), line  # 0: a link in place of a file is replaced


# -- outputs that are inputs -----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("settings", "out"),
    [
        (["data=video", "data.path=clips/a.mp4"], "clips"),
        (["data=video", "data.path=clips/a.mp4"], "clips/a.mp4"),
        (["data=folder", "data.path=clips"], "clips"),
        (["data=folder", "data.path=clips"], "clips/../clips/result"),
        (["data=folder", "data.path=link"], "clips/result"),
        (["data=folder", "data.path=clips", "data.prompts=out/prompts.csv"], "out"),
        (["data=video", "data.path=link/a.mp4"], "clips"),
        (["data=video", "data.path=clips/a.mp4"], "."),
        (["store=out/.store"], "out"),
    ],
)
def test_an_output_that_is_an_input_is_refused(
    settings: list[str], out: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "clips").mkdir()
    (tmp_path / "link").symlink_to("clips")
    (tmp_path / "clips" / "a.mp4").write_bytes(b"a clip")
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "prompts.csv").write_text("name,prompt\n")
    given = [word for word in ARGUMENTS if not word.startswith("data.")]
    tree = dict(preflight([*given, *settings, "prompt=x", f"out={out}"], None).jobs[0])
    with pytest.raises(RerenderError) as caught:
        check_apart(tree, Path(out))
    assert caught.value.exit_code == 2
    before = prints(tmp_path)
    assert code_of(lambda: run_job(tree, Path(out), ""))[0] == 2
    assert prints(tmp_path) == before
    check_apart(tree, Path("elsewhere/result"))


def test_a_folder_named_like_a_style_is_no_input(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`prompt=oil out=oil`, twice: the second time the folder is there, and the model knows oil."""
    monkeypatch.chdir(tmp_path)
    tree = dict(preflight(["model=demo", "prompt=oil", "out=oil"], None).jobs[0])
    before = Identity.of(tree).inputs
    (tmp_path / "oil").mkdir()
    check_apart(tree, Path("oil"))
    assert Identity.of(tree).inputs == before


# -- damage ----------------------------------------------------------------------------------------


def flip(path: Path) -> None:
    data = bytearray(path.read_bytes())
    if data:
        data[len(data) // 2] ^= 1
    path.write_bytes(data)


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def empty(path: Path) -> None:
    path.write_bytes(b"")


def gone(path: Path) -> None:
    path.unlink()


def noise(path: Path) -> None:
    path.write_bytes(bytes(range(256)) * 4)


DAMAGES = [flip, cut, empty, gone, noise]


def test_a_finished_run_lists_its_files(here: Path) -> None:
    for run in ("one", "two"):
        paths = [path for path in (here / run).rglob("*") if path.is_file()]
        names = {path.relative_to(here / run).as_posix() for path in paths}
        listed = set(read_facts(here / run)["files"])
        rest = names - listed - {METRICS, *GROWING}
        assert not {name for name in rest if not name.startswith("wandb/")}
        assert listed <= names


@pytest.mark.parametrize(
    ("damage", "keep"),
    [*((damage, True) for damage in DAMAGES), (flip, False)],
    ids=[*(f"{damage.__name__} in a sweep" for damage in DAMAGES), "flip alone"],
)
def test_a_damaged_file_of_a_finished_run_is_made_again(
    damage: Callable[[Path], None],
    keep: bool,
    here: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Whichever file it is, also config.yaml: the same command ends well, to the same bytes."""
    run = "two"
    tree = dict(preflight([*ARGUMENTS, *MORE, f"out={run}"], None).jobs[0])
    shutil.copytree(here / run, tmp_path / run)
    whole = {n: h for n, h in prints(tmp_path / run).items() if n not in (METRICS, *GROWING)}
    names = [p.relative_to(tmp_path / run) for p in (tmp_path / run).rglob("*") if p.is_file()]
    if damage is not flip or not keep:  # one of each kind is enough
        names = list({(name.suffix, name.parent.name[:4]): name for name in names}.values())
    for name in sorted(names):
        if name.name == files.LOCK:
            continue
        damage(tmp_path / run / name)
        code, line = code_of(lambda: run_job(tree, tmp_path / run, "", keep=keep))
        assert (code, line) == (0, ""), name
        found = prints(tmp_path / run)
        assert {n: found.get(n) for n in whole} == whole, name
        said = capsys.readouterr().out
        if name.name in ("run.log", "record.jsonl") and keep:
            assert "complete already" in said
        else:
            assert "complete already" not in said, name
    assert owner(tmp_path / run) == key_of(tree)


def test_a_folder_belongs_to_its_run_while_one_file_says_so(here: Path, tmp_path: Path) -> None:
    """Damaged one after the other: metrics.json, record.jsonl, config.yaml."""
    key = owner(here / "one")
    shutil.copytree(here / "one", tmp_path / "run", symlinks=True)
    (tmp_path / "run" / "config.yaml").write_text("seed: 7\n")
    assert owner(tmp_path / "run") == key
    flip(tmp_path / "run" / METRICS)
    assert owner(tmp_path / "run") == key
    noise(tmp_path / "run" / "record.jsonl")
    assert owner(tmp_path / "run") != key
    shutil.copy(here / "one" / "config.yaml", tmp_path / "run" / "config.yaml")
    assert owner(tmp_path / "run") == key


@pytest.mark.parametrize(
    "text",
    [
        b"\xff\xfe",
        b"{" * 100_000,
        b"[" * 100_000,
        b"a: &a [x, x]\nb: &b [*a, *a]\nc: [*b, *b]\n",
        b"!!python/object/apply:os.system [ls]",
        b"when: 2001-01-01\n",
        b"1: 2\n",
        b"- a\n",
        b"",
        b"seed: .nan\n",
        b"a: !!int ''\n",
        b"a: 2001-99-99\n",
    ],
)
def test_a_folder_with_a_strange_configuration_is_refused(text: bytes, tmp_path: Path) -> None:
    tree = dict(preflight(ARGUMENTS, None).jobs[0])
    for name in ("config.yaml", METRICS, "record.jsonl"):
        out = files.folder(tmp_path / name)
        (out / name).write_bytes(text)
        code, line = code_of(partial(run_job, tree, out, ""))
        assert code == 2, line
        assert (out / name).read_bytes() == text


def test_the_record_of_a_killed_run_reads_line_by_line(here: Path, tmp_path: Path) -> None:
    tree = dict(preflight(ARGUMENTS, None).jobs[0])
    shutil.copytree(here / "one", tmp_path / "run", symlinks=True)
    for name in ("record.jsonl", "run.log"):
        cut(tmp_path / "run" / name)
        assert not (tmp_path / "run" / name).read_bytes().endswith(b"\n")
    run_job(tree, tmp_path / "run", "")
    for line in (tmp_path / "run" / "record.jsonl").read_text().splitlines():
        json.loads(line)


# -- names of clips --------------------------------------------------------------------------------


def clips(*names: str) -> list[Clip]:
    return [Clip(name, moving(), "x") for name in names]


def test_reserved_names_are_all_that_a_run_folder_has(here: Path) -> None:
    names = {path.name for path in (here / "one").iterdir()}
    assert names <= {*FILES, *FOLDERS}
    assert {*FILES, *FOLDERS, REPORT} == {*RESERVED}
    constants = {
        value
        for name, value in vars(record).items()
        if re.fullmatch("[A-Z]+", name) and isinstance(value, str)
    }
    assert constants <= {*RESERVED}


@pytest.mark.parametrize(
    "name", [*RESERVED, "Keys", "WANDB", ".", "..", "", "a/b", f"{files.TEMPORARY}x", "cat", "CAT"]
)
def test_a_clip_whose_name_is_taken_is_refused(name: str) -> None:
    with pytest.raises(RerenderError, match="clip") as caught:
        check_names(clips("cat", name))
    assert caught.value.exit_code == 3
    check_names(clips(name))  # alone, its files lie in the run folder itself
    check_names(clips("cat", "dog"))


def test_a_reserved_name_is_refused_before_anything_is_made(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("keys", "cat"):
        for index in range(2):
            picture = files.png(torch.full((3, 32, 32), index / 2))
            files.put(tmp_path / "clips" / name / f"{index}.png", picture)
    given = [word for word in ARGUMENTS if not word.startswith("data.")]
    more = ["data=folder", "data.path=clips", "data.size=32", "data.frames=2"]
    assert main([*given, *more, "prompt=x", "out=out"]) == 3
    assert "clip 'keys': has the name of keys of the run itself" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()
