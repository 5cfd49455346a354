"""The analysis of a study as markdown."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from experiments.escape import markdown


def to_markdown(found: Mapping[str, Any]) -> str:
    """The analysis of `experiments.study.analysis` as tables, a section for each question."""
    lines = [f"# {markdown(found['title'])}", ""]
    people = f"{found['counted']} of {found['invited']} people who were invited"
    lines.append(f"Votes of {people}.")
    for one in found["inattentive"]:
        why = f"{one['passed']:.0%} of the attention checks, {found['attention']:.0%} are asked for"
        lines.append(f"- left out: {markdown(one['file'])} ({why})")
    lines += [f"- refused: {markdown(one)}" for one in found["refused"]]
    if found["seconds_per_vote"] is not None:
        lines.append(f"\nMedian time for an answer: {found['seconds_per_vote']:.1f} s.")
    for name, question in found["questions"].items():
        lines += ["", f"## {markdown(question['text'])} ({markdown(name)})", ""]
        lines += _question(question)
    lines += ["", "## Votes needed", "", _NEEDED, ""]
    needed = found["votes_needed"]
    lines += _grid(["share that prefers it", "votes"], [[s, str(n)] for s, n in needed.items()])
    return "\n".join(lines) + "\n"


_STRENGTHS = (
    "Strength: Bradley-Terry, log-odds, sum 0, with 95 % intervals over people (would other people"
    " vote so on these clips?) and over clips (would these people vote so on other clips?; too"
    " narrow below about ten). Preferred: how often it is preferred to the other methods, by the"
    " fitted model."
)
_PAIRS = (
    "p: two-sided, over people, corrected (Holm) for all pairs of this question. People needed: to"
    " find a difference as large as this one with 80 % power at 5 %."
)
_METRICS = (
    "Share of votes in which the video that the metric finds better was chosen (ties count half;"
    " 95 % interval over clips), and Kendall's tau of the methods' means with their strengths."
)
_NEEDED = (
    "Independent votes on a pair of methods with which a two-sided sign test at 5 % finds a"
    " preference with 80 % power."
)


def _question(question: Mapping[str, Any]) -> list[str]:
    if not question["methods"]:
        return [markdown(question["note"])]
    rows = [
        [
            markdown(row["method"]),
            f"{row['strength']:+.2f}",
            _range(row["low"], row["high"]),
            _range(row["clips_low"], row["clips_high"]),
            f"{row['preferred']:.0%}",
            f"{row['won']}/{row['won'] + row['lost']}",
        ]
        for row in question["methods"]
    ]
    head = ["method", "strength", "over people", "over clips", "preferred", "won"]
    lines = [*_grid(head, rows), "", _STRENGTHS, ""]
    pairs = [
        [
            markdown(row["preferred"]),
            markdown(row["other"]),
            f"{row['won']}/{row['votes']}",
            f"{row['difference']:.2f}",
            _number(row["p_holm"], ".2g"),
            _number(row["people_needed"], "d"),
        ]
        for row in question["pairs"]
    ]
    head = ["preferred", "to", "votes won", "difference", "p", "people needed"]
    lines += [*_grid(head, pairs), "", _PAIRS, "", _agreement(question["agreement"]), ""]
    metrics = [
        [
            markdown(row["metric"]),
            f"{row['share']:.1%}",
            _range(row["low"], row["high"]),
            _number(row["tau"], "+.2f"),
            str(row["votes"]),
        ]
        for row in question["metrics"]
    ]
    if not metrics:
        cure = "python -m eval.score RESULTS"
        return [*lines, f"Metrics: n/a, no scores of these results were found; run `{cure}`."]
    head = ["metric", "votes predicted", "interval", "tau", "votes"]
    return [*lines, *_grid(head, metrics), "", _METRICS]


def _agreement(found: Mapping[str, Any]) -> str:
    if found["u"] is None:
        return "Agreement: n/a, no two people saw the same pair of videos."
    interval = _range(found["low"], found["high"])
    return (
        f"Agreement: {found['share']:.0%} of {found['pairs']} pairs of answers to the same two"
        f" videos are alike; Kendall's u = {found['u']:.2f} {interval} (1 all alike, 0 chance)."
        f" The majority of the others predicts {found['others']:.1%} of votes: no metric can be"
        " expected to do better."
    )


def _range(low: float | None, high: float | None) -> str:
    return "n/a" if low is None or high is None else f"[{low:.2f}, {high:.2f}]"


def _number(value: float | None, form: str) -> str:
    return "n/a" if value is None else format(value, form)


def _grid(head: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    bars = [head, ["---"] * len(head), *rows]
    return [f"| {' | '.join(cells)} |" for cells in bars]
