"""What the votes of a study say: strengths, agreement, people needed, and which metric knew it."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from itertools import combinations
from statistics import median
from typing import Any

import numpy as np
from scipy.stats import kendalltau

from eval.score_files import Score
from eval.stats import holm
from experiments.study.agreement import agreement, people_needed, predicted, votes_needed
from experiments.study.bradley_terry import Strengths, fit, probability
from experiments.study.votes import Ballot, StudyKey

PREFERENCES = (0.55, 0.6, 0.65, 0.7, 0.75, 0.8)  # for which the votes needed are listed


@dataclass(frozen=True)
class Choice:
    """One vote, with sides and codes taken off.

    Attributes:
        person, clip: numbers.
        question: its id.
        winner, loser: numbers of methods.
    """

    person: int
    clip: int
    question: str
    winner: int
    loser: int


def analyse(
    key: StudyKey, ballots: Sequence[Ballot], scores: Sequence[Score], attention: float
) -> dict[str, Any]:
    """Everything that the votes say, as plain values.

    Args:
        key: of the study.
        ballots: one for each person.
        scores: rows of the score file of the same results; [] where there are none.
        attention: share of the attention checks that a person must pass, 0..1; the votes of others
            do not count.
    """
    passed = {ballot.person: checks_passed(key, ballot) for ballot in ballots}
    heard = [ballot for ballot in ballots if passed[ballot.person] >= attention]
    choices = [choice for ballot in heard for choice in choices_of(key, ballot)]
    spent = [vote[3] / 1000 for ballot in heard for vote in ballot.votes]
    return {
        "study": key.study,
        "title": key.title,
        "methods": list(key.methods),
        "invited": len(key.codes),
        "voted": len(ballots),
        "counted": len(heard),
        "attention": attention,
        "inattentive": [
            {"file": ballot.path.name, "passed": passed[ballot.person]}
            for ballot in ballots
            if ballot not in heard
        ],
        "seconds_per_vote": median(spent) if spent else None,
        "questions": {
            name: {
                "text": text,
                **_question(key, [c for c in choices if c.question == name], scores),
            }
            for name, text in key.questions.items()
        },
        "votes_needed": {str(share): votes_needed(share) for share in PREFERENCES},
    }


def checks_passed(key: StudyKey, ballot: Ballot) -> float:
    """Share of the answers to attention checks that chose the intact video; 1 without checks."""
    plan = key.plans[ballot.person]
    right = [side == plan[trial].check for trial, _, side, _ in ballot.votes if plan[trial].check]
    return sum(right) / len(right) if right else 1.0


def choices_of(key: StudyKey, ballot: Ballot) -> Iterator[Choice]:
    """The votes of a ballot between methods."""
    for trial, question, side, _ in ballot.votes:
        pairing = key.plans[ballot.person][trial]
        if not pairing.check:
            chosen, other = pairing.left, pairing.right
            if side == "right":
                chosen, other = other, chosen
            yield Choice(ballot.person, pairing.clip, question, chosen, other)


def _question(key: StudyKey, choices: Sequence[Choice], scores: Sequence[Score]) -> dict[str, Any]:
    agreed = agreement((c.person, _item(c), c.winner < c.loser) for c in choices)
    found: dict[str, Any] = {"votes": len(choices), "agreement": asdict(agreed)}
    columns = [
        [getattr(c, name) for c in choices] for name in ("winner", "loser", "person", "clip")
    ]
    winners, losers, people, clips = (np.array(column, np.int64) for column in columns)
    try:
        over_people = fit(winners, losers, people, len(key.methods))
        over_clips = fit(winners, losers, clips, len(key.methods))
    except ValueError as error:
        return {**found, "methods": [], "pairs": [], "metrics": [], "note": f"n/a: {error}"}
    return {
        **found,
        "methods": _methods(key, choices, over_people, over_clips),
        "pairs": _pairs(key, choices, over_people),
        "metrics": _metrics(key, choices, scores, over_people),
    }


def _item(choice: Choice) -> tuple[int, int, int]:
    low, high = sorted((choice.winner, choice.loser))
    return choice.clip, low, high


def _methods(
    key: StudyKey, choices: Sequence[Choice], people: Strengths, clips: Strengths
) -> list[dict[str, Any]]:
    (low, high), (clip_low, clip_high) = people.interval(), clips.interval()
    # How often it is preferred to the other methods, by the fitted model.
    against = probability(people.values)
    share = (against.sum(1) - 0.5) / (len(against) - 1)
    rows = [
        {
            "method": name,
            "strength": float(people.values[i]),
            "low": _known(low[i]),
            "high": _known(high[i]),
            "clips_low": _known(clip_low[i]),
            "clips_high": _known(clip_high[i]),
            "preferred": float(share[i]),
            "won": sum(c.winner == i for c in choices),
            "lost": sum(c.loser == i for c in choices),
        }
        for i, name in enumerate(key.methods)
    ]
    return sorted(rows, key=lambda row: -float(str(row["strength"])))


def _known(value: float) -> float | None:
    return None if math.isnan(value) else float(value)


def _pairs(key: StudyKey, choices: Sequence[Choice], people: Strengths) -> list[dict[str, Any]]:
    pairs = list(combinations(range(len(key.methods)), 2))
    ps = [people.p(i, j) for i, j in pairs]
    known = [place for place, p in enumerate(ps) if not math.isnan(p)]
    corrected = dict(zip(known, holm([ps[place] for place in known]), strict=True))
    rows = []
    for place, (i, j) in enumerate(pairs):
        if people.values[i] < people.values[j]:
            i, j = j, i
        difference, error = people.difference(i, j)
        rows.append(
            {
                "preferred": key.methods[i],
                "other": key.methods[j],
                "won": sum((c.winner, c.loser) == (i, j) for c in choices),
                "votes": sum({c.winner, c.loser} == {i, j} for c in choices),
                "difference": difference,
                "error": _known(error),
                "p_holm": corrected.get(place),
                "people_needed": people_needed(difference, error, people.clusters),
            }
        )
    return rows


def _metrics(
    key: StudyKey, choices: Sequence[Choice], scores: Sequence[Score], strengths: Strengths
) -> list[dict[str, Any]]:
    """How often the video that a metric finds better is the one that was chosen."""
    values: dict[str, dict[tuple[str, str], float]] = defaultdict(dict)
    for row in scores:
        clips = [c["made"] for c in key.clips if c["name"] == row.clip]
        made = clips[0].get(row.method) if clips else None
        if made is not None and made["seed"] == row.seed and row.value is not None:
            sign = -1 if row.direction == "lower" else 1
            values[row.metric][row.clip, row.method] = sign * row.value
    found = []
    for metric, known in sorted(values.items()):
        votes = []
        for c in choices:
            clip = key.clips[c.clip]["name"]
            pair = [known.get((clip, key.methods[method])) for method in (c.winner, c.loser)]
            if pair[0] is not None and pair[1] is not None:
                votes.append((c.clip, pair[0] - pair[1]))
        if votes:
            tau = _tau(key, known, strengths)
            found.append({"metric": metric, **predicted(votes), "tau": tau})
    return sorted(found, key=lambda row: -row["share"])


def _tau(
    key: StudyKey, known: Mapping[tuple[str, str], float], strengths: Strengths
) -> float | None:
    """Kendall's tau-b of the methods' mean values with their strengths."""
    clips = [clip["name"] for clip in key.clips]
    means, own = [], []
    for i, method in enumerate(key.methods):
        mine = [known[clip, method] for clip in clips if (clip, method) in known]
        if len(mine) == sum(method in clip["made"] for clip in key.clips):
            means.append(sum(mine) / len(mine))
            own.append(strengths.values[i])
    return _known(float(kendalltau(means, own).statistic)) if len(means) > 2 else None
