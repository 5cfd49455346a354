"""A run with format=NAME: its mp4 as without, the other file listed, resumed, kept in the store."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from eval.results import discover
from rerender.codec import packed
from rerender.config.compose import preflight
from rerender.jobs import master
from rerender.jobs.run_job import run_job
from rerender.run_folder import damaged, read_facts
from tests.test_resume import ARGUMENTS


def tree(*more: str) -> dict[str, Any]:
    (found,) = preflight([*ARGUMENTS, "pictures=[]", *more], None).jobs
    return dict(found)


def files_of(folder: Path) -> dict[str, bytes]:
    found = [*folder.glob("frames/*"), *folder.glob("video.*")]
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in found}


@pytest.mark.parametrize(
    ("form", "names"),
    [("png16", [f"frames/{i:06d}.png" for i in range(7)]), ("ffv1", ["video.mkv"])],
)
def test_a_run_in_another_format(
    form: str, names: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    run_job(tree(), Path("plain"), "")
    stopping = tree(f"format={form}", "store=one")

    taken: list[int] = []

    def failing(image: Any, video: Any, index: int, form: Any) -> bytes:
        taken.append(index)
        if len(taken) == 6:
            raise MemoryError
        return packed(image, video, index, form)

    monkeypatch.setattr(master, "packed", failing)
    with pytest.raises(MemoryError):
        run_job(stopping, Path("out"), "")
    run_job(stopping, Path("out"), "")
    assert taken[:6] == list(range(6))
    assert 0 < taken[6] <= 5, "frames before a kept key frame are packed once"
    monkeypatch.setattr(master, "packed", packed)
    run_job(tree(f"format={form}", "store=two"), Path("fresh"), "")

    found = files_of(Path("out"))
    assert sorted(found) == sorted([*names, "video.mp4"])
    assert found == files_of(Path("fresh"))
    assert found["video.mp4"] == Path("plain/video.mp4").read_bytes()
    facts = read_facts(Path("out"))
    assert set(found) <= facts["files"].keys()
    assert facts["clips"][0]["master"] == names[0].partition("/")[0]
    assert [outcome.path.name for outcome in discover(Path("out"))] == ["video.mp4"]

    monkeypatch.setattr(master, "packed", None)  # from the store, nothing is made
    run_job(tree(f"format={form}", "store=two"), Path("again"), "")
    assert files_of(Path("again")) == found

    Path("out", names[-1]).write_bytes(b"")
    assert damaged(Path("out"), facts) == [names[-1]]


def test_what_is_in_metrics_json_of_an_mp4_run_is_as_before(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    run_job(tree(), Path("plain"), "")
    (clip,) = json.loads(Path("plain/metrics.json").read_text())["clips"]
    assert "master" not in clip and not Path("plain/frames").exists()
