"""Public sets in their genuine layouts become clips, prompts, kinds and masks; how many jobs they
are is what their makers state."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml

from rerender.config.compose import literal, preflight
from rerender.config.job import Job
from rerender.datasets.archive import ArchiveError
from rerender.datasets.fetch import fetch, main
from rerender.datasets.layouts import clips_of
from rerender.datasets.manifest import DatasetManifest, manifest
from rerender.run import main as run
from tests.datasets import genuine

TGVE = {"DAVIS": ["gold-fish", "stunt"], "Youtube": ["salsa"], "Videvo": ["swans", "lotus"]}


def wanted(name: str) -> DatasetManifest:
    """A manifest of ours for a set that is smaller than the genuine one."""
    return replace(manifest(name), count=None, pairs=None, clips=())


def clips(folder: Path, table: str = "set.yaml", *more: str) -> list[Any]:
    said = [f"data.path={folder}", f"data.prompts={folder / table}", "data.size=16", *more]
    (tree,) = preflight(literal(["data=folder", *said])).jobs
    return list(Job.of(tree).data.clips())


def test_tgve_with_group_lines_videos_and_frame_folders(tmp_path: Path) -> None:
    genuine.tgve(tmp_path / "a", TGVE, frames=3, films=["stunt"])
    folder = fetch(wanted("tgve"), tmp_path / "a", None, tmp_path / "tgve")
    found = clips(folder)
    assert len(found) == 5 * 4
    assert [(c.name, c.source_clip, c.kind) for c in found[:4]] == [
        (f"gold-fish-{kind}", "gold-fish", kind)
        for kind in ("style", "object", "background", "multiple")
    ]
    assert found[4].prompt == "stunt, in oil"
    assert found[4].source_prompt == "a stunt"
    assert {len(clip.video) for clip in found} == {3}
    assert all("Creative Commons" in clip.licence for clip in found)
    assert all("LOVEU-TGVE-2023" in clip.attribution for clip in found)
    said = yaml.safe_load((folder / "set.yaml").read_text())["clips"]
    assert said["stunt"]["path"] == "loveu-tgve-2023/DAVIS_480p/480p_videos/stunt.mp4"
    assert said["salsa"]["path"] == "loveu-tgve-2023/youtube_480p/480p_frames/salsa"


def test_davis_masks_are_the_objects(tmp_path: Path) -> None:
    genuine.davis(tmp_path / "a", ["bear", "bmx-bumps"], frames=2)
    folder = fetch(wanted("davis"), tmp_path / "a", None, tmp_path / "davis")
    found = clips(folder, "set.yaml", "prompt=an oil painting")
    assert [(c.name, c.kind, c.prompt) for c in found] == [
        ("bear", "", "an oil painting"),
        ("bmx-bumps", "", "an oil painting"),
    ]
    assert [Path(c.masks).name for c in found] == ["bear", "bmx-bumps"]


def test_v2vbench_and_its_kinds(tmp_path: Path) -> None:
    genuine.v2vbench(tmp_path / "a", ["aurora", "hike"])
    folder = fetch(wanted("v2vbench"), tmp_path / "a", None, tmp_path / "v2vbench")
    found = clips(folder)
    assert [(c.name, c.kind, c.source_prompt) for c in found[3:]] == [
        ("hike-foreground", "foreground", "a hike"),
        ("hike-stylization", "stylization", "a hike"),
        ("hike-composite", "composite", "a hike"),
    ]


def test_five_from_its_folder_of_zips(tmp_path: Path) -> None:
    source = genuine.five(tmp_path / "a", [2, 2, 1, 1, 1, 0])
    for name in ("images", "bmasks"):
        shutil.make_archive(str(source / name), "zip", source, name)
        shutil.rmtree(source / name)
    (source / ".git").mkdir()
    (source / ".git" / "config").write_text("[core]")
    folder = fetch(wanted("five"), source, None, tmp_path / "five")
    found = clips(folder)
    assert len(found) == 7
    assert (found[0].prompt, found[0].source_prompt) == (
        "a tram 1 in 0001_clip",
        "a bus in 0001_clip",
    )
    assert [c.kind for c in found if c.source_clip == "0001_clip"] == [
        "object-rigid",
        "object-non-rigid",
        "color",
        "material",
        "addition",
    ]
    assert all(Path(c.masks).is_dir() for c in found)
    assert "non-commercial" in found[0].licence
    assert not (folder / ".git").exists()


@pytest.mark.parametrize(
    ("name", "jobs"), [("tgve", 304), ("v2vbench", 150), ("five", 420)], ids=str
)
def test_a_whole_set_is_as_many_jobs_as_its_makers_state(
    name: str,
    jobs: int,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    caplog: pytest.LogCaptureFixture,
) -> None:
    source = tmp_path / "source"
    if name == "tgve":
        names = list(manifest("tgve").clips)
        rest = {g: [f"{g}-{n}" for n in range(c)] for g, c in genuine.GROUPS.items() if names}
        genuine.tgve(source, {**rest, "DAVIS": names})
    elif name == "v2vbench":
        genuine.v2vbench(source, [f"clip-{n}" for n in range(50)])
    else:
        genuine.five(source, [100, 100, 100, 100, 10, 10])
    monkeypatch.chdir(tmp_path)
    assert main([f"data={name}", f"archive={source}", "licence=accept"]) == 0
    assert f"edits: {jobs} (" in capsys.readouterr().out
    assert run([f"data={name}", "data.size=16", "tracker=none", "metrics=[]", "--dry"]) == 0
    said = capsys.readouterr().out
    assert f"\n{jobs} jobs, 0 complete, {jobs} to run" in said
    assert "makers state" not in caplog.text


def test_a_set_that_was_not_fetched_names_the_command_that_does(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert run(["data=tgve", "--dry"]) == 3
    message = capsys.readouterr().err
    assert "fetch the set first: python -m rerender.fetch data=tgve" in message
    assert message.count("\n") == 1


def test_another_number_of_pairs_than_stated_is_said(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """A public reader of FiVE counts 419, its readme says 420."""
    genuine.five(tmp_path, [3, 2])
    found = clips_of(replace(manifest("five"), clips=()), tmp_path)
    assert len(found) == 3
    assert caplog.messages == ["five: holds 5 pairs of clip and prompt, its makers state 420"]


def test_clips_that_a_table_names_and_nobody_has(tmp_path: Path) -> None:
    genuine.tgve(tmp_path, TGVE)
    shutil.rmtree(tmp_path / "loveu-tgve-2023/videvo_480p")
    with pytest.raises(ArchiveError, match=r"lacks 2 clips \(swans, lotus\)"):
        clips_of(wanted("tgve"), tmp_path)
    (tmp_path / "loveu-tgve-2023/LOVEU-TGVE-2023_Dataset.csv").unlink()
    with pytest.raises(ArchiveError, match=r"lacks LOVEU-TGVE-2023_Dataset\.csv"):
        clips_of(wanted("tgve"), tmp_path)


@pytest.mark.parametrize(
    ("name", "file", "text", "words"),
    [
        ("tgve", "LOVEU-TGVE-2023_Dataset.csv", "a,b\n", "has the columns a, b"),
        (
            "tgve",
            "LOVEU-TGVE-2023_Dataset.csv",
            "Video name,Our GT caption,Style Change Caption\nstunt,a,b\n",
            "names 'stunt' before a group",
        ),
        (
            "tgve",
            "LOVEU-TGVE-2023_Dataset.csv",
            "Video name,Our GT caption,Style Change Caption\nDAVIS Videos:,,\n../up,a,b\n",
            r"names a clip '\.\./up'",
        ),
        ("v2vbench", "config.yaml", "data: 3", "is not a list of videos"),
        ("v2vbench", "config.yaml", "data: [{video_id: a}]", "is not a list of videos"),
        ("v2vbench", "config.yaml", "{", "is not a list of videos"),
        ("five", "edit_prompt/edit1_FiVE.json", "[{}]", "is not a list of edits"),
        ("five", "edit_prompt/edit1_FiVE.json", "3", "is not a list of edits"),
        ("five", "edit_prompt/edit1_FiVE.json", "{", "is not a list of edits"),
    ],
)
def test_a_damaged_table_is_named(
    name: str, file: str, text: str, words: str, tmp_path: Path
) -> None:
    (tmp_path / file).parent.mkdir(exist_ok=True)
    (tmp_path / file).write_text(text)
    with pytest.raises(ArchiveError, match=words) as caught:
        clips_of(wanted(name), tmp_path)
    assert "\n" not in str(caught.value)


def test_a_table_of_a_western_spreadsheet_is_read(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    genuine.tgve(tmp_path, {"DAVIS": ["stunt"]})
    table = tmp_path / "loveu-tgve-2023/LOVEU-TGVE-2023_Dataset.csv"
    table.write_bytes(table.read_text().replace("a stunt", "a café").encode("cp1252"))
    found = clips_of(wanted("tgve"), tmp_path)
    assert found["stunt"]["edits"][0]["source_prompt"] == "a café"
    assert "Windows-1252" in caplog.text


def test_attribution_and_kind_are_kept_with_the_result(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One edit of a TGVE set, translated: metrics.json and the scores say what it is from."""
    genuine.tgve(tmp_path / "a", {"DAVIS": ["stunt"]}, frames=2)
    monkeypatch.chdir(tmp_path)
    folder = fetch(wanted("tgve"), tmp_path / "a", None, Path("datasets/tgve"))
    said = ["data=tgve", "data.size=16", "model=tiny", "tracker=none", "constraint=[]"]
    assert folder.is_dir()
    assert run([*said, "metrics=[integrity]", "data.shard=2/4", "out=out"]) == 0
    facts = json.loads(Path("out/metrics.json").read_text())
    (clip,) = facts["clips"]
    assert (clip["clip"], clip["source_clip"]) == ("stunt-background", "stunt")
    assert clip["kind"] == "background"
    assert "Creative Commons" in clip["licence"] and "LOVEU-TGVE-2023" in clip["attribution"]
    row = json.loads(Path("out/scores.jsonl").read_text().splitlines()[0])
    assert (row["kind"], row["source_clip"]) == ("background", "stunt")
