"""The leaderboard: every submission measured anew from its files, with the floors."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from eval import references, score_files, stats
from eval.measure import score
from eval.references import SOURCE, TRUTH, VAE
from eval.score_files import Score
from experiments import tables
from experiments.benchmark import submission
from experiments.benchmark.manifest import Benchmark, BenchmarkKey, tasks_of
from experiments.benchmark.submission import SUBMISSION, Submission
from experiments.benchmark.tasks import KINDS
from experiments.escape import markdown
from experiments.experiment import FLOORS
from experiments.formats import Cell, Column, Table, to_csv, to_markdown
from rerender import files
from rerender.config.compose import preflight
from rerender.config.job import Job
from rerender.contracts import Model
from rerender.errors import InputError, RerenderError
from rerender.flow.truth import TruthFlow
from rerender.run_folder import SCORES
from rerender.scene import Watch
from rerender.video import Clip, Video, sha256_file

BOARD, FORMAT = "leaderboard", "rerender-leaderboard/1"
RANKING = "psnr"
_GROUPS = "metrics=[fidelity,lpips_demo,warp_error,clip_demo]"
_METRICS = (RANKING, "ssim", "lpips_demo", "warp_error", "clip_score_demo", "frame_accuracy_demo")
PUBLIC, HIDDEN = "public", "hidden"


@dataclass
class Board:
    """A leaderboard.

    Attributes:
        benchmark: what was asked.
        rows: scores of floors and submissions on all clips whose truth is known here.
        hidden: names of the hidden clips among them.
        kinds: clip -> kind of its edit.
        submissions: those that were measured.
        refused: folder and reason of those that were not.
    """

    benchmark: Benchmark
    rows: list[Score] = field(default_factory=list)
    hidden: frozenset[str] = frozenset()
    kinds: Mapping[str, str] = field(default_factory=dict)
    submissions: list[Submission] = field(default_factory=list)
    refused: list[tuple[str, RerenderError]] = field(default_factory=list)

    @property
    def ranked_on(self) -> str:
        """The clips that decide: the hidden ones where their truth is known here."""
        return HIDDEN if self.hidden else PUBLIC

    def part(self, which: str) -> list[Score]:
        """Rows of the public or of the hidden clips."""
        return [row for row in self.rows if (row.clip in self.hidden) == (which == HIDDEN)]

    def places(self) -> list[str]:
        """Submissions, the best first."""
        means = self._means(self.part(self.ranked_on))
        names = [one.method for one in self.submissions]
        return sorted(names, key=lambda name: (-means.get(name, float("-inf")), name))

    def _means(self, rows: Sequence[Score]) -> dict[str, float]:
        return {s.method: s.mean for s in stats.summarise(rows) if s.metric == RANKING}

    def tables(self) -> list[Table]:
        """The deciding clips, the others, and PSNR by kind of edit; floors first."""
        found = []
        other = PUBLIC if self.ranked_on == HIDDEN else HIDDEN
        for which, title in ((self.ranked_on, "Leaderboard"), (other, "Besides")):
            if rows := self.part(which):
                table = tables.table(rows)
                lines = self._ordered(table.lines)
                found.append(replace(table, title=f"{title}: {which} clips", lines=lines))
        return [*found, self._by_kind()]

    def _ordered(self, lines: Mapping[str, tuple[Cell, ...]]) -> dict[str, tuple[Cell, ...]]:
        """Floors, then submissions by place."""
        first = [name for name in FLOORS if name in lines]
        return {name: lines[name] for name in [*first, *self.places()] if name in lines}

    def _by_kind(self) -> Table:
        rows = [
            replace(row, metric=self.kinds[row.clip])
            for row in self.part(self.ranked_on)
            if row.metric == RANKING
        ]
        found = {(s.method, s.metric): s for s in stats.summarise(rows)}
        present = [kind for kind in KINDS if any(row.metric == kind for row in rows)]

        def cell(method: str, kind: str) -> Cell:
            s = found.get((method, kind))
            return Cell() if s is None else Cell(s.mean, s.low, s.high, s.clips, s.of)

        methods = sorted({row.method for row in rows})
        lines = {name: tuple(cell(name, kind) for kind in present) for name in methods}
        columns = tuple(Column(kind, "higher", "dB") for kind in present)
        title = f"PSNR by kind of edit: {self.ranked_on} clips"
        return Table(title, columns, self._ordered(lines))


def board(
    benchmark: Benchmark,
    folder: Path,
    key: BenchmarkKey | None = None,
    watch: Watch | None = None,
) -> Board:
    """Measure all submissions of a folder.

    Args:
        benchmark: what they were made for; its sources are checked first.
        folder: one folder for each submission.
        key: of the organiser; without it hidden clips are not measured.
        watch: told of the progress.

    Raises:
        InputError: no submissions; a source was changed; or the key does not fit.
    """
    watch = watch or Watch()
    tasks = tasks_of(benchmark, key)
    submission.check_sources(benchmark)
    found = Board(
        benchmark,
        hidden=frozenset(entry.name for entry in benchmark.entries if entry.hidden) & {*tasks},
        kinds={entry.name: entry.kind for entry in benchmark.entries},
    )
    places = [path for path in files.children(folder) if (path / SUBMISSION).exists()]
    if not places:
        cure = "put one folder for each submission there"
        raise InputError(folder, "holds no submissions", cure)
    for place in places:
        try:
            one = submission.read(benchmark, place, tasks)
            found.submissions.append(_admitted(found, one))
        except RerenderError as error:
            found.refused.append((place.name, error))
    job = Job.of(preflight([_GROUPS, "flow=truth"]).jobs[0])
    metrics = [metric for metric in job.metrics if metric.name in _METRICS]
    model = job.model.load(())
    for number, (name, task) in enumerate(tasks.items(), 1):
        clip = task.clip()
        for method, video in _shown(clip, model, found.submissions, name):
            found.rows += score(clip, video, metrics, TruthFlow(), method)
        watch.advance("score", number, len(tasks), name)
    return found


def _admitted(found: Board, one: Submission) -> Submission:
    if any(one.method == other.method for other in found.submissions):
        raise InputError(one.folder, "has the name of another submission", "rename one of them")
    return one


def _shown(
    clip: Clip, model: Model, submissions: Sequence[Submission], name: str
) -> Iterator[tuple[str, Video]]:
    yield SOURCE, references.source(clip)
    yield VAE, references.round_trip(clip, model)
    truth = references.translation(clip)
    assert truth is not None, clip.prompt
    yield TRUTH, truth
    for one in submissions:
        yield one.method, one.videos[name]


def write(found: Board, folder: Path) -> list[Path]:
    """Write ``leaderboard.json``, ``.md``, ``.csv`` and the scores behind them."""
    made = found.tables()
    head = [
        f"# Leaderboard of benchmark {found.benchmark.id}",
        "",
        f"Ranked by {RANKING} on the {found.ranked_on} clips; measured from the files of each"
        " submission, nothing that it says of itself is read.",
        "",
    ]
    for place, name in enumerate(found.places(), 1):
        (one,) = [one for one in found.submissions if one.method == name]
        said = f": {markdown(one.description)}" if one.description else ""
        head.append(f"{place}. **{markdown(name)}**{said}")
    refused = [f"- {markdown(name)}: {markdown(str(error))}" for name, error in found.refused]
    refused = ["", "### Refused", "", *refused] if refused else []
    text = "\n".join([*head, "", to_markdown(made), *refused]).rstrip() + "\n"
    contents = {
        f"{BOARD}.md": text.encode(errors="replace"),
        f"{BOARD}.csv": to_csv(made).encode(errors="replace"),
        SCORES: score_files.dump(found.rows),
    }
    for name, content in contents.items():
        files.put(folder / name, content)
    files.put_json(folder / f"{BOARD}.json", _facts(found))
    return [folder / f"{BOARD}.json", *(folder / name for name in contents)]


def _facts(found: Board) -> dict[str, Any]:
    summaries = {
        which: {(s.method, s.metric): s for s in stats.summarise(found.part(which))}
        for which in (PUBLIC, HIDDEN)
    }

    def scores(method: str) -> dict[str, Any]:
        return {
            which: {
                metric: {"mean": s.mean, "low": s.low, "high": s.high, "clips": s.clips}
                for (name, metric), s in known.items()
                if name == method
            }
            for which, known in summaries.items()
            if known
        }

    by_name = {one.method: one for one in found.submissions}
    return {
        "format": FORMAT,
        "benchmark": found.benchmark.id,
        "ranked_by": RANKING,
        "ranked_on": found.ranked_on,
        "floors": [{"method": name, "scores": scores(name)} for name in (SOURCE, VAE, TRUTH)],
        "submissions": [
            {
                "place": place,
                "method": name,
                "description": by_name[name].description,
                "submission": sha256_file(by_name[name].folder / SUBMISSION),
                "scores": scores(name),
            }
            for place, name in enumerate(found.places(), 1)
        ],
        "refused": [{"folder": name, "reason": str(error)} for name, error in found.refused],
    }
