"""What is asked of whom, and who sees which pair of videos, on which side and in which order:
balanced by construction.

Pairs of videos (a clip, two methods) stand in one circular sequence, and each person takes the next
ones: every pair is shown equally often, give or take one. A pair changes sides each time it is
shown. Within a person, orders are the rows of a Williams square (Williams 1949): over as many
people as there are trials (twice as many for odd numbers) each trial stands at each position once
and follows each other one equally often.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import combinations

import numpy as np

from rerender.errors import ConfigError

QUESTIONS = {
    "prompt": "Which video fits the text better?",
    "steady": "Which video is steadier, with less flicker?",
    "overall": "Which video do you prefer overall?",
}
_QUESTION = re.compile(r"[a-z][a-z0-9_]{0,30}")


@dataclass(frozen=True)
class Wanted:
    """What is asked of whom.

    Attributes:
        people: how many are invited.
        trials: pairs of videos for each.
        checks: attention checks for each, besides.
        seed: of the design.
        questions: id -> text, asked at every pair.
        methods: which take part; () for all.
        title, note: head of the page and a text below it.
        with_source: show the source beside the two.
    """

    people: int = 20
    trials: int = 20
    checks: int = 2
    seed: int = 0
    questions: Mapping[str, str] = field(default_factory=lambda: dict(QUESTIONS))
    methods: tuple[str, ...] = ()
    title: str = "Which video is better?"
    note: str = ""
    with_source: bool = False

    def __post_init__(self) -> None:
        for name, least in (("people", 2), ("trials", 1), ("checks", 0), ("seed", 0)):
            if getattr(self, name) < least:
                problem = f"must be at least {least}, received {getattr(self, name)}"
                raise ConfigError(f"--{name}", problem, "give another number")
        for name, text in self.questions.items():
            if not _QUESTION.fullmatch(name) or not text.strip():
                problem = f"a question is id=text with an id of a-z, 0-9, _, received {name}={text}"
                raise ConfigError(
                    "--question", problem, 'say: --question steady="Which is steadier?"'
                )
        if self.checks > self.trials:
            problem = f"more checks ({self.checks}) than comparisons ({self.trials})"
            raise ConfigError("--checks", problem, "give fewer")


@dataclass(frozen=True)
class StudyPair:
    """Two videos of one clip beside each other.

    Attributes:
        clip: number of the clip.
        left, right: numbers of the methods.
        check: "" for a comparison; in an attention check, the side on which the video is intact:
            both sides show one method, damaged on the other side.
    """

    clip: int
    left: int
    right: int
    check: str = ""


Item = tuple[int, int, int]
"""A clip and two methods, the smaller number first."""


def items(shown: Sequence[Sequence[bool]]) -> list[Item]:
    """All pairs of videos in an order in which neighbours differ in pair and clip.

    Args:
        shown: ``shown[clip][method]``, whether there is such a video.
    """
    clips, methods = len(shown), len(shown[0])
    pairs = list(combinations(range(methods), 2))
    return [
        (clip, i, j)
        for turn in range(clips)
        for place, (i, j) in enumerate(pairs)
        for clip in [(place + turn) % clips]
        if shown[clip][i] and shown[clip][j]
    ]


def plans(
    shown: Sequence[Sequence[bool]], people: int, trials: int, checks: int, seed: int
) -> list[list[StudyPair]]:
    """The pairings of each person, in the order in which they are shown.

    Args:
        shown: ``shown[clip][method]``, whether there is such a video.
        people: how many take part.
        trials: comparisons for each; never more than there are pairs of videos.
        checks: attention checks for each, besides.
        seed: of what is left to chance: the numbering of clips and methods.
    """
    rng = np.random.default_rng([seed, 0])
    clips = [int(n) for n in rng.permutation(len(shown))]
    methods = [int(n) for n in rng.permutation(len(shown[0]))]
    every = items([[shown[clip][method] for method in methods] for clip in clips])
    each = min(trials, len(every))
    found = []
    for person in range(people):
        taken = [divmod(person * each + k, len(every)) for k in range(each)]
        pairings = [_sided(every[place], turn, clips, methods) for turn, place in taken]
        ordered = [pairings[place] for place in williams(each, person)]
        found.append(_with_checks(ordered, person, checks))
    return found


def _sided(item: Item, turn: int, clips: Sequence[int], methods: Sequence[int]) -> StudyPair:
    """A pair with its sides at its turn-th showing (from 0)."""
    clip, i, j = item
    # Left where the distance is odd: each method is left in half of its pairs, give or take one.
    swapped = ((j - i) % 2 == 0) ^ (clip % 2 == 1) ^ (turn % 2 == 1)
    left, right = (j, i) if swapped else (i, j)
    return StudyPair(clips[clip], methods[left], methods[right])


def williams(size: int, row: int) -> list[int]:
    """A row of the Williams square over 0..size-1; for odd sizes rows beyond the size are its
    mirror image."""
    first = [(k + 1) // 2 if k % 2 else (size - k // 2) % size for k in range(size)]
    order = [(number + row) % size for number in first]
    return order[::-1] if size % 2 and row // size % 2 else order


def _with_checks(pairings: Sequence[StudyPair], person: int, checks: int) -> list[StudyPair]:
    """Attention checks spread between the pairings, never at the beginning. Which videos they are
    of, and on which side the intact one is, goes on from person to person."""
    found = list(pairings)
    for number in range(checks):
        like = pairings[(person + number * len(pairings) // checks) % len(pairings)]
        method = like.left if (person // 2 + number) % 2 else like.right
        side = "left" if (person + number) % 2 else "right"
        place = (number + 1) * len(pairings) // (checks + 1) + number
        found.insert(max(place, 1), StudyPair(like.clip, method, method, side))
    return found
