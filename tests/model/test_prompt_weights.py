"""Weights of words in prompts: the notation, the formula on embeddings, what it leaves alone."""

from __future__ import annotations

import contextlib
import logging
import time
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from rerender.config.compose import preflight
from rerender.config.job import Job
from rerender.demo.weights import FOLDER
from rerender.errors import ConfigError
from rerender.jobs.run_job import check_job
from rerender.model._prompt_weights import weighted, without_weights
from rerender.model._prompts import tell_notations
from rerender.model.pretrained import Pretrained
from tests.model.making import our_latents, ours, save

READ = [
    ("a cat", [("a cat", 1)]),
    ("a (cat:1.3) sat", [("a ", 1), ("cat", 1.3), (" sat", 1)]),
    ("a (cat)", [("a ", 1), ("cat", 1.1)]),
    ("[cat] a", [("cat", 1 / 1.1), (" a", 1)]),
    ("((cat))", [("cat", 1.1**2)]),
    ("((big:0.5) cat:1.2)", [("big", 0.6), (" cat", 1.2)]),
    ("(a, [b] c: .5 )", [("a, ", 0.5), ("b", 0.5 / 1.1), (" c", 0.5)]),
    (r"a \(cat\) \[b\] \\", [("a (cat) [b] \\", 1)]),
    (r"(a \(b\):1.5)", [("a (b)", 1.5)]),
    (r"C:\dir 3:4 (x:y)", [("C:\\dir 3:4 ", 1), ("x:y", 1.1)]),
    ("(cat:0)", [("cat", 0)]),
    ("", []),
]
REFUSED = [
    ("a (cat", r"^prompt: '\(' at letter 3 has no partner, received 'a \(cat'; add it"),
    ("a cat)", r"'\)' at letter 6"),
    ("(a [cat) b]", r"'\)' at letter 8"),
    ("(cat:11)", "weights are 0 to 10, received 11"),
    ("(cat:-1)", "weights are 0 to 10, received -1"),
    ("((cat:9):9)", "received 81 for 'cat' of nested"),
    ("(" * 21 + "cat" + ")" * 21, "nests more than 20"),
]


def merged(prompt: str) -> list[tuple[str, float]]:
    """Neighbours of one weight as one piece."""
    found: list[tuple[str, float]] = []
    for text, weight in weighted("prompt", prompt):
        if found and found[-1][1] == weight:
            found[-1] = (found[-1][0] + text, weight)
        else:
            found.append((text, weight))
    return found


@pytest.mark.parametrize(("prompt", "pieces"), READ)
def test_the_notation(prompt: str, pieces: list[tuple[str, float]]) -> None:
    found = merged(prompt)
    assert [text for text, _ in found] == [text for text, _ in pieces]
    assert [weight for _, weight in found] == pytest.approx([weight for _, weight in pieces])
    assert without_weights("prompt", prompt) == "".join(text for text, _ in pieces)


