"""``python -m eval.score RESULTS``: every finished video in a folder, and the floors beside them.

What is measured, on which clips and with which flow is said by the same configuration as a run:
``python -m eval.score RESULTS data=video data.path=cat.mp4 prompt="a tiger" metrics=[warp_error]``.
Without any such word each run of ours is measured on its own clips, with the metrics and the flow
of the first one.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from eval import references, score_files
from eval.contracts import Metric, SeveralResults
from eval.known_scores import measured_once
from eval.measure import score, score_several
from eval.metrics.weights import digest
from eval.references import SOURCE, TRUTH, VAE
from eval.results import Outcome, discover
from eval.runs.rows import rows_of_runs
from eval.runs.sources import Protocol, Sources, Tree, video_of
from eval.score_files import Score
from rerender import files
from rerender.compiled import warn_unkept
from rerender.config.compose import literal, preflight
from rerender.config.foreign import allowing, check_recorded
from rerender.config.job import Job
from rerender.contracts import Model
from rerender.errors import ConfigError, InputError, PartialSweepError, RerenderError
from rerender.exits import Parser, command, report
from rerender.jobs.progress import Progress
from rerender.run_folder import score_file
from rerender.scene import Watch
from rerender.store.stage_keys import score_key
from rerender.video import Clip, Video, sha256_of


@dataclass
class Scorer:
    """Scores one video after the other and keeps the file up to date.

    Attributes:
        root: the results folder.
        known: rows that are at hand, by key; it grows.
        rows: rows so far.
        watch: told of the progress.
        computed: how many of the rows were measured by this call.
    """

    root: Path
    known: dict[str, Score]
    rows: list[Score]
    watch: Watch
    computed: int = 0
    _compared: dict[Video, str] = field(default_factory=dict)

    def add(
        self,
        protocol: Protocol,
        clip: Clip,
        result: Video,
        name: tuple[str, int | None],
        what: str,
        offset: int | None = None,
    ) -> None:
        """Measure what is not known yet and write the file.

        Args:
            protocol: the metrics and the flow.
            clip: the source.
            result: the finished video.
            name: method and seed.
            what: hash of the result's content.
            offset: the source's frame that its first frame stands for; None finds out.
        """

        def measure(missing: list[Metric]) -> list[Score]:
            self.computed += len(missing)
            return score(clip, result, missing, protocol.flow, *name, self.watch, offset=offset)

        before = self.computed
        keyed = [each for each in self._keyed(protocol, clip, what) if not _several(each[1])]
        self._take(measured_once(self.known, keyed, measure), clip, *name)
        if self.computed > before:
            score_files.write(score_file(self.root), self.rows)

    def together(
        self, protocol: Protocol, clip: Clip, results: Sequence[tuple[Outcome, str]]
    ) -> None:
        """Measure the results of several seeds by the metrics that compare them.

        Args:
            protocol: the metrics and the flow.
            clip: the source.
            results: each video of one method with the hash of its content.
        """
        method = results[0][0].method

        def measure(missing: list[Metric]) -> list[Score]:
            self.computed += len(missing)
            videos = [outcome.open(clip.video) for outcome, _ in results]
            several = [metric for metric in missing if isinstance(metric, SeveralResults)]
            return [score_several(clip, videos, each, protocol.flow, method) for each in several]

        what = sha256_of(*(what.encode() for _, what in results))
        keyed = [each for each in self._keyed(protocol, clip, what) if _several(each[1])]
        self._take(measured_once(self.known, keyed, measure), clip, method, None)

    def _keyed(self, protocol: Protocol, clip: Clip, what: str) -> list[tuple[str, Metric]]:
        """Each metric of a protocol with the key of its row."""
        if clip.video not in self._compared:
            self._compared[clip.video] = clip.video.digest()
        compared, tree = self._compared[clip.video], protocol.tree
        return [
            (score_key(tree, name, metric.version, clip, compared, what), metric)
            for name, metric in zip(tree.get("metrics") or {}, protocol.metrics, strict=True)
        ]

    def _take(self, rows: Sequence[Score], clip: Clip, method: str, seed: int | None) -> None:
        """Add rows under the names that hold here."""
        source = clip.source_clip or video_of(clip)
        for row in rows:
            mine = replace(row, clip=clip.name, method=method, seed=seed)
            self.rows.append(replace(mine, kind=clip.kind, source_clip=source))


def _several(metric: Metric) -> bool:
    return isinstance(metric, SeveralResults)


def score_folder(
    root: Path, tree: Tree | None, with_floors: bool = True, with_vae: bool = False
) -> Scorer:
    """Score all finished videos of a folder; of what did not change since, the rows in its score
    file and in those of its runs hold.

    Args:
        root: the results folder; ``scores.jsonl`` is written there after every video, and where it
            is a run itself, whose own that is, ``eval_scores.jsonl``.
        tree: configuration whose clips, metrics and flow hold; None for the runs' own.
        with_floors: add the source and, where it is known, the true translation as methods.
        with_vae: add the autoencoder's round trip (loads the configured model).

    Raises:
        InputError: nothing to score, or a video cannot be read (the others are scored first).
        ConfigError: nothing says what the sources are.
        PartialSweepError: several videos cannot be read.
    """
    outcomes = discover(root)
    if not outcomes:
        cure = "lay them out as METHOD/CLIP.mp4 or METHOD/CLIP/0001.png"
        raise InputError(root, "holds no finished videos", cure)
    sources = Sources(tree, outcomes)
    if not sources.known:
        cure = "say which: data=video data.path=FILE prompt=TEXT"
        raise ConfigError(str(root), "holds no run of ours, so the sources are unknown", cure)
    files.check_writable(root, str(root), "make it writable for you, or copy it")
    warn_unkept()
    earlier = [*score_files.intact(score_file(root)), *rows_of_runs(outcomes)]
    scorer = Scorer(root, {row.key: row for row in earlier if row.key}, [], Progress())
    if with_floors:
        base = tree or next(o.config for o in outcomes if o.config is not None)
        if with_vae:
            check_recorded(base, ("model",))
        model = Job.of(base).model.load(()) if with_vae else None
        for protocol, clip in sources.every():
            for name, video, what in _floors(clip, model):
                scorer.add(protocol, clip, video, (name, None), what)
    failures: list[RerenderError] = []
    seeds: dict[tuple[str, str], tuple[Protocol, Clip, list[tuple[Outcome, str]]]] = {}
    for outcome in outcomes:
        try:
            outcome.check()
            protocol, clip = sources.find(outcome)
            sums = [digest(file) for file in outcome.files()]
            what = sums[0] if len(sums) == 1 else sha256_of(*map(str.encode, sums))
            video = outcome.open(clip.video)
            if outcome.offset is not None or len(video) != len(clip.video):
                what = f"{what} paired {outcome.offset}"
            who = outcome.method, outcome.seed
            scorer.add(protocol, clip, video, who, what, outcome.offset)
            mine = seeds.setdefault((outcome.method, clip.name), (protocol, clip, []))
            mine[2].append((outcome, what))
        except (InputError, ConfigError) as error:
            failures.append(error)
        except FileNotFoundError as error:  # its run is made again meanwhile
            where = error.filename or outcome.path
            failures.append(InputError(where, "is gone since it was found", "score again"))
    for protocol, clip, results in seeds.values():
        scorer.together(protocol, clip, results)
    score_files.write(score_file(root), scorer.rows)
    _raise(failures, len(outcomes))
    return scorer


def _floors(clip: Clip, model: Model | None) -> Iterator[tuple[str, Video, str]]:
    yield SOURCE, references.source(clip), SOURCE
    truth = references.translation(clip)
    if truth is not None:
        yield TRUTH, truth, TRUTH
    if model is not None:
        yield VAE, references.round_trip(clip, model), f"{VAE} {model.digest()}"


def _raise(failures: Sequence[RerenderError], total: int) -> None:
    if len(failures) == 1:
        raise failures[0]
    for error in failures:
        report(str(error), "failed")
    if failures:
        problem = f"{len(failures)} of {total} videos cannot be scored"
        raise PartialSweepError("results", problem, "mend what is named above, then score again")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; returns the exit code (see `rerender.exits`)."""
    return command(_main, arguments)


def _main(arguments: list[str]) -> None:
    parser = Parser(prog="python -m eval.score", description=__doc__)
    parser.add_argument("results", type=Path, help="a run folder, or METHOD/CLIP(.mp4 | frames)")
    parser.add_argument("settings", nargs="*", help="key=value, as for python -m rerender.run")
    parser.add_argument("--no-floors", action="store_true", help="leave source and truth out")
    parser.add_argument("--vae", action="store_true", help="add the autoencoder's round trip")
    allowing(parser)
    given = parser.parse_intermixed_args(arguments)
    tree = preflight(literal(given.settings)).jobs[0] if given.settings else None
    scorer = score_folder(given.results, tree, not given.no_floors, given.vae)
    kept = len(scorer.rows) - scorer.computed
    sys.stdout.write(
        f"{score_file(given.results)}  {scorer.computed} rows measured, {kept} unchanged\n"
    )


if __name__ == "__main__":
    sys.exit(main())
