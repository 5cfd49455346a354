"""Prompts in time: each range is translated for itself, and joined at once or by a cross-fade."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch

from rerender.codec import open_video
from rerender.data import picture
from rerender.data.demo import Demo
from rerender.data.ranges import in_time
from rerender.errors import ConfigError, InputError
from rerender.pipeline import render
from rerender.run import main
from rerender.run_folder import read_facts
from rerender.translation.references import ResumePoint
from rerender.video import Clip, PromptRange
from tests.model.making import save
from tests.model.test_lora import trained
from tests.scenes import ALL, moving
from tests.scenes import parts as usual

parts = partial(usual, steps=6)  # of which four are executed
CLIP = Clip("clip", moving(8), "a cat", negative_prompt="blurry")


def table(path: Path, *lines: str) -> Path:
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return path


def test_a_table_says_what_is_asked_of_which_frames(tmp_path: Path) -> None:
    path = table(
        tmp_path / "t.csv",
        "from,to,prompt,negative_prompt,strength,fade",
        '5,6,"a dog, oil",sharp,0.5,2',
        "1,2,a fish,,,",
    )
    clip = in_time(CLIP, path)
    assert clip.ranges == (
        PromptRange(0, 1, "a cat", "blurry"),
        PromptRange(1, 3, "a fish", "blurry"),
        PromptRange(3, 5, "a cat", "blurry"),
        PromptRange(5, 7, "a dog, oil", "sharp", 0.5, 2),
        PromptRange(7, 8, "a cat", "blurry"),
    )
    assert [clip.prompt_at(index)[2:6] for index in range(8)] == [
        *["cat", "fish", "fish", "cat", "cat", "dog,", "dog,", "cat"]
    ]
    assert clip.spans == [range(1), range(1, 3), range(3, 6), range(4, 7), range(7, 8)]


@pytest.mark.parametrize(
    ("lines", "problem"),
    [
        (["from,to"], "has the columns from, to"),
        (["from,to,prompt"], "holds no range"),
        (["from,to,prompt", "0,8,a cat"], "names frame 8, the clip has frames 0 to 7"),
        (["from,to,prompt", "3,2,a cat"], "line 2 goes from 3 to 2"),
        (["from,to,prompt", "0,4,a cat", "4,5,a dog"], "says of frame 4 two things"),
        (["from,to,prompt", "0,4, "], "line 2 has no prompt"),
        (["from,to,prompt", "x,4,a"], "from must be a whole number from 0, received 'x'"),
        (["from,to,prompt", "٣,4,a"], "from must be a whole number from 0, received '٣'"),
        (["from,to,prompt", "0,1_0,a"], "to must be a whole number from 0, received '1_0'"),
        (["from,to,prompt,strength", "0,4,a,2"], "strength must be a number in 0..1"),
        (["from,to,prompt,fade", "0,3,a,2"], "fades in at frame 0"),
        (["from,to,prompt,fade", "0,3,a,", "4,4,b,3"], "reaches a third range"),
    ],
)
def test_refused_tables(lines: list[str], problem: str, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=problem):
        in_time(CLIP, table(tmp_path / "t.csv", *lines))


def ranged(*ranges: PromptRange) -> Clip:
    return replace(CLIP, ranges=ranges)


def test_each_range_is_what_its_frames_alone_would_be(tiny: Any) -> None:
    """A range refers to nothing outside; a hard border lies between two frames."""
    first, second = PromptRange(0, 3, "a cat"), PromptRange(3, 8, "a dog", "blurry", 0.5)
    clip, chosen = ranged(first, second), parts(ALL, steps=8)
    made = list(render(clip, tiny, chosen))
    alone = [*render(clip.part(0), tiny, chosen)]
    weaker = chosen.with_strength(0.5)
    alone += render(clip.part(1), tiny, weaker)
    assert len(made) == 8
    assert all(torch.equal(a, b) for a, b in zip(made, alone, strict=True))
    assert not torch.equal(made[3], list(render(CLIP, tiny, chosen))[3])


def test_a_fade_goes_over_in_even_steps(tiny: Any) -> None:
    hard = [PromptRange(0, 4, "a cat"), PromptRange(4, 8, "a dog")]
    clip = ranged(hard[0], replace(hard[1], fade=3))
    made = list(render(clip, tiny, parts()))  # every frame is a key frame, and none sees another
    cat, dog = (list(render(replace(CLIP, prompt=p, negative_prompt=""), tiny, parts()))
                for p in ("a cat", "a dog"))  # fmt: skip
    for index, weight in enumerate([0, 0, 0, 0.25, 0.5, 0.75, 1, 1]):
        expected = (1 - weight) * cat[index] + weight * dog[index]
        assert torch.allclose(made[index], expected, atol=1e-5), index


def test_frames_can_be_taken_up(tiny: Any) -> None:
    clip, chosen = ranged(PromptRange(0, 3, "a cat"), PromptRange(3, 8, "a dog")), parts()
    whole = list(render(clip, tiny, chosen))
    for first in (0, 2, 3, 7):
        resume = ResumePoint()
        resume.first = first
        rest = list(render(clip, tiny, chosen, resume=resume))
        assert all(torch.equal(a, b) for a, b in zip(whole[first:], rest, strict=True)), first


def test_the_truth_changes_with_the_prompt(tmp_path: Path) -> None:
    (clip,) = Demo(frames=6, size=64).clips()
    lines = ["from,to,prompt", f"3,5,{clip.source_prompt}"]
    found = in_time(clip, table(tmp_path / "t.csv", *lines))
    assert found.truth is not None and clip.truth is not None
    for index in range(6):
        made, oil = found.truth.translation(index), clip.truth.translation(index)
        expected = oil if index < 3 else clip.video[index]  # which is a photo
        assert made is not None and expected is not None and torch.equal(made, expected)
    one, other = found.truth.part(2, clip.prompt).flow(1, 0), clip.truth.flow(3, 2)
    assert torch.equal(one.offset, other.offset)


def test_another_prompt_in_one_range_leaves_the_others(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    base = ["model=tiny", "data.size=32", "data.frames=9", "keyframes.interval=2", "metrics=[]"]
    base += ["tracker=none", "constraint=[]", "prompt=a cat", "prompts=t.csv"]

    def stored() -> set[str]:
        return {path.name for path in (tmp_path / ".store/keys").glob("*/*")}

    table(tmp_path / "t.csv", "from,to,prompt,fade", "0,3,a cat,", "4,8,a dog,2")
    assert main([*base, "out=one"]) == 0
    before = stored()
    assert len(before) == 2
    table(tmp_path / "t.csv", "from,to,prompt,fade", "0,3,a cat,", "4,8,a fish,2")
    assert main([*base, "out=two"]) == 0
    assert len(stored() - before) == 1 and before <= stored()
    facts = read_facts(tmp_path / "two")["clips"][0]
    assert [each["prompt"] for each in facts["prompts"]] == ["a cat", "a fish"]
    assert facts["keys"] == [0, 2, 4, 6, 8]  # of the range that a frame belongs to
    one, two = (open_video(tmp_path / name / "video.mp4") for name in ("one", "two"))
    assert len(two) == 9
    differ = [not torch.equal(one[index], two[index]) for index in range(9)]
    assert not any(differ[:3]) and all(differ[5:])


def test_the_column_of_loras(tmp_path: Path, tiny: Any) -> None:
    lines = ["from,to,prompt,loras", "0,1,a,ink.safetensors:0.8; /b:c/glow", "2,3,b,", "4,5,c,x:-1"]
    clip = in_time(CLIP, table(tmp_path / "t.csv", *lines))
    ink, x = str(tmp_path / "ink.safetensors"), str(tmp_path / "x")
    assert [asked.loras for asked in clip.ranges] == [
        ((ink, 0.8), ("/b:c/glow", 1.0)),
        (),
        ((x, -1.0),),
        (),
    ]
    with pytest.raises(InputError, match=r"line 2: the scale of a LoRA must lie in -10\.\.10"):
        in_time(CLIP, table(tmp_path / "t.csv", "from,to,prompt,loras", "0,1,a,x:11"))
    clip = ranged(PromptRange(0, 8, "a cat", loras=(("x", 1.0),)))
    with pytest.raises(ConfigError, match="is loaded already"):
        list(render(clip, tiny, parts()))


def test_loras_of_a_range_are_those_of_a_run_that_has_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Its frames are those of `model.loras`, the others those without; another scale makes the key
    frames of its range alone again."""
    monkeypatch.chdir(tmp_path)
    trained(save(tmp_path / "sd"), tmp_path / "a.safetensors")
    base = ["model=sd15", "model.path=sd", "model.controlnets={canny: controlnet}", "prompt=a cat"]
    base += ["data.size=32", "data.frames=6", "keyframes=manual", "metrics=[]", "tracker=none"]
    base += [
        "keyframes.indices=[2,3]",
        "model.vae=null",
        "constraint=[]",
        "propagation=hold",
        "sampling.steps=4",
        "model.device=cpu",
    ]

    def stored() -> set[str]:
        return {path.name for path in (tmp_path / ".store/keys").iterdir() if path.is_dir()}

    def frames(name: str, *more: str) -> list[torch.Tensor]:
        assert main([*base, f"out={name}", *more]) == 0
        return [picture.read(file).image for file in sorted(Path(name, "keys").iterdir())]

    rows = ["from,to,prompt,loras", "0,2,a cat,", "3,5,a cat,a.safetensors:{}"]
    table(tmp_path / "t.csv", *(row.format(0.9) for row in rows))
    ranged = frames("ranged", "prompts=t.csv")
    before = stored()
    assert len(before) == 2
    plain = frames("plain")
    adapted = frames("adapted", "model.loras=[{path: a.safetensors, scale: 0.9}]")
    assert len(ranged) == len(plain) == len(adapted)
    half = len(ranged) // 2
    assert all(torch.equal(a, b) for a, b in zip(ranged[:half], plain[:half], strict=True))
    assert all(torch.equal(a, b) for a, b in zip(ranged[half:], adapted[half:], strict=True))
    assert not torch.equal(plain[-1], adapted[-1])

    before = stored()
    table(tmp_path / "t.csv", *(row.format(0.3) for row in rows))
    frames("weaker", "prompts=t.csv")
    assert len(stored() - before) == 1 and before <= stored()
    one, two = (read_facts(tmp_path / name) for name in ("ranged", "weaker"))
    assert one["weights"] != two["weights"]
    assert one["clips"][0]["prompts"][1]["loras"] == [[str(Path("a.safetensors")), 0.9]]

    table(tmp_path / "t.csv", *(row.replace("a.safe", "no.safe").format(1) for row in rows))
    assert main([*base, "out=none", "prompts=t.csv"]) == 4
    assert "no such LoRA" in capsys.readouterr().err
    tiny = [each for each in base if not each.startswith("model")]
    assert main([*tiny, "model=tiny", "out=none", "prompts=t.csv"]) == 2
    assert "takes no LoRAs" in capsys.readouterr().err
