"""What of a prompt does not reach the model as it was meant: notations of other programs, which are
taken as words, words beyond the text encoder's length, and styles that a small model does not
know."""

from __future__ import annotations

import logging
import re
from collections.abc import Iterator, Sequence
from typing import Any

from rerender.model._prompt_weights import without_weights

log = logging.getLogger(__name__)

_TAG = re.compile(r"<(?:lora|lyco|lycoris|hypernet|embedding|ti)\s*:[^<>]*>|<[^<>\s]+>", re.I)
_WEIGHT = re.compile(r"\([^()]*\)|(?<!\w)\w+[+-]{2,}")
_SWITCHED = re.compile(r"(?<!\\)\[[^\[\]]*[:|][^\[\]]*\]")
_BRACKET = re.compile(r"\[[^\[\]]*\]|\{[^{}]*\}")
_KEYWORD = re.compile(r"(?<!\S)(?:BREAK|AND)(?!\S)")
_NOTATIONS = (
    (_TAG, "a prompt loads nothing: model.loras and model.embeddings do"),
    (_WEIGHT, "words have no weights"),
    (_BRACKET, "brackets do not weaken, switch or choose words"),
    (_KEYWORD, "prompts are not joined by keywords"),
)


def tell_notations(
    where: str, prompt: str, words: Sequence[str] = (), weighs: bool = False
) -> None:
    """Warn of every notation in a prompt that other programs understand: it is taken as words.

    Args:
        where: which prompt, such as ``negative_prompt``.
        prompt: its text.
        words: what stands in it for trained embeddings, and is none of these notations.
        weighs: whether ``(words:1.3)`` and ``[words]`` weigh words.

    Raises:
        ConfigError: a weight is not written as it must be.
    """
    for word in words:
        prompt = prompt.replace(word, " ")
    if weighs:
        # Of round and square brackets only those that switch words are no weight: [a:b:0.5].
        plain = re.sub(r"[()\[\]]", " ", without_weights(where, prompt))
        prompt = " ".join([plain, *_SWITCHED.findall(prompt)])
    for pieces, meaning in _found(prompt):
        log.warning("%s: %s taken as plain words (%s)", where, pieces, meaning)


def tell_cut(tokenizer: Any, prompt: str, chunks: int = 1) -> None:
    """Warn of the words of a prompt that the model never sees.

    Args:
        tokenizer: of its first text encoder.
        prompt: without weights.
        chunks: how many times the encoder's length a prompt may have, but for beginnings and ends.
    """
    most = chunks * (tokenizer.model_max_length - 2) + 2
    tokens = tokenizer(prompt, truncation=False, verbose=False).input_ids
    if len(tokens) > most:
        rest = tokenizer.decode(tokens[most - 1 : -1])
        log.warning("prompt: longer than the model's %d tokens, left out: %s", most, rest)


def tell_styles(prompts: Sequence[str], styles: Sequence[str]) -> None:
    """Warn, once for all, of prompts that name none of the styles that a model knows. Without any
    word, which leaves the style open, nothing is said.

    Args:
        prompts: what clips are asked for.
        styles: their names in lower case; empty where a model knows no fixed list.
    """
    names = [re.compile(rf"\b{re.escape(style)}\b") for style in styles]
    without = [
        prompt
        for prompt in dict.fromkeys(prompts)
        if prompt.strip() and not any(name.search(prompt.lower()) for name in names)
    ]
    if names and without:
        shown = without[0] if len(without[0]) <= 100 else f"{without[0][:100]}..."
        more = f" and {len(without) - 1} more" if len(without) > 1 else ""
        log.warning(
            "prompt: names no style that this model knows, received %r%s; add one of %s, or take a "
            "model that knows other words: model=sd15",
            shown,
            more,
            ", ".join(styles),
        )


def _found(prompt: str) -> Iterator[tuple[str, str]]:
    """What was found of each notation, and why it has no effect."""
    for pattern, meaning in _NOTATIONS:
        pieces = list(dict.fromkeys(match[0] for match in pattern.finditer(prompt)))
        if pieces:
            shown = ", ".join(pieces)
            yield shown if len(shown) <= 200 else f"{shown[:200]}...", meaning
