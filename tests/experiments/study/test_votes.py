"""From a folder of results over vote files to the analysis; what is not a whole vote is refused."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from eval import score_files
from eval.results import discover
from eval.score_files import Score
from experiments.study.__main__ import main
from experiments.study.build import INVITATIONS, SITE, VOTES, build
from experiments.study.design import Wanted
from experiments.study.votes import StudyKey, files_of, read, read_all
from rerender import files
from rerender.config.compose import preflight
from rerender.errors import ConfigError, InputError
from rerender.run_folder import SCORES, STUDY
from tests.experiments.study.making import DATA, LOOKS, ballot, key_of, put_results, put_votes

ASKED = ["--people", "6", "--trials", "6", "--checks", "2"]


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("results")
    put_results(root)
    assert main([str(root), *DATA, *ASKED]) == 0
    return root


def first_of(person: int, question: str, left: int, right: int) -> int:
    """Everybody prefers the method that comes first in the alphabet."""
    return min(left, right)


def put_all(root: Path, folder: Path, people: int = 6) -> StudyKey:
    key = key_of(root)
    for person in range(people):
        put_votes(folder, f"{person}", ballot(key, person, first_of))
    return key


def test_the_same_results_give_the_same_study(results: Path) -> None:
    before = {p: p.read_bytes() for p in (results / STUDY).rglob("*") if p.is_file()}
    assert main([str(results), *DATA, *ASKED]) == 0
    assert before == {p: p.read_bytes() for p in (results / STUDY).rglob("*") if p.is_file()}
    assert main([str(results), *DATA, *ASKED[:-1], "1"]) == 2  # another study, whose votes differ
    # The folder of the study is no method.
    assert {outcome.method for outcome in discover(results)} == set(LOOKS)


def test_what_is_handed_out_tells_nothing(results: Path) -> None:
    site = results / STUDY / SITE
    key = key_of(results)
    for path in site.rglob("*"):
        content = path.read_bytes() if path.is_file() else b""
        for text in (*LOOKS, *key.codes, *(clip["name"] for clip in key.clips)):
            assert text.encode() not in content, path
            assert text not in path.name
    lines = (results / STUDY / INVITATIONS).read_text().splitlines()
    assert len(lines) == 7 and len(set(key.codes)) == 6


def test_the_analysis_says_what_was_voted(results: Path, tmp_path: Path) -> None:
    folder = results / STUDY / VOTES
    key = put_all(results, folder)
    careless = ballot(key, 5, first_of, attentive=False)
    put_votes(folder, "5", careless)
    rows = [
        Score(clip["name"], method, None, name, "1", value * sign, 12, direction=direction)
        for clip in key.clips
        for value, method in enumerate(key.methods)
        for name, sign, direction in (("knows", 1, "lower"), ("errs", 1, "higher"))
    ]
    files.put(results / SCORES, score_files.dump(rows))
    assert main(["analyse", str(folder)]) == 0
    found = json.loads((results / STUDY / "analysis.json").read_text())
    assert (found["invited"], found["voted"], found["counted"]) == (6, 6, 5)
    assert found["inattentive"] == [{"file": "5.json", "passed": 0.0}]
    for question in found["questions"].values():
        assert [row["method"] for row in question["methods"]] == sorted(LOOKS)
        assert question["agreement"]["u"] == 1
        assert question["votes"] == 5 * 6
        shares = {row["metric"]: row["share"] for row in question["metrics"]}
        taus = {row["metric"]: row["tau"] for row in question["metrics"]}
        assert shares == {"knows": 1.0, "errs": 0.0}
        assert taus == {"knows": 1.0, "errs": -1.0}
    text = (results / STUDY / "analysis.md").read_text()
    assert "Votes of 5 of 6 people who were invited" in text and "5\\.json" not in text
    assert "left out: 5.json" in text
    assert "| knows | 100.0% |" in text


def forged(found: dict[str, Any]) -> dict[str, Any]:
    votes = [list(vote) for vote in found["votes"]]
    votes[0][2] = "left" if votes[0][2] == "right" else "right"
    return {**found, "votes": votes}


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (forged, "does not fit its seal"),
        (lambda f: {**f, "seal": "0" * 64}, "does not fit its seal"),
        (lambda f: {**f, "person": "0" * 16}, "nobody who was invited"),
        (lambda f: {**f, "study": "0" * 16}, "another study"),
        (lambda f: {**f, "votes": f["votes"][:-1]}, "does not fit its seal"),
        (lambda f: {**f, "votes": [["x"]]}, "damaged vote file"),
        (lambda f: {**f, "votes": [[0, "overall", "left", True]]}, "damaged vote file"),
        (lambda f: {"format": "other"}, "is no vote file"),
        (lambda f: {**f, "seal": None}, "damaged vote file"),
    ],
)
def test_a_forged_file_is_refused(results: Path, tmp_path: Path, change: Any, said: str) -> None:
    key = key_of(results)
    path = put_votes(tmp_path, "votes", change(ballot(key, 0, first_of)))
    with pytest.raises(InputError, match=said):
        read(path, key)


@pytest.mark.parametrize(("kept", "said"), [(10, "is half: 10 of 24"), (0, "is half: 0 of 24")])
def test_a_half_file_with_a_good_seal_is_refused(
    results: Path, tmp_path: Path, kept: int, said: str
) -> None:
    from experiments.study import invitations

    key = key_of(results)
    whole = ballot(key, 1, first_of)
    votes = [tuple(vote) for vote in whole["votes"][:kept]]
    seal = invitations.seal(key.codes[1], key.study, votes)
    path = put_votes(tmp_path, "half", {**whole, "votes": whole["votes"][:kept], "seal": seal})
    with pytest.raises(InputError, match=said):
        read(path, key)
    twice = [tuple(vote) for vote in [*whole["votes"][:-1], whole["votes"][0]]]
    seal = invitations.seal(key.codes[1], key.study, twice)
    path = put_votes(tmp_path, "twice", {**whole, "votes": [list(v) for v in twice], "seal": seal})
    with pytest.raises(InputError, match="not what was asked: 24 of 24"):
        read(path, key)


def test_two_files_of_one_person_are_both_refused(results: Path, tmp_path: Path) -> None:
    key = put_all(results, tmp_path, people=3)
    put_votes(tmp_path, "again", ballot(key, 0, lambda person, question, a, b: max(a, b)))
    ballots, refused = read_all(files_of([tmp_path]), key)
    assert sorted(one.person for one in ballots) == [1, 2]
    assert sorted(Path(error.where).name for error in refused) == ["0.json", "again.json"]
    assert all("second file of the same person" in str(error) for error in refused)


def test_what_is_refused_stops_unless_it_is_left_out(
    results: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    key = put_all(results, tmp_path, people=4)
    put_votes(tmp_path, "bad", forged(ballot(key, 4, first_of)))
    (tmp_path / "torn.json").write_text("{")
    where = ["--key", str(results / STUDY / "key.json")]
    assert main(["analyse", str(tmp_path), *where]) == 3
    said = capsys.readouterr().err.splitlines()
    assert "refused: " in said[0] and "torn.json" in said[0]
    assert "bad.json" in said[-1] and "--leave-out" in said[-1]
    assert main(["analyse", str(tmp_path), *where, "--leave-out"]) == 0
    found = json.loads((results / STUDY / "analysis.json").read_text())
    assert found["voted"] == 4 and len(found["refused"]) == 2


@pytest.mark.parametrize(
    ("given", "code"),
    [
        (["--people", "1"], 2),
        (["--people", "2", "--trials", "2"], 2),  # pairs of videos that nobody would see
        (["--checks", "9", "--trials", "6"], 2),
        (["--question", "noid"], 2),
        (["--question", "A=b"], 2),
        (["--question", "a=b", "--question", "a=c"], 2),
        (["--method", "unknown"], 2),
        (["--method", "inverted"], 3),  # nothing to compare it with
    ],
)
def test_refusals(results: Path, tmp_path: Path, given: list[str], code: int) -> None:
    assert main([str(results), *DATA, *ASKED, *given]) == code


def test_a_folder_without_results(tmp_path: Path) -> None:
    assert main([str(tmp_path)]) == 3
    assert main([str(tmp_path / "none")]) == 3
    assert main(["analyse", str(tmp_path)]) == 3
    (tmp_path / "key.json").write_text('{"format": "x"}')
    assert main(["analyse", str(tmp_path)]) == 3


def test_shorter_results_are_shown_as_far_as_all_go(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    put_results(tmp_path)
    clip = "demo-slow-1000000"
    from rerender.codec import encode, open_video
    from rerender.video import MemoryVideo

    video = open_video(tmp_path / "inverted" / f"{clip}.mp4")
    frames = [video[index] for index in range(9)]
    with files.writing(tmp_path / "inverted" / f"{clip}.mp4") as file:
        encode(frames, MemoryVideo(frames), file)
    (tree,) = preflight(list(DATA)).jobs
    build(tmp_path, Wanted(people=4, trials=6, checks=0), tree)
    assert "9 of its 12 frames are shown" in caplog.text
    lengths = {len(open_video(path)) for path in (tmp_path / STUDY / SITE / "media").glob("*.mp4")}
    assert lengths == {9, 12}
    with pytest.raises(ConfigError, match="at least 2"):
        Wanted(people=0)
