"""Notations in prompts and words that are left out: one warning each, whoever brings the prompt."""

from __future__ import annotations

import logging
import time
from dataclasses import replace
from pathlib import Path

import pytest

from rerender.config.compose import preflight
from rerender.config.job import Job
from rerender.demo.captions import STYLES
from rerender.demo.weights import FOLDER
from rerender.jobs.run_job import check_job
from rerender.model._prompts import tell_notations
from rerender.model.pretrained import Pretrained

NOTATIONS = [
    ("a (word:1.3) b", "(word:1.3)", "no weights"),
    ("a (word) and ((other))", "(word), (other)", "no weights"),
    ("cat++ and dog--", "cat++, dog--", "no weights"),
    ("a [dog] b", "[dog]", "brackets"),
    ("[a:b:0.5]", "[a:b:0.5]", "brackets"),
    ("a {red|blue} car", "{red|blue}", "brackets"),
    ("x <lora:name:0.8>", "<lora:name:0.8>", "a prompt loads nothing"),
    ("x <lyco:a b:1>", "<lyco:a b:1>", "a prompt loads nothing"),
    ("<cat-toy> sits", "<cat-toy>", "a prompt loads nothing"),
    ("one BREAK two", "BREAK", "keywords"),
]


@pytest.mark.parametrize(("prompt", "piece", "meaning"), NOTATIONS)
def test_a_notation_is_said_in_one_line(
    prompt: str, piece: str, meaning: str, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.WARNING, logger="rerender"):
        tell_notations("negative_prompt", prompt)
    (record,) = caplog.records
    message = record.getMessage()
    assert message.startswith(f"negative_prompt: {piece} taken as plain words")
    assert meaning in message


@pytest.mark.parametrize(
    "prompt",
    [
        "a red ball and a blue fish over the sea, watercolor",
        "it's 3:4, <3 sci-fi & more - e.g. a",
        "",
    ],
)
def test_plain_words_are_not(prompt: str, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING, logger="rerender"):
        tell_notations("prompt", prompt)
    assert not caplog.records


@pytest.mark.parametrize("letter", ["(", "[", "<", "{", "a", "((a", "<lora:", "a+"])
def test_a_long_prompt_takes_time_in_proportion(letter: str) -> None:
    def seconds(length: int) -> float:
        before = time.thread_time()
        tell_notations("prompt", letter * (length // len(letter)))
        return time.thread_time() - before

    assert seconds(200_000) < 40 * max(seconds(20_000), 0.005)


def test_prompts_of_a_table_are_looked_at(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    table = tmp_path / "prompts.csv"
    table.write_text("name,prompt,source_prompt,negative_prompt\nx,a (cat:1.2),[dog],<lora:y:1>\n")
    job = Job.of(preflight(["data.frames=2", "data.size=16"]).jobs[0])
    from rerender.data.edits import read_edits
    from rerender.data.folder import Edit

    (found,) = read_edits(table, {"x": tmp_path}, Edit(tmp_path, "default"))
    (clip,) = job.data.clips()
    clip = replace(clip, prompt=found.prompt or "", source_prompt=found.source_prompt)
    clip = replace(clip, negative_prompt=found.negative_prompt)
    with caplog.at_level(logging.WARNING, logger="rerender"):
        job.parts.check(clip)
    said = [record.getMessage().partition(" taken")[0] for record in caplog.records]
    assert said == [
        "prompt: (cat:1.2)",
        "source_prompt: [dog]",
        "negative_prompt: <lora:y:1>",
    ]


def test_words_beyond_the_length_are_named_before_anything_is_loaded(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Pretrained, "load", lambda *args: pytest.fail("weights were loaded"))
    job = Job.of(preflight(["data.frames=2", "data.size=16", "start=ddim_inversion"]).jobs[0])
    (clip,) = job.data.clips()
    long = "a red ball and a blue fish " * 4
    clip = replace(clip, source_prompt=f"{long}sea", negative_prompt=f"{long}desert")
    with caplog.at_level(logging.WARNING, logger="rerender"):
        Pretrained(str(FOLDER)).tell_cut(job.parts.prompts(clip))
    said = [record.getMessage() for record in caplog.records]
    assert len(said) == 2
    assert all("longer than the model's 24 tokens, left out: " in message for message in said)
    assert said[0].endswith("sea") and said[1].endswith("desert")


def test_only_prompts_that_are_used_are_looked_at() -> None:
    job = Job.of(preflight(["data.frames=2", "data.size=16", "sampling.guidance=1"]).jobs[0])
    (clip,) = job.data.clips()
    assert job.parts.prompts(clip) == [clip.prompt]


@pytest.mark.parametrize("name", ["demo", "demo_natural"])
def test_a_prompt_without_a_style_that_the_model_knows_is_answered_with_the_eight(
    name: str, caplog: pytest.LogCaptureFixture
) -> None:
    knows, other = (Job.of(preflight([f"model={m}"]).jobs[0]).model for m in (name, "sd15"))
    with caplog.at_level(logging.WARNING, logger="rerender"):
        knows.tell_styles(["a man, pencil", "A GOLD STATUE of a cat", "an oil painting", "", " "])
        other.tell_styles(["a cat in the rain"])
        assert not caplog.records
        knows.tell_styles(["a photograph", "turmoil", "turmoil", "a red ball, oil"])
    (record,) = caplog.records
    said = record.getMessage()
    assert said.startswith("prompt: names no style that this model knows, received 'a photograph'")
    assert "and 1 more" in said and all(style in said for style in STYLES)


def test_a_run_says_so_before_anything_is_loaded(caplog: pytest.LogCaptureFixture) -> None:
    (tree,) = preflight(["data.frames=2", "data.size=16", "prompt=a cat"]).jobs
    with caplog.at_level(logging.WARNING, logger="rerender"):
        check_job(Job.of(tree), tree, Path("outputs/none"))
    assert sum("names no style" in message for message in caplog.messages) == 1
