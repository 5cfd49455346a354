"""A sweep end to end at smoke size: its plan, its tables, and what a second call leaves alone."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

from eval import score_files
from eval.score import score_folder
from experiments import experiment
from experiments.finish_sweep import collect, promote
from rerender import files
from rerender.config.compose import preflight
from rerender.config.job import from_yaml
from rerender.run import main
from rerender.run_folder import SCORES, read_facts, sealed
from rerender.store import provenance, run_identity

TINY = [
    "model=tiny",
    "tracker=none",
    "data.size=32",
    "data.frames=5",
    "data.seeds=[1000000]",
    "keyframes.interval=4",
    "sampling.steps=8",
    "propagation=hold",
    "metrics=[warp_error]",
    "seed=0",
]
SWEEP = ["+exp=ablation_shape", "method=full,no_shape", *TINY]


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A working folder in which the sweep has run once."""
    folder = tmp_path_factory.mktemp("sweep")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        assert main(SWEEP) == 0
    return folder


@pytest.fixture
def here(place: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(place)
    return place


def marks(folder: Path) -> dict[str, int]:
    """When each file below a folder was last written."""
    return {str(f): f.stat().st_mtime_ns for f in folder.rglob("*") if f.is_file()}


def run_of(place: Path, method: str) -> Path:
    (found,) = (place / "outputs").glob(f"{method}-*")
    return found


def test_a_sweep_ends_with_tables_and_a_page_named_by_method(place: Path) -> None:
    results = place / "results" / "ablation_shape"
    assert sorted(path.name for path in (place / "outputs").iterdir()) == sorted(
        path.name for path in results.iterdir() if (path / "config.yaml").is_file()
    )
    rows = (results / "table.md").read_text().split("Published")[0]
    shown = [line.split("|")[1].strip() for line in rows.splitlines() if line.startswith("| ")]
    assert shown[:6] == [
        "method",
        "-" * 16,
        "source",
        "true translation",
        "all four",
        "no shape fusion",
    ]
    for name in ("table.csv", "table.tex", "scores.jsonl", "report/index.html"):
        assert (results / name).stat().st_size > 0
    assert "no_shape" in (results / "report" / "index.html").read_text()


def test_results_say_what_the_experiment_says_of_its_table(place: Path) -> None:
    results = place / "results" / "ablation_shape"
    about = experiment.read(results)
    assert about.table == preflight(SWEEP).table
    assert [run.rpartition("-")[0] for run in about.runs] == ["full", "no_shape"]
    assert r"\label{tab:ablation_shape}" in (results / "table.tex").read_text()


def test_results_of_other_settings_stand_beside_those_that_are_there(
    here: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """More rows take the place of fewer; other rows, such as those of another seed, do not."""
    root, full, other = tmp_path / "study", run_of(here, "full"), run_of(here, "no_shape")
    collect(root, [full])
    before = (root / "table.csv").read_bytes()
    made = collect(root, [other])
    assert made[0].parent != root and made[0].parent.name.startswith("study-")
    assert f"of other settings ({full.name})" in capsys.readouterr().err
    assert (root / "table.csv").read_bytes() == before
    assert collect(root, [other])[0] == made[0], "the same runs go to the same place"
    assert collect(root, [full, other])[0].parent == root
    assert len(list(root.glob("*/video.mp4"))) == 2


def test_results_stand_alone(place: Path) -> None:
    run = run_of(place, "full")
    promoted = place / "results" / "ablation_shape" / run.name
    assert (promoted / "video.mp4").read_bytes() == (run / "video.mp4").read_bytes()
    assert not any(path.is_symlink() for path in promoted.rglob("*"))
    assert not (promoted / "run.log").samefile(run / "run.log"), "a log goes on growing"


def test_a_plan_changes_nothing_and_says_what_is_complete(
    here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = marks(here)
    wider = ["+exp=ablation_shape", "method=full,no_shape,shape_30", *TINY]
    assert main([*wider, "--dry"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[2] for line in lines[:3]] == ["complete", "complete", "new"]
    assert lines[3] == "3 jobs, 2 complete, 1 to run"
    assert lines[4] == "in the store: key frames of 0 and videos of 0 of 1 clips"
    assert "judged by 2 finished runs" in lines[5]
    assert marks(here) == before


def test_a_plan_says_what_is_in_the_store(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Another way to fill frames and another name: key frames are there, in two of two jobs."""
    other = ["propagation=warp", "+exp=ablation_shape", "method=full,no_shape", *TINY]
    other.remove("propagation=hold")
    assert main([*other, "--dry"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[3] == "in the store: key frames of 2 and videos of 0 of 2 clips"
    assert main([*SWEEP, "out=null", "name=other", "method=full", "--dry"]) == 0
    assert "key frames of 1 and videos of 1 of 1 clips" in capsys.readouterr().out


def test_a_plan_without_finished_runs_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(["--dry", *SWEEP]) == 0
    assert "time unknown" in capsys.readouterr().out
    assert list(tmp_path.iterdir()) == []


def test_a_plan_refuses_what_a_run_refuses(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["+exp=ablation_shape", "method=ful", "--dry"]) == 2
    assert "did you mean full?" in capsys.readouterr().err


def test_complete_jobs_are_left_alone_and_damaged_ones_made_again(here: Path) -> None:
    whole, damaged = run_of(here, "full"), run_of(here, "no_shape")
    kept = (damaged / "video.mp4").read_bytes()
    before = marks(whole)
    (damaged / "video.mp4").unlink()
    (damaged / "video.mp4").write_bytes(kept[:-1])
    assert main(SWEEP) == 0
    assert {k: v for k, v in marks(whole).items() if not k.endswith("lock")} == {
        k: v for k, v in before.items() if not k.endswith("lock")
    }
    assert (damaged / "video.mp4").read_bytes() == kept


@pytest.mark.parametrize("key", ["code", "weights", "versions", "config"])
def test_a_job_of_something_else_is_not_complete(key: str, here: Path) -> None:
    folder = run_of(here, "full")
    tree = from_yaml((folder / "config.yaml").read_text())
    facts = read_facts(folder)
    ours = run_identity.Identity.of(tree)
    assert ours.finished(folder, facts["weights"])
    text = (folder / "metrics.json").read_text()
    try:
        other = {"python": "2.7"} if key == "versions" else "other"
        (folder / "metrics.json").write_text(json.dumps(sealed({**facts, key: other})))
        assert not ours.finished(folder, facts["weights"])
    finally:
        (folder / "metrics.json").write_text(text)


def test_files_that_are_named_belong_to_the_identity(tmp_path: Path) -> None:
    video = tmp_path / "cat.mp4"
    tree = {"data": {"path": str(video)}, "model": {"path": str(tmp_path)}, "pictures": ["keys"]}
    missing = run_identity.Identity.of(tree)
    video.write_bytes(b"one")
    first = run_identity.Identity.of(tree)
    video.write_bytes(b"other")
    second = run_identity.Identity.of(tree)
    assert list(first.inputs) == ["data.path"], "weights are compared once they are loaded"
    assert len({json.dumps(dict(one.inputs)) for one in (missing, first, second)}) == 3
    texts = {"prompt": str(tmp_path), "pictures": []}
    assert run_identity.Identity.of({**tree, **texts}).inputs == second.inputs


def test_a_folder_of_code_stays_the_same_by_being_used(tmp_path: Path) -> None:
    tree = {"flow": {"repo": str(tmp_path)}, "pictures": []}
    (tmp_path / "gmflow.py").write_text("x = 1\n")
    first = run_identity.Identity.of(tree)
    for used in ("__pycache__/gmflow.pyc", ".git/index"):
        (tmp_path / used).parent.mkdir()
        (tmp_path / used).write_bytes(b"x")
    assert run_identity.Identity.of(tree).inputs == first.inputs
    (tmp_path / "gmflow.py").write_text("x = 2\n")
    assert run_identity.Identity.of(tree).inputs != first.inputs


def test_more_pictures_are_asked_for_than_are_there(here: Path) -> None:
    folder = run_of(here, "full")
    tree = from_yaml((folder / "config.yaml").read_text())
    assert run_identity.Identity.of({**tree, "pictures": []}).finished(folder)
    assert not run_identity.Identity.of({**tree, "pictures": ["keys", "hole"]}).finished(folder)


def test_a_failing_job_leaves_the_tables_of_the_others(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "outputs").mkdir()
    assert main([*SWEEP, "--dry"]) == 0
    second = Path(capsys.readouterr().out.splitlines()[1].split()[1])
    second.mkdir()
    (second / "mine.txt").write_text("not to be touched")
    assert main(SWEEP) == 6
    assert "job 2: out: " in capsys.readouterr().err
    rows = (tmp_path / "results" / "ablation_shape" / "table.md").read_text()
    assert "| all four " in rows and "| no shape fusion" not in rows
    assert "Nothing is tested" in rows
    assert (second / "mine.txt").read_text() == "not to be touched"


def test_a_sweep_that_measures_nothing_ends_well_and_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    less = [line for line in TINY if not line.startswith(("metrics", "seed"))]
    quick = ["data.frames=2", "sampling.steps=2", "constraint=[]"]
    assert main([*less, *quick, "metrics=[]", "seed=0,1"]) == 0
    told = [line for line in capsys.readouterr().err.splitlines() if "no tables" in line]
    assert len(told) == 1 and "metrics=[] measures nothing" in told[0]
    assert not (tmp_path / "results").exists()


def test_what_the_runs_measured_is_not_measured_again(
    here: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Rows of runs are taken, and are what measuring would give; others are measured."""
    runs = [run_of(here, "full"), run_of(here, "no_shape")]
    for name in ("own", "again", "other code"):
        promote(tmp_path / name, runs)
    for folder in (tmp_path / "again").iterdir():
        (folder / SCORES).unlink()
    counted = {}
    for name in ("own", "again"):
        counted[name] = score_folder(tmp_path / name, None, with_floors=False).computed
    assert counted["own"] == 0 < counted["again"]
    first, second = (score_files.read(tmp_path / name / SCORES) for name in ("own", "again"))
    assert first == second
    assert {row.method for row in first} == {"full", "no_shape"}
    read = provenance._text
    monkeypatch.setattr(
        provenance,
        "_text",
        lambda path: read(path) + ("# x" if path.name == "warp_error.py" else ""),
    )
    third = score_folder(tmp_path / "other code", None, with_floors=False)
    assert third.computed == sum(row.metric.startswith("warp_error") for row in first)


def test_frames_of_a_rival_stand_beside_ours_in_tables_and_report(here: Path) -> None:
    results = here / "results" / "ablation_shape"
    for index in range(5):
        picture = files.png(torch.full((3, 32, 32), index / 10))
        files.put(results / "rival" / "demo-slow-1000000" / f"{index:04d}.png", picture)
    assert main(SWEEP) == 0
    text = (results / "table.md").read_text().split("Published")[0]
    costs = text.split("### Costs")[1]
    assert "| rival" in text and "rival" not in costs
    ours = next(line for line in costs.splitlines() if "| all four" in line)
    assert float(ours.split("|")[2]) > 0
    assert "rival" in (results / "report" / "index.html").read_text()
