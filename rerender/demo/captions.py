"""The language of the demo world: its words, its sentences, and how to read them back.

a red ball and a blue fish over the sea, watercolor
"""

from __future__ import annotations

import re
from typing import NamedTuple

COLOURS: tuple[str, ...] = ("red", "green", "blue", "yellow", "purple", "white")
SUBJECTS: tuple[str, ...] = ("ball", "box", "star", "fish", "car", "tree")
BACKGROUNDS: tuple[str, ...] = ("sea", "desert", "meadow", "forest", "city", "night")
STYLES: tuple[str, ...] = (
    "photo",
    "watercolor",
    "oil",
    "neon",
    "pencil",
    "mosaic",
    "gold statue",
    "pixel art",
)
# Styles that leave a sprite's colour visible: the ones in which a colour word can be judged.
COLOURFUL: tuple[str, ...] = ("photo", "watercolor", "oil", "mosaic", "pixel art")

_NOUN = re.compile(r"an? (?P<colour>\w+) (?P<subject>\w+)")


class Sentence(NamedTuple):
    """A caption taken apart; ``style`` is ``None`` where the sentence names none."""

    nouns: tuple[tuple[str, str], ...]
    background: str
    style: str | None


def words() -> tuple[str, ...]:
    """Every word a caption can contain, each once, in a fixed order."""
    spoken = " ".join((*COLOURS, *SUBJECTS, *BACKGROUNDS, *STYLES)).split()
    return tuple(dict.fromkeys(["a", "and", "over", "the", ",", ".", *spoken]))


def write(sentence: Sentence) -> str:
    """The sentence as text: "a red ball and a blue fish over the sea, oil"."""
    nouns = [f"a {colour} {subject}" for colour, subject in sentence.nouns]
    listed = " and ".join(filter(None, [", ".join(nouns[:-1]), nouns[-1]]))
    ending = f", {sentence.style}" if sentence.style else ""
    return f"{listed} over the {sentence.background}{ending}"


def read(text: str) -> Sentence | None:
    """The sentence that ``text`` says, or ``None`` where it leaves the language."""
    listed, found, rest = " ".join(text.lower().split()).rstrip(".").partition(" over the ")
    background, _, style = (part.strip() for part in rest.partition(","))
    matches = [_NOUN.fullmatch(part) for part in re.split(r", and |, | and ", listed)]
    nouns = tuple((m["colour"], m["subject"]) for m in matches if m)
    known = (
        bool(found)
        and len(nouns) == len(matches)
        and all(colour in COLOURS and subject in SUBJECTS for colour, subject in nouns)
        and background in BACKGROUNDS
        and (style in STYLES or not style)
    )
    return Sentence(nouns, background, style or None) if known else None
