"""Commands on damaged folders of results: one line with the file, never a traceback, and no number
that does not fit its sum."""

from __future__ import annotations

import importlib
import json
import shutil
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from eval import score_files
from eval.references import SOURCE, TRUTH
from experiments import tables
from experiments.finish_sweep import collect
from experiments.media import Media
from experiments.report_data import gather
from rerender import files
from rerender.config.compose import preflight
from rerender.errors import InputError
from rerender.jobs.run_job import run_job
from rerender.run_folder import EVAL_SCORES, METRICS, REPORT, SCORES, read_facts, sealed
from tests.test_exits import COMMANDS
from tests.test_folder import DAMAGES, cut, flip, gone, noise, prints
from tests.test_resume import ARGUMENTS

# What each command is given where RESULTS is a folder of results; None reads no results.
GIVEN: dict[str, list[str] | None] = {
    "eval.score": ["RESULTS"],
    "experiments.animation": None,
    "experiments.benchmark.__main__": ["budget", "RESULTS"],
    "experiments.combinations": None,
    "experiments.degradations": None,
    "experiments.encoding_cycles": None,
    "experiments.stock_video": None,
    "experiments.study.__main__": ["RESULTS"],
    "experiments.report": ["RESULTS"],
    "experiments.dvc_stages": ["scores", "RESULTS", "out"],
    "experiments.dvc_stages tables": ["tables", "RESULTS", "RESULTS", "out"],
    "experiments.tables": ["RESULTS"],
    "experiments.power": ["RESULTS", "--reference", "run-0", "--primary", "warp_error"],
    "experiments.tutorials": None,
    "rerender.fetch": None,
    "rerender.propagate.__main__": None,
    "rerender.run": None,
    "rerender.store.__main__": ["ls", "RESULTS"],
    "rerender.jobs.device_worker": None,
    "rerender.studio.__main__": None,
    "rerender.studio.worker": None,
}
SAID = ("budget: ", "error: ", "warning: ", "failed: ", "score: ", "not scored: ")


@pytest.fixture(autouse=True, scope="module")
def one_thread() -> Iterator[None]:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of results: two runs of ours, frames of somebody else's, tables and a page."""
    place = tmp_path_factory.mktemp("results")
    runs = []
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(place)
        for seed in range(2):
            more = [f"seed={seed}", "metrics=[warp_error]"]
            (tree,) = preflight([*ARGUMENTS, *more], None).jobs
            run_job(tree, Path(f"run-{seed}"), "")
            runs.append(place / f"run-{seed}")
        for index in range(7):
            picture = files.png(torch.full((3, 32, 32), index / 10))
            files.put(place / "all" / "rival" / "demo-slow-1000000" / f"{index}.png", picture)
        collect(place / "all", runs)
    return place / "all"


def test_every_command_is_known_here() -> None:
    assert {name.split()[0] for name in GIVEN} == {*COMMANDS}


def run(name: str, folder: Path) -> int:
    given = GIVEN[name] or []
    module = importlib.import_module(name.split()[0])
    code = module.main([str(folder) if word == "RESULTS" else word for word in given])
    assert isinstance(code, int)
    return code


READING = [command for command, given in GIVEN.items() if given is not None]
READING.sort(key=lambda command: command != "experiments.tables")


def measured(table: Path) -> list[str]:
    """The lines of a table but for the papers' numbers: in what order they stand, and which papers
    stand beside them, says experiment.yaml, which folders of other people's videos do not have."""
    lines = table.read_text(encoding="utf-8").splitlines()
    return sorted(line for line in lines if not line.startswith('"Published'))


def tried(
    folder: Path,
    whole: Path,
    name: str,
    capsys: pytest.CaptureFixture[str],
    commands: Sequence[str] = READING,
) -> None:
    """Commands on a damaged folder; tables first, before others mend or leave out."""
    for command in commands:
        code = run(command, folder)
        err = capsys.readouterr().err
        assert code in (0, 2, 3, 5, 6), (command, name, err)
        assert "Traceback" not in err
        assert all(line.startswith(SAID) for line in err.splitlines()), (command, name, err)
        assert code == 0 or "error: " in err
        if code == 0 and command == "experiments.tables":
            same = measured(folder / "table.csv") == measured(whole / "table.csv")
            assert same or "warning: " in err, (name, "other numbers without a word")


def names(results: Path) -> list[str]:
    """The files of a folder of results; damaged pictures of others are a matter of tests/data."""
    paths = [path for path in results.rglob("*") if path.is_file()]
    found = sorted(path.relative_to(results).as_posix() for path in paths)
    return [name for name in found if not name.startswith("rival/")]


