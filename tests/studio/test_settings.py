"""What the page asks for is what the command line and the yaml file say."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st
from omegaconf import OmegaConf

from rerender.config.compose import Composer, literal, preflight
from rerender.config.job import Job, key_of
from rerender.config.overrides import parsed
from rerender.config.paths import choices_of
from rerender.errors import ConfigError
from tests.studio.conftest import added

CLIP = "0123456789abcdef"
HOSTILE = [
    "'a','b'",
    '"a cat"',
    "null",
    "${oc.env:HOME}",
    "\\${x}",
    "a=b, c: {d} [e]",
    "choice('a','b')",
    "-h",
    "~x",
    "$(reboot); `reboot` && 'x",
    "<script>alert(1)</script>",
    "日本 ünï 🎨",
    "1",
    "true",
    "a\\",
]


def lines(**more: Any) -> list[str]:
    from rerender.studio.settings import StudioSettings, arguments_of, keys_of

    asked = StudioSettings.of({"clip": CLIP, "prompt": "oil", **more})
    return arguments_of(keys_of(asked, Path("clip.mp4"), None, None), ())


def said_by(arguments: Sequence[str], key: str) -> Any:
    """What a key of the configuration becomes by a command line."""
    (said,) = (argument for argument in arguments if argument.startswith(f"{key}="))
    override = parsed(literal([said])[0])
    assert not override.is_sweep_override()
    return OmegaConf.create({key: override.value()})[key]


@pytest.mark.parametrize("prompt", HOSTILE)
def test_a_prompt_is_a_text_whatever_stands_in_it(prompt: str) -> None:
    from rerender.studio.settings import StudioSettings, arguments_of, command_of, keys_of, yaml_of

    asked = StudioSettings.of({"clip": CLIP, "prompt": prompt, "negative_prompt": prompt})
    keys = keys_of(asked, Path("clip.mp4"), None, None)
    arguments = arguments_of(keys, ())
    assert said_by(arguments, "prompt") == said_by(arguments, "negative_prompt") == prompt
    typed = shlex.split(command_of(arguments))
    assert typed == ["python", "-m", "rerender.run", *arguments]
    read = OmegaConf.create(yaml.safe_load(yaml_of(keys, (), "mine")))
    assert (read.prompt, read.negative_prompt) == (prompt, prompt)


@pytest.mark.parametrize("prompt", HOSTILE[::5])
def test_a_hostile_prompt_is_composed_by_both(prompt: str, tmp_path: Path) -> None:
    from rerender.studio.settings import StudioSettings, arguments_of, keys_of, yaml_of

    asked = StudioSettings.of({"clip": CLIP, "prompt": prompt})
    keys = keys_of(asked, Path("clip.mp4"), None, None)
    (tmp_path / "exp").mkdir()
    (tmp_path / "exp" / "mine.yaml").write_text(yaml_of(keys, (), "mine"), encoding="utf-8")
    (tree,) = preflight(literal(arguments_of(keys, ()))).jobs
    (other,) = preflight(["+exp=mine"], str(tmp_path)).jobs
    assert tree["prompt"] == other["prompt"] == prompt


@given(st.text(st.characters(codec="utf-8", categories=("L", "P", "S", "N", "Zs")), min_size=1))
@settings(max_examples=100, deadline=None)
def test_any_printable_prompt_arrives(prompt: str) -> None:
    if prompt.strip():
        assert said_by(lines(prompt=prompt), "prompt") == prompt


def test_the_yaml_says_what_the_command_says(tmp_path: Path) -> None:
    from rerender.studio.settings import StudioSettings, arguments_of, keys_of, yaml_of

    asked = StudioSettings.of(
        {
            "clip": CLIP,
            "prompt": "a watercolor",
            "preset": "paper",
            "strength": 0.6,
            "constraints": ["shape", "cross_frame"],
            "interval": 7,
            "cuts": True,
            "size": 128,
            "source_size": True,
            "start": 2,
            "frames": 9,
            "seed": 5,
            "feather": 1.5,
            "score": True,
        }
    )
    told = ["model.clip_skip=1", "sampling.strength=0.2"]
    keys = keys_of(asked, Path("clip.mp4"), Path("mask.png"), None)
    arguments = arguments_of(keys, told)
    assert "model.clip_skip=1" in arguments
    assert "sampling.strength=0.2" not in arguments  # the page goes before
    (tmp_path / "exp").mkdir()
    (tmp_path / "exp" / "mine.yaml").write_text(yaml_of(keys, told, "mine"), encoding="utf-8")
    (typed,) = preflight(literal(arguments)).jobs
    (read,) = preflight(["+exp=mine"], str(tmp_path)).jobs
    assert key_of(typed) == key_of(read)
    job = Job.of(typed)
    assert list(typed["constraint"]) == ["cross_frame", "shape"]
    assert (job.parts.sampling.strength, job.data.size, job.data.output) == (0.6, 128, "source")


def test_the_rim_of_a_mask_is_that_of_the_command_unless_it_is_asked_for() -> None:
    from rerender.studio.settings import StudioSettings, keys_of, preview_of

    asked = StudioSettings.of({"clip": CLIP, "prompt": "oil", "mask": CLIP})
    for each in (asked, preview_of(asked, None, small=256)[0]):
        assert "mask.feather" not in keys_of(each, Path("clip.mp4"), Path("mask.png"), None)
    wide = asked.model_copy(update={"feather": 4.0})
    assert keys_of(wide, Path("clip.mp4"), Path("mask.png"), None)["mask.feather"] == 4.0
    for size, rim in ((256, 2.0), (384, 4.0 / 3)):  # of a preview as wide as of the run
        preview = preview_of(wide, None, small=size)[0]
        assert keys_of(preview, Path("a"), Path("b"), None)["mask.feather"] == pytest.approx(rim)


@pytest.mark.parametrize("constraints", [[], ["color"]])
def test_a_run_without_constraints_or_metrics_is_the_same_by_yaml(
    constraints: list[str], tmp_path: Path
) -> None:
    from rerender.studio.settings import StudioSettings, arguments_of, keys_of, yaml_of

    asked = StudioSettings.of({"clip": CLIP, "prompt": "oil", "constraints": constraints})
    keys = keys_of(asked, Path("clip.mp4"), None, None)
    (tmp_path / "exp").mkdir()
    (tmp_path / "exp" / "mine.yaml").write_text(yaml_of(keys, (), "mine"), encoding="utf-8")
    trees = [
        preflight(literal(arguments_of(keys, ()))).jobs[0],
        preflight(["+exp=mine"], str(tmp_path)).jobs[0],
    ]
    assert not trees[0].get("metrics") and not trees[1].get("metrics")
    assert [sorted(tree.get("constraint") or ()) for tree in trees] == [constraints] * 2
    assert Job.of(trees[0]) == Job.of(trees[1])


@pytest.mark.parametrize(
    ("more", "where"),
    [
        ({"model": "sd15"}, "model"),
        ({"out": "/etc"}, "out"),
        ({"prompt": " "}, "prompt"),
        ({"prompt": "a\nb"}, "prompt"),
        ({"prompt": "a\x00b"}, "prompt"),
        ({"prompt": "\ud800"}, "prompt"),
        ({"prompt": 3}, "prompt"),
        ({"preset": "../../x"}, "preset"),
        ({"constraints": ["pixel", "flatten,x"]}, "constraints"),
        ({"strength": 1.5}, "strength"),
        ({"strength": float("nan")}, "strength"),
        ({"frames": 0}, "frames"),
        ({"mask": "../../../x.png"}, "mask"),
        ({"clip": "../x"}, "clip"),
        ({"ranges": [{"first": 0, "last": 1, "prompt": "a", "loras": []}]}, "ranges.0.loras"),
    ],
)
def test_what_no_run_takes_is_refused_by_name(more: dict[str, Any], where: str) -> None:
    with pytest.raises(ConfigError) as error:
        lines(**more)
    assert where in str(error.value)
    assert len(str(error.value)) < 200


def test_a_plan_is_what_the_run_will_do(client: Any, film: bytes) -> None:
    asked = {"clip": added(client, film), "prompt": "oil", "size": 48, "interval": 8}
    plan = client.post("/api/plan", json=asked).json()
    assert plan["shots"] == [[0, 8, 16, 20]]
    assert (plan["size"], plan["strength"]) == ([48, 64], 0.75)
    assert plan["constraints"] == ["color", "cross_frame", "shape"]
    part = client.post("/api/plan", json={**asked, "start": 5, "frames": 9}).json()
    assert part["shots"] == [[5, 13]]
    refused: list[tuple[dict[str, Any], str]] = [
        ({"start": 20, "frames": 5}, "data.frames: frames 20 to 24 are not in the clip"),
        ({"mask": "0123456789abcdef"}, "mask: there is no"),
        ({"ranges": [{"first": 0, "last": 99, "prompt": "a"}]}, "names frame 99"),
        ({"preset": "nothing"}, "preset: no choice"),
    ]
    for more, said in refused:
        assert said in client.post("/api/plan", json={**asked, **more}).json()["refused"]
        answer = client.post("/api/runs", json={**asked, **more})
        assert answer.status_code == 400
        assert said in answer.json()["error"]
    assert client.post("/api/plan", content=b"{").status_code == 400
    assert client.post("/api/plan", content=b"[" * 2**21).status_code == 413
    assert client.post("/api/plan", content=b"[" * 2**19).status_code == 400


def test_a_prompt_table_becomes_the_csv_that_a_run_reads(
    client: Any, film: bytes, place: Path
) -> None:
    ranges = [
        {"first": 0, "last": 9, "prompt": 'a "b", c'},
        {"first": 10, "last": 20, "prompt": "oil", "strength": 0.5, "fade": 4},
    ]
    asked = {"clip": added(client, film), "prompt": "x", "ranges": ranges}
    made = client.post("/api/command", json=asked).json()
    (tree,) = Composer(literal(made["arguments"])).sweep().jobs
    clip = Job.of(tree).clips()[0]
    assert [(r.start, r.stop, r.prompt, r.strength, r.fade) for r in clip.ranges] == [
        (0, 10, 'a "b", c', None, 0),
        (10, 21, "oil", 0.5, 4),
    ]
    assert f"prompts={tree['prompts']}" in made["yaml"]


def test_the_page_offers_every_preset_and_says_what_each_is() -> None:
    """A preset of conf/preset is offered by being there; one that is ours has its line."""
    from rerender.studio import settings as page

    presets = page.offered()["presets"]
    assert sorted(presets) == sorted(choices_of("preset"))
    hints = (Path(page.__file__).parent / "page" / "form.js").read_text(encoding="utf-8")
    for name in presets:
        assert f"\n  {name}: " in hints.partition("};")[0]
