"""Which words two prompts share (prompt-to-prompt, arXiv 2208.01626, section 3.2)."""

from __future__ import annotations

from collections.abc import Sequence
from difflib import SequenceMatcher

Tokens = Sequence[int]


def common(source: Tokens, target: Tokens) -> list[tuple[int, int]]:
    """Places (in the source, in the target) of the tokens that a target prompt takes over.

    Args:
        source, target: tokens of prompts as a model embeds them: a beginning, the words, then
            ends, all equal, up to the model's length.

    Returns:
        Words in the same order in both, and the beginnings and ends, which belong to no word.
    """
    ours, theirs = words(source), words(target)
    matcher = SequenceMatcher(None, _at(source, ours), _at(target, theirs), autojunk=False)
    blocks = matcher.get_matching_blocks()
    kept = [(ours[b.a + i], theirs[b.b + i]) for b in blocks for i in range(b.size)]
    tails = zip(range(ours.stop, len(source)), range(theirs.stop, len(target)), strict=False)
    return [(0, 0), *kept, *tails]


def given_up(source: Tokens, target: Tokens) -> list[int]:
    """Places of the source prompt's words that the target prompt does not take over."""
    kept = {ours for ours, _ in common(source, target)}
    return [place for place in words(source) if place not in kept]


def words(tokens: Tokens) -> range:
    """The places between the beginning and the first end."""
    return range(1, list(tokens).index(tokens[-1], 1))


def _at(tokens: Tokens, places: range) -> list[int]:
    return [tokens[place] for place in places]