def damaged(
    results: Path, names: list[str], damages: Sequence[Callable[[Path], None]], place: Path
) -> Iterator[tuple[str, Path]]:
    for number, name in enumerate(names):
        folder = place / str(number)
        shutil.copytree(results, folder)
        damages[number % len(damages)](folder / name)
        yield f"{name} {getattr(damages[number % len(damages)], '__name__', '')}", folder


def test_no_damage_is_a_bug(
    results: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """One file of each kind, each damaged in another way, read by the tables and by every fourth of
    the other commands in turn; `test_no_damage_of_any_file_is_a_bug` goes through all of it."""
    monkeypatch.chdir(tmp_path)
    kinds = {(Path(name).suffix, name.count("/")): name for name in names(results)}
    first, *others = READING
    read: set[str] = set()
    each_damaged = damaged(results, sorted(kinds.values()), DAMAGES, tmp_path)
    for number, (name, folder) in enumerate(each_damaged):
        commands = [first, *others[number % 4 :: 4]]
        tried(folder, results, name, capsys, commands)
        read.update(commands)
    assert read == {*READING}


@pytest.mark.slow
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("damage", DAMAGES)
def test_no_damage_of_any_file_is_a_bug(
    damage: Callable[[Path], None],
    results: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    for name, folder in damaged(results, names(results), [damage], tmp_path):
        tried(folder, results, name, capsys)


def test_a_video_that_is_gone_takes_its_costs_along_with_a_word(
    results: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "all"
    shutil.copytree(results, folder)
    (folder / "run-0" / "video.mp4").unlink()
    tried(folder, results, "run-0/video.mp4 gone", capsys, READING[:1])


@pytest.mark.parametrize(
    "text",
    ["", "null", "[]", "3", '"x"', "{}", "{", "[" * 9999, '{"clips": 3}', "\ufeff{}", "NaN"],
)
@pytest.mark.parametrize("name", ["run-0/metrics.json", "run-0/config.yaml", "scores.jsonl"])
def test_what_is_no_file_of_ours_is_no_bug(
    name: str,
    text: str,
    results: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    shutil.copytree(results, tmp_path / "all")
    (tmp_path / "all" / name).write_text(text, encoding="utf-8")
    for command in ("experiments.tables", "experiments.report"):
        assert run(command, tmp_path / "all") in (0, 2, 3)
        err = capsys.readouterr().err
        assert all(line.startswith(SAID) for line in err.splitlines()), err


def test_a_number_that_does_not_fit_its_sum_is_refused_and_measured_again(
    results: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    root = tmp_path / "all"
    shutil.copytree(results, root)
    file = root / SCORES
    whole = file.read_bytes()
    line = next(text for text in whole.decode().splitlines() if '"value": 0.' in text)
    file.write_text(whole.decode().replace(line, line.replace('"value": 0.', '"value": 1.')))
    for build in (tables.write, lambda root: gather(root, Media(root / "report"))):
        with pytest.raises(InputError, match=r"does not fit its sum\); score again: python -m"):
            build(root)
    assert run("eval.score", root) == 0
    assert "warning: " in capsys.readouterr().err
    assert file.read_bytes() == whole


@pytest.mark.parametrize("damage", [flip, cut, "a number and its sum"])
def test_a_damaged_score_file_of_a_run_is_said_and_measured_again(
    damage: Callable[[Path], None] | str,
    results: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    root = tmp_path / "all"
    shutil.copytree(results, root)
    before, file = (root / SCORES).read_bytes(), root / "run-0" / SCORES
    (root / SCORES).unlink()
    if isinstance(damage, str):  # which only the sum in metrics.json can find
        rows = [replace(row, value=(row.value or 0) + 1) for row in score_files.read(file)]
        score_files.write(file, rows)
    else:
        damage(file)
    assert run("eval.score", root) == 0
    said = capsys.readouterr()
    assert said.err.count("warning: ") == 1 and f"{file}: " in said.err
    assert "; measured again" in said.err
    assert (root / SCORES).read_bytes() == before


@pytest.mark.parametrize("damage", [flip, cut, noise])
def test_a_damaged_video_of_a_finished_run_is_not_scored(
    damage: Callable[[Path], None], results: Path, tmp_path: Path
) -> None:
    root = tmp_path / "all"
    shutil.copytree(results, root)
    damage(root / "run-0" / "video.mp4")
    (root / SCORES).unlink()
    assert run("eval.score", root) == 3
    assert {row.method for row in score_files.read(root / SCORES)} == {
        SOURCE,
        TRUTH,
        "run-1",
        "rival",
    }
    assert any("sha256" in said["reason"] for said in gather(root, Media(root / "report")).failed)


def test_a_run_with_another_configuration_than_its_own_is_left_out(
    results: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    root = tmp_path / "all"
    shutil.copytree(results, root)
    config = root / "run-0" / "config.yaml"
    config.write_text(config.read_text().replace("\nseed: 0\n", "\nseed: 4\n"))
    (root / SCORES).unlink()
    assert run("eval.score", root) == 0
    assert (
        "does not fit its sha256 in metrics.json; this run is left out" in capsys.readouterr().err
    )
    assert "run-0" not in {row.method for row in score_files.read(root / SCORES)}


def test_names_that_are_no_utf8_reach_tables_and_page(results: Path, tmp_path: Path) -> None:
    root = tmp_path / "all"
    shutil.copytree(results, root)
    (root / "run-1").rename(root / "r\udcffn")
    assert run("eval.score", root) == 0
    assert "r\udcffn" in {row.method for row in score_files.read(root / SCORES)}
    assert run("experiments.tables", root) == 0
    assert run("experiments.report", root) == 0


def test_the_page_shows_what_runs_warned_of(results: Path, tmp_path: Path) -> None:
    root = tmp_path / "all"
    shutil.copytree(results, root)
    facts = read_facts(root / "run-0")
    facts["warnings"] = ["clips/notes.txt: <passed> over"]
    files.remove(root / "run-0" / METRICS)
    files.put_json(root / "run-0" / METRICS, sealed(facts))
    assert run("experiments.report", root) == 0
    page = (root / "report" / "index.html").read_text()
    assert "<b>run-0</b>: clips/notes.txt: &lt;passed&gt; over" in page
    shutil.copytree(results, tmp_path / "quiet")
    assert run("experiments.report", tmp_path / "quiet") == 0
    assert "warned-title" not in (tmp_path / "quiet" / "report" / "index.html").read_text()


@pytest.mark.parametrize(
    "given",
    [
        ["scores", "RESULTS", "RESULTS"],
        ["scores", "RESULTS", "RESULTS/run-0"],
        ["scores", "RESULTS/run-0", "RESULTS"],
        ["tables", "RESULTS", "elsewhere", "RESULTS"],
        ["tables", "RESULTS", "elsewhere", "elsewhere"],
        ["scores", "RESULTS", "link"],
    ],
)
def test_an_output_of_a_stage_that_is_an_input_is_refused(
    given: list[str], results: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from experiments.dvc_stages import main

    monkeypatch.chdir(tmp_path)
    shutil.copytree(results, tmp_path / "all")
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "link").symlink_to("all")
    before = prints(tmp_path / "all")
    code = main([word.replace("RESULTS", "all") for word in given])
    assert code in (2, 3)
    assert prints(tmp_path / "all") == before


def test_runs_that_lie_in_the_results_are_not_removed_for_themselves(
    results: Path, tmp_path: Path
) -> None:
    """Collecting runs into their own parent would remove what it is to copy."""
    from rerender.errors import ConfigError

    shutil.copytree(results, tmp_path / "all")
    before = prints(tmp_path / "all")
    for root in (tmp_path / "all", tmp_path / "all" / "run-0", tmp_path / "all" / "run-0" / "in"):
        with pytest.raises(ConfigError):
            collect(root, [tmp_path / "all" / "run-0"])
    after = {name: mark for name, mark in prints(tmp_path / "all").items() if "lock" not in name}
    assert after == {name: mark for name, mark in before.items() if "lock" not in name}
    assert json.loads((tmp_path / "all" / "run-0" / METRICS).read_text())
    gone(tmp_path / "all" / "run-0" / METRICS)


@pytest.mark.parametrize("damage", DAMAGES)
def test_damaged_media_of_a_page_are_made_again(
    damage: Callable[[Path], None], results: Path, tmp_path: Path
) -> None:
    root = tmp_path / "all"
    shutil.copytree(results, root)
    before = prints(root / "report" / "media")
    for name in sorted(before)[:: max(1, len(before) // 4)]:
        damage(root / "report" / "media" / name)
    assert run("experiments.report", root) == 0
    assert prints(root / "report" / "media") == before


def test_scoring_a_run_leaves_it_finished(
    results: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Rows of the source and the truth stand beside the run's own, which metrics.json holds by
    their sha256; tables and page take the larger file."""
    run, before = tmp_path / "run-0", prints(results / "run-0")
    shutil.copytree(results / "run-0", run)
    for command in ("eval.score", "eval.score", "experiments.tables"):
        assert importlib.import_module(command).main([str(run)]) == 0
    assert {name: prints(run)[name] for name in before} == before
    rows = score_files.read(run / EVAL_SCORES)
    assert {row.method for row in rows} == {"run-0", SOURCE, TRUTH}
    assert SOURCE in (run / REPORT / "table.md").read_text()
    said = capsys.readouterr()
    assert "6 rows measured, 3 unchanged" in said.out  # the own rows are not measured again
    assert "warning: " not in said.err
