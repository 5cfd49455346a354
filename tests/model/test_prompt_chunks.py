"""Prompts longer than the text encoder: chunks embedded by themselves, one after the other."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from rerender.demo.weights import FOLDER
from rerender.model.diffusion import StableDiffusion
from rerender.model.pretrained import Pretrained
from tests.model.making import our_latents, ours, save

LARGE = pytest.mark.parametrize("large", [False, True], ids=["sd", "XL"])


def loaded(folder: Path, chunks: int, **changes: Any) -> Any:
    return ours(folder, prompt_chunks=chunks, **changes).load(())


def embedded(model: Any, prompt: str, negative: str = "bad") -> Any:
    return model.condition(prompt, negative, (), guided=True)


def length(model: Any) -> int:
    """Words of one letter that a chunk holds."""
    return int(model.parts.tokenizers[0].model_max_length) - 2


def words(count: int) -> str:
    """Words of one letter, which the tokenizer of these checkpoints takes for a token each."""
    return " ".join("abcdefghij"[i % 10] for i in range(count))


@LARGE
def test_every_chunk_is_the_prompt_that_it_would_be_alone(tmp_path: Path, large: bool) -> None:
    folder = save(tmp_path / "model", large=large)
    one, three = loaded(folder, 1), loaded(folder, 3)
    most = length(one)
    first, second = words(most), "klmnop"
    long = embedded(three, f"{first} {second}").prompt_embeds
    alone = [embedded(one, part).prompt_embeds[1] for part in (first, second, "")]
    assert torch.allclose(long[1], torch.cat(alone), atol=1e-6)
    negative = [embedded(one, part).prompt_embeds[1] for part in ("bad", "", "")]
    assert torch.allclose(long[0], torch.cat(negative), atol=1e-6)
    if large:
        wanted = embedded(one, first).pooled_embeds
        assert torch.allclose(embedded(three, f"{first} {second}").pooled_embeds, wanted, atol=1e-6)


@LARGE
def test_one_chunk_is_the_stock_length_to_the_byte(tmp_path: Path, large: bool) -> None:
    """At most 77 tokens: the stock tokenizer's numbers, and the bytes of the key left out."""
    folder = save(tmp_path / "model", large=large)
    plain, one = ours(folder).load(()), loaded(folder, 1)
    assert isinstance(plain, StableDiffusion)
    tokenizer = plain.parts.tokenizers[0]
    for prompt in ("", "a cat", words(length(plain))):
        mine, theirs = embedded(one, prompt), embedded(plain, prompt)
        assert torch.equal(mine.prompt_embeds, theirs.prompt_embeds)
        stock = tokenizer(prompt, padding="max_length", max_length=tokenizer.model_max_length)
        assert list(one.token_ids(prompt)) == stock.input_ids
        two = list(loaded(folder, 2).token_ids(prompt))
        assert two[: len(stock.input_ids)] == stock.input_ids


def test_latents_follow_words_beyond_the_first_chunk(tmp_path: Path) -> None:
    folder = save(tmp_path / "model")
    most = length(loaded(folder, 1))
    shared = words(most)

    def latents(chunks: int, rest: str) -> Tensor:
        return our_latents(ours(folder, prompt_chunks=chunks), (), prompt=shared + rest)

    assert torch.equal(latents(1, " xyz"), latents(1, ""))
    assert not torch.allclose(latents(2, " xyz"), latents(2, ""), atol=1e-3)
    full = f" {words(most)}"
    assert torch.equal(latents(2, f"{full} xyz"), latents(2, full))


def test_words_of_the_second_chunk_are_weighed(tmp_path: Path) -> None:
    folder = save(tmp_path / "model")
    plain, model = loaded(folder, 2), loaded(folder, 2, prompt_weights=True)
    most = length(plain)
    shared = words(most - 1)
    told = embedded(plain, f"{shared} x y z").prompt_embeds[1]
    said = embedded(model, f"{shared} (x y:1.5) z").prompt_embeds[1]
    empty = embedded(plain, "").prompt_embeds[1]
    moved = (said != told).any(-1).nonzero().flatten().tolist()
    assert moved == [most, most + 3]  # the first chunk's last word; behind an end and a beginning
    wanted = empty[moved] + 1.5 * (told[moved] - empty[moved])
    assert torch.allclose(said[moved], wanted, atol=1e-5)


def test_what_is_cut_is_what_no_chunk_holds(caplog: pytest.LogCaptureFixture) -> None:
    prompt = ", ".join(["oil"] * 20)  # 39 tokens; the demo model has 22 a chunk
    with caplog.at_level(logging.WARNING, logger="rerender"):
        Pretrained(str(FOLDER), prompt_chunks=2).tell_cut([prompt])
        assert not caplog.messages
        Pretrained(str(FOLDER), prompt_chunks=2).tell_cut([prompt + ", red ball" * 3])
        Pretrained(str(FOLDER)).tell_cut([prompt])
    assert [message.partition(", left")[0] for message in caplog.messages] == [
        "prompt: longer than the model's 46 tokens",
        "prompt: longer than the model's 24 tokens",
    ]
    assert caplog.messages[0].endswith("red ball")
