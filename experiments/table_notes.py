"""What a table says below it: how values come about, what is tested, and what is missing."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from eval import stats
from eval.score_files import Score
from experiments.experiment import Experiment
from experiments.formats import FEW
from experiments.metric_names import metric

MANY = 40  # methods beyond which nothing is tested: no difference would survive the correction


def said(
    scores: Sequence[Score],
    about: Experiment,
    rivals: Sequence[str],
    family: Sequence[str],
    printed: Sequence[str],
) -> Iterator[str]:
    """How values of the printed metrics come about, and what is tested."""
    clips, videos = {row.clip for row in scores}, {row.source for row in scores}
    seeds = {row.seed for row in scores if row.seed is not None}
    counted = _counted(len(clips), "clip")
    if len(videos) < len(clips):
        counted += f" of {_counted(len(videos), 'video')}"
    if len(seeds) > 1:
        counted += f", {len(seeds)} seeds each"
    unit = "videos" if len(videos) < len(clips) else "clips"
    ratios = [metric(name) for name in printed if stats.is_ratio(name)]
    geometric = f"; geometric mean for {_listed(ratios)}" if ratios else ""
    spread = f" ± half of its 95 % t interval over {unit}"
    if len(clips) < FEW:
        spread = ", too few for an interval (table.csv has it)"
    elif geometric:
        geometric += ", ×÷ the factor to either end of its interval"
    yield f"Mean over {counted}{spread}{geometric}."
    if not family:
        yield _untested(about, rivals)
        return
    assert about.table is not None
    tests, named = (len(rivals) - 1) * len(family), ", ".join(map(metric, family))
    yield (
        f"*: differs from {about.printed(about.table.reference)} in a sign-flip test over {unit}, "
        f"p < 0.05 after Holm's correction for {_counted(tests, 'test')} ({named}); other columns "
        "are descriptive. Bold, italic: shown to be the best and the second best."
    )
    if len(videos) < stats.needed(tests):
        few = f"{_counted(len(videos), unit[:-1])}, with which no test can be significant"
        need = "needs" if tests == 1 else "need"
        yield f"Only {few}: {_counted(tests, 'test')} {need} {stats.needed(tests)}."


def _counted(number: int, word: str) -> str:
    return f"{number} {word}{'s' * (number != 1)}"


def _listed(names: Sequence[str]) -> str:
    """As a sentence lists them."""
    *first, last = names
    return f"{', '.join(first)} and {last}" if first else last


def _untested(about: Experiment, rivals: Sequence[str]) -> str:
    spec = about.table
    if len(rivals) > MANY:
        return f"More than {MANY} methods: they are not tested against each other."
    if spec is None:
        return "Nothing is tested: no reference row and no primary metrics are named."
    if spec.reference not in rivals:
        return f"Nothing is tested: the reference row, {spec.reference}, is not there."
    return "Nothing is tested: there is no other row, or no primary metric was measured."


def remarks(
    scores: Sequence[Score], methods: Sequence[str], about: Experiment | None = None
) -> tuple[list[str], dict[str, int]]:
    """What changes the meaning of a method's values, as numbered notes; method -> its number.
    Methods of which the same is said share a note."""
    said: dict[str, list[str]] = {}
    for method in methods:
        clips: dict[str, set[str]] = {}
        for row in scores:
            if row.method == method and row.remark:
                clips.setdefault(row.remark, set()).add(row.clip)
        if clips:
            texts = [f"{text} ({_named(found)})" for text, found in sorted(clips.items())]
            more = f"; and {len(texts) - 3} more" if len(texts) > 3 else ""
            said.setdefault(f"{'; '.join(texts[:3])}{more}", []).append(method)
    notes, marks = [], {}
    for number, (text, alike) in enumerate(said.items(), start=1):
        printed = [about.printed(method) if about else method for method in alike]
        whose = printed[0] if len(alike) == 1 else f"{len(alike)} rows"
        notes.append(f"[{number}] {whose}: {text}.")
        marks.update(dict.fromkeys(alike, number))
    return notes, marks


def _named(clips: set[str]) -> str:
    first = sorted(clips)[0]
    return first if len(clips) == 1 else f"{len(clips)} clips"


def seedless(
    scores: Sequence[Score], rivals: Sequence[str], about: Experiment | None = None
) -> Iterator[str]:
    """Rows that are the same under every seed. Seeds are averaged before anything is counted, so
    equal ones narrow no interval; but a reader would take them for several."""
    values = stats.Scores(row for row in scores if row.seed is not None).cells.values()
    seeds = {
        method: [own[method][clip] for own in values for clip in own.get(method, ())]
        for method in rivals
    }
    several = {name: cells for name, cells in seeds.items() if any(len(c) > 1 for c in cells)}
    equal = [name for name, cells in several.items() if all(len({*cell}) == 1 for cell in cells)]
    if equal:
        printed = [about.printed(name) if about else name for name in equal]
        yield f"Every score is the same under every seed: {_listed(printed)}."


def gaps(scores: Sequence[Score], about: Experiment, printed: Sequence[str]) -> Iterator[str]:
    """Why values of the printed metrics are missing, and rows. Where nobody chose the columns, a
    metric without any value has none, and its reason is said too."""
    parts = any(s.clips < s.of for s in stats.summarise(scores) if s.metric in printed)
    if parts:
        yield (
            "(3 of 4): a mean over fewer clips than others have; it cannot be compared with "
            "theirs, and takes no part in ranks, stars and bold."
        )
    missing: dict[str, set[str]] = {}
    spoken_of = {*printed}
    if about.table is None or not about.table.columns:
        known = {row.metric for row in scores if row.value is not None}
        spoken_of |= {row.metric for row in scores} - known
    for row in scores:
        if row.value is None and row.metric in spoken_of:
            missing.setdefault(row.note, set()).add(row.metric)
    yield from sorted(
        f"{', '.join(map(metric, sorted(names)))}: {note}." for note, names in missing.items()
    )
    for name, reason in sorted((about.unfinished or {}).items()):
        yield f"Unfinished: {name} ({reason})."