@pytest.mark.parametrize(("prompt", "said"), REFUSED)
def test_what_is_refused(prompt: str, said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        weighted("prompt", prompt)


@pytest.mark.parametrize("letter", ["(a", "a)", "(a)", "[", ":1", "1", "\\(", ": ", "(1" * 19])
def test_a_long_prompt_takes_time_in_proportion(letter: str) -> None:
    """A megabyte, the longest there is, takes a second; what grew with the square would take
    hours. The two are compared on one machine, however busy it is."""

    def seconds(length: int) -> float:
        before = time.thread_time()
        with contextlib.suppress(ConfigError):
            weighted("prompt", "(" + letter * (length // len(letter)))
        return time.thread_time() - before

    assert seconds(200_000) < 40 * max(seconds(20_000), 0.005)


def loaded(folder: Path, **changes: Any) -> Any:
    return ours(folder, **{"prompt_weights": True, **changes}).load(())


def embedded(model: Any, prompt: str, negative: str = "bad") -> Any:
    return model.condition(prompt, negative, (), guided=True)


@pytest.mark.parametrize("large", [False, True], ids=["sd", "XL"])
def test_the_formula(tmp_path: Path, large: bool) -> None:
    """Token by token against the empty prompt; the pooled embedding and the other branch stay."""
    folder = save(tmp_path / "model", large=large)
    model, plain = loaded(folder), loaded(folder, prompt_weights=False)
    # The tokenizer spells: a letter is a token; 0 is the beginning.
    told = embedded(plain, "a cat sat")
    said = embedded(model, "a (cat:1.7) [sat]")
    empty = embedded(plain, "").prompt_embeds[1]
    weights = torch.ones(len(empty))
    weights[2:5], weights[5:8] = 1.7, 1 / 1.1
    wanted = empty + weights[:, None] * (told.prompt_embeds[1] - empty)
    assert torch.allclose(said.prompt_embeds[1], wanted, atol=1e-6)
    untouched = weights == 1
    assert torch.equal(said.prompt_embeds[1][untouched], told.prompt_embeds[1][untouched])
    assert torch.equal(said.prompt_embeds[0], told.prompt_embeds[0])
    if large:
        assert torch.equal(said.pooled_embeds, told.pooled_embeds)
    negative = embedded(model, "a cat sat", "(bad:0)").prompt_embeds
    assert torch.equal(negative[1], told.prompt_embeds[1])
    assert torch.allclose(negative[0][1:4], empty[1:4], atol=1e-6)


def test_weight_one_and_escapes_are_the_bytes_of_the_words(tmp_path: Path) -> None:
    folder = save(tmp_path / "model")
    model, plain = loaded(folder), loaded(folder, prompt_weights=False)
    for said, words in (
        ("a (cat:1) sat", "a cat sat"),
        ("a (cat:1.0), ((s:2):0.5)at", "a cat, sat"),
        (r"a \(cat\)", "a (cat)"),
        ("a wa(ter:1)color", "a watercolor"),
    ):
        mine, theirs = embedded(model, said), embedded(plain, words)
        assert torch.equal(mine.prompt_embeds, theirs.prompt_embeds)
        assert model.token_ids(said) == plain.token_ids(words)
    chosen = {"prompt_weights": True}
    ones = our_latents(ours(folder, **chosen), (), prompt="a (cat:1)")
    assert torch.equal(ones, our_latents(ours(folder), (), prompt="a cat"))
    more = our_latents(ours(folder, **chosen), (), prompt="a (cat:1.5)")
    assert not torch.allclose(ones, more, atol=1e-3)


def test_more_weight_says_more(tmp_path: Path) -> None:
    """Distance to what the empty prompt says grows with the weight, from 0 on."""
    model = loaded(save(tmp_path / "model"))
    empty = embedded(model, "").prompt_embeds[1, 1:4]

    def distance(weight: float) -> Tensor:
        return (embedded(model, f"(cat:{weight})").prompt_embeds[1, 1:4] - empty).norm(dim=-1)

    distances = torch.stack([distance(weight) for weight in (0.0, 0.5, 0.9, 1.0, 1.3, 2.0)])
    assert torch.allclose(distances[0], torch.zeros(3), atol=1e-5)
    assert (distances.diff(dim=0) > 0).all()
    assert torch.allclose(distances[-1], 2 * distances[3], atol=1e-5)


def test_a_textual_inversion_is_weighed(tmp_path: Path) -> None:
    from safetensors.torch import save_file

    folder, file = save(tmp_path / "model"), tmp_path / "toy.safetensors"
    rows = torch.randn(2, 32, generator=torch.Generator().manual_seed(1))
    save_file({"emb_params": rows}, file)
    model = loaded(folder, embeddings={"<toy>": str(file)})
    plain, weighed = embedded(model, "a <toy> b"), embedded(model, "a (<toy>:2) b")
    moved = (plain.prompt_embeds[1] != weighed.prompt_embeds[1]).any(-1).nonzero().flatten()
    assert moved.tolist() == [2, 3]  # both rows, nothing else


def test_what_is_still_plain_words_is_said(caplog: pytest.LogCaptureFixture) -> None:
    said = r"a (cat:1.3) [dog] \(x\), [a:b:0.5] {red|blue} BREAK <lora:x:1> cat++"
    with caplog.at_level(logging.WARNING, logger="rerender"):
        tell_notations("prompt", said, weighs=True)
    pieces = [message.partition(" taken")[0] for message in caplog.messages]
    assert pieces == [
        "prompt: <lora:x:1>",
        "prompt: cat++",
        "prompt: {red|blue}, [a:b:0.5]",
        "prompt: BREAK",
    ]


@pytest.mark.parametrize("key", ["prompt", "negative_prompt"])
def test_a_run_refuses_a_bracket_before_anything_is_loaded(
    key: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Pretrained, "load", lambda *args: pytest.fail("weights were loaded"))
    line = ["data.frames=2", "data.size=16", "model.prompt_weights=true", f"{key}='a (cat'"]
    (tree,) = preflight(line).jobs
    with pytest.raises(ConfigError, match=f"^{key}: "):
        check_job(Job.of(tree), tree, Path("outputs/none"))


def test_the_length_is_that_of_the_words(caplog: pytest.LogCaptureFixture) -> None:
    prompt = "(oil:1.000000000000000000000000001) " * 6
    with caplog.at_level(logging.WARNING, logger="rerender"):
        Pretrained(str(FOLDER), prompt_weights=True).tell_cut([prompt])
        assert not caplog.messages
        Pretrained(str(FOLDER)).tell_cut([prompt])
    assert len(caplog.messages) == 1
