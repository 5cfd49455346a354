"""Edits: a clip may have several prompts, each with a kind; csv and yaml say the same."""

from __future__ import annotations

import shlex
from dataclasses import replace
from pathlib import Path

import pytest
from PIL import Image

from experiments.repro_command import command
from rerender.config.compose import literal, preflight
from rerender.config.job import Job, key_of
from rerender.config.paths import CONF
from rerender.data.demo import Demo
from rerender.data.edits import table_lines
from rerender.data.folder import Edit, Folder
from rerender.errors import InputError
from rerender.jobs.sweep import jobs_of, spread
from tests.codec.making import make, pictures

CSV = """name,prompt,source_prompt,kind,start,frames,mask
dog,"a dog, in oil",a dog,style,,2,mask.png
dog,a wolf,a dog,object,1,,
dog,a cat,a dog,object,,,
cat,a lion,,,,,
"""
YAML = """clips:
  dog:
    source_prompt: a dog
    edits:
      - {prompt: "a dog, in oil", kind: style, frames: 2, mask: mask.png}
      - {prompt: a wolf, kind: object, start: 1}
      - {prompt: a cat, kind: object}
  cat: {prompt: a lion}
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "clips").mkdir()
    for name in ("cat", "dog"):
        make(tmp_path / "clips" / f"{name}.mp4", pictures(4))
    Image.new("L", (64, 48)).save(tmp_path / "mask.png")
    (tmp_path / "edits.csv").write_text(CSV)
    (tmp_path / "edits.yaml").write_text(YAML)
    return tmp_path


@pytest.mark.parametrize("table", ["edits.csv", "edits.yaml"])
def test_csv_and_yaml_say_clips_prompts_kinds_ranges_and_masks(folder: Path, table: str) -> None:
    clips = Folder(folder / "clips", "photo", prompts=folder / table).clips()
    assert [(c.name, c.source_clip, c.kind, c.prompt, len(c.video)) for c in clips] == [
        ("cat", "", "", "a lion", 4),
        ("dog-style", "dog", "style", "a dog, in oil", 2),
        ("dog-object-1", "dog", "object", "a wolf", 3),
        ("dog-object-2", "dog", "object", "a cat", 4),
    ]
    assert [c.source_prompt for c in clips] == ["", "a dog", "a dog", "a dog"]
    assert [bool(c.masks) for c in clips] == [False, True, False, False]
    assert [c.first_frame for c in clips] == [0, 0, 1, 0]


def test_a_table_with_paths_says_what_the_clips_are(folder: Path) -> None:
    (folder / "set.yaml").write_text(
        "licence: CC0\nattribution: all\nclips:\n  b:\n    path: clips/dog.mp4\n"
        "    attribution: Ann\n    edits: [{prompt: x}, {prompt: y, kind: style}]\n"
        "  a: {path: clips/cat.mp4, prompt: z}\n"
    )
    clips = Folder(folder, prompts=folder / "set.yaml").clips()
    found = [(c.name, c.source_clip, c.licence, c.attribution) for c in clips]
    assert found == [
        ("b-edit", "b", "CC0", "Ann"),
        ("b-style", "b", "CC0", "Ann"),
        ("a", "", "CC0", "all"),
    ]


def test_shards_are_of_edits(folder: Path) -> None:
    whole = Folder(folder / "clips", "photo", prompts=folder / "edits.csv")
    shards = [replace(whole, shard=f"{part}/3").each() for part in range(3)]
    assert sorted(edit.name for shard in shards for edit in shard) == sorted(
        edit.name for edit in whole.each()
    )
    assert replace(whole, shard="each").each() == whole.each()


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("[1]", "holds no clips"),
        ("clips: [a]", "has no clips"),
        ("clips: {dog: oil}", "clip 'dog' is not described"),
        ("clips: {dog: {edits: []}}", "has no list of edits"),
        ("clips: {dog: {edits: [{promt: x}]}}", "has an edit that is none"),
        ("clips: {dog: {promt: x}}", "says 'promt'"),
        ("clips: {dog: {prompt: [x]}}", "prompt is no text"),
        ("clips: {dog: {prompt: yes}}", "prompt is no text"),
        ("clips: {wolf: {prompt: x}}", "names 'wolf', which is not in the folder"),
        ("clips: {dog: {edits: [{kind: a}]}}", "has no prompt for 'dog'"),
        ("clips: {dog: &a {prompt: x}, cat: *a}", "uses an alias"),
        ("clips: {dog: {edits: [{prompt: x}, {prompt: x}]}}", "'dog' a second time"),
        ("clips: {dog: {prompt: x, licence: {}}}", "licence is no text"),
        ("{", "cannot be read"),
    ],
)
def test_a_bad_yaml_is_one_line(folder: Path, text: str, words: str) -> None:
    (folder / "bad.yaml").write_text(text)
    with pytest.raises(InputError, match=rf"bad\.yaml: .*{words}") as caught:
        Folder(folder / "clips", prompts=folder / "bad.yaml").clips()
    assert "\n" not in str(caught.value)


def test_names_that_would_be_one_are_refused(folder: Path) -> None:
    make(folder / "clips" / "dog-style.mp4", pictures(2))
    (folder / "bad.csv").write_text(
        "name,prompt,kind\ndog,a,style\ndog,b,object\ndog-style,c,style\n"
    )
    with pytest.raises(InputError, match="gives two edits the name 'dog-style'"):
        Folder(folder / "clips", prompts=folder / "bad.csv").clips()


def test_each_edit_is_a_job_that_knows_nothing_of_the_others(folder: Path) -> None:
    said = ["data=folder", f"data.path={folder / 'clips'}", f"data.prompts={folder / 'edits.csv'}"]
    sweep = spread(preflight(literal([*said, "prompt=photo", "seed=0,1", "data.shard=each"])))
    assert len(sweep.jobs) == len(sweep.said) == 8
    jobs = jobs_of(sweep.jobs)
    assert all(isinstance(job.data, Edit) for job in jobs)
    first, *_ = jobs[0].data.clips()
    assert (first.name, first.prompt) == ("cat", "a lion")
    assert str(folder / "clips" / "cat.mp4") in str(sweep.jobs[0]["data"]["path"])
    whole = Job.of(preflight(literal([*said, "prompt=photo"])).jobs[0]).data.clips()
    alone = [clip for job in jobs[:4] for clip in job.data.clips()]
    assert [(c.name, c.prompt, c.kind, c.source_clip, c.video.digest()) for c in alone] == [
        (c.name, c.prompt, c.kind, c.source_clip, c.video.digest()) for c in whole
    ]


def test_the_job_of_an_edit_has_a_command_of_its_own(folder: Path) -> None:
    said = ["data=folder", f"data.path={folder / 'clips'}", f"data.prompts={folder / 'edits.csv'}"]
    for tree in spread(preflight(literal([*said, "prompt=photo", "data.shard=each"]))).jobs:
        line = command(tree)
        assert line is not None and "data=edit" in line
        (again,) = preflight(literal(shlex.split(line)[3:])).jobs
        assert key_of(again) == key_of(tree)


def test_an_edit_alone_has_the_name_of_its_file(folder: Path) -> None:
    (clip,) = Edit(folder / "clips" / "dog.mp4", "oil", kind="style").clips()
    assert (clip.name, clip.source_clip, clip.kind) == ("dog", "", "style")


def test_each_clip_of_the_demo_world_is_the_clip_alone() -> None:
    data = Demo(seeds=(1000000, 1000001, 1000002), frames=2, size=16, shard="each")
    assert [one.seeds for one in data.each()] == [(1000000,), (1000001,), (1000002,)]
    sweep = spread(preflight(["data=demo_study", "data.shard=each"]))
    assert len(sweep.jobs) == 16
    assert set(sweep.jobs[0]["data"]) == set(preflight(["data=demo_study"]).jobs[0]["data"])


@pytest.mark.parametrize("name", sorted(path.stem for path in (CONF / "dataset").glob("*.yaml")))
def test_every_public_set_is_a_choice_of_data(name: str) -> None:
    (tree,) = preflight([f"data={name}"]).jobs
    assert tree["data"]["shard"] == "each"
    assert tree["data"]["path"] == f"datasets/{name}"
    assert tree["data"]["prompts"] == f"datasets/{name}/set.yaml"


@pytest.mark.parametrize(
    ("row", "says"),
    [
        (b'a,"a cat\n', "line 3 cannot be read (unexpected end of data)"),
        (b'a,"a cat" sitting\n', "line 3 cannot be read ("),
        (b"a,a\0cat\n", "line 3 holds a NUL"),
        (b'"a\0",a cat\n', "line 3 holds a NUL"),
    ],
)
def test_a_row_that_is_none_is_refused_with_its_line(row: bytes, says: str, tmp_path: Path) -> None:
    table = tmp_path / "table.csv"
    table.write_bytes(b"name,prompt\nb,a dog\n" + row)
    with pytest.raises(InputError) as caught:
        list(table_lines(table))
    assert says in str(caught.value)
