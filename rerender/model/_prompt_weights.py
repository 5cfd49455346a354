"""Weights of words in prompts, in the notation of AUTOMATIC1111's web UI.

``(words:1.3)`` weighs words 1.3, ``(words)`` 1.1, ``[words]`` 1 / 1.1; nested weights are
multiplied. A backslash before ``( ) [ ] \\`` takes it as a letter. compel (MIT) reads another
notation, in which ``(words:1.3)`` weighs nothing.
"""

from __future__ import annotations

import re
from typing import NamedTuple

from torch import Tensor

from rerender.errors import ConfigError

STEP = 1.1
MOST = 10.0
DEEPEST = 20

_NUMBER = re.compile(r":\s*([+-]?(?:\d+(?:\.\d*)?|\.\d+))\s*\)")
_CLOSES = {"(": ")", "[": "]"}
_PLAIN = re.compile(r"[^\\()\[\]:]+")
_ESCAPED = "()[]\\"


class Piece(NamedTuple):
    """A part of a prompt whose words have one weight, 1 where none is said."""

    text: str
    weight: float


class _Open(NamedTuple):
    """A bracket that is not closed yet, where it stands, and how many pieces lie before it."""

    bracket: str
    place: int
    pieces: int


def weighted(where: str, prompt: str) -> list[Piece]:
    """A prompt as pieces in its order, without the notation.

    Args:
        where: which prompt, for messages.
        prompt: its text.

    Raises:
        ConfigError: a bracket has no partner, more than 20 are nested, or a weight is outside
            0..10, alone or multiplied.
    """
    pieces: list[Piece] = []
    opened: list[_Open] = []
    place = 0
    while place < len(prompt):
        letter, after = prompt[place], place + 1
        number = _NUMBER.match(prompt, place) if opened and opened[-1].bracket == "(" else None
        if letter == "\\" and prompt[after : after + 1] in tuple(_ESCAPED):
            pieces.append(Piece(prompt[after], 1.0))
            after += 1
        elif letter in _CLOSES:
            opened.append(_Open(letter, place, len(pieces)))
            if len(opened) > DEEPEST:
                cure = "write the weight as a number: (words:1.3)"
                raise ConfigError(where, f"nests more than {DEEPEST} brackets", cure)
        elif number is not None:
            _weigh(pieces, opened.pop().pieces, _checked(where, number[1], float(number[1])))
            after = number.end()
        elif letter in _CLOSES.values():
            if not opened or _CLOSES[opened[-1].bracket] != letter:
                raise _alone(where, prompt, place)
            _weigh(pieces, opened.pop().pieces, STEP if letter == ")" else 1 / STEP)
        else:
            plain = _PLAIN.match(prompt, place)
            after = plain.end() if plain else after
            pieces.append(Piece(prompt[place:after], 1.0))
        place = after
    if opened:
        raise _alone(where, prompt, opened[-1].place)
    for text, weight in pieces:
        _checked(where, f"{weight:g} for {text[:40]!r} of nested brackets", weight)
    return pieces


def without_weights(where: str, prompt: str) -> str:
    """The words of a prompt alone (errors as for `weighted`)."""
    return "".join(piece.text for piece in weighted(where, prompt))


def apply_weights(hidden: Tensor, empty: Tensor, weights: Tensor) -> Tensor:
    """``h_i = e_i + w_i (z_i - e_i)`` for every token i: away from what the empty prompt says in
    that place, as ComfyUI weighs words (the web UI scales z itself and then mends its mean).

    Args:
        hidden: z, the embedded prompt, ``[T,D]``.
        empty: e, the embedded empty prompt, ``[T,D]``.
        weights: w, ``[T]``; a token of weight 1 keeps its bytes.

    Returns:
        ``[T,D]``.
    """
    share = weights[:, None].to(hidden)
    return hidden.where(share == 1, empty + share * (hidden - empty))


def _weigh(pieces: list[Piece], start: int, weight: float) -> None:
    pieces[start:] = [Piece(text, before * weight) for text, before in pieces[start:]]


def _checked(where: str, said: str, weight: float) -> float:
    if not 0 <= weight <= MOST:
        raise ConfigError(
            where, f"weights are 0 to {MOST:g}, received {said}", "usual are 0.5..1.5"
        )
    return weight


def _alone(where: str, prompt: str, place: int) -> ConfigError:
    around = prompt[max(place - 20, 0) : place + 20]
    return ConfigError(
        where,
        f"{prompt[place]!r} at letter {place + 1} has no partner, received {around!r}",
        f"add it, write \\{prompt[place]} for the letter, or model.prompt_weights=false",
    )
