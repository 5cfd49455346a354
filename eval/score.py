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
from eval.contracts import Metric, Score, SeveralResults
from eval.measure import score, score_several
from eval.metrics.weights import digest
from eval.references import SOURCE, TRUTH, VAE
from eval.results import Outcome, discover
from eval.runs.own import Own
from eval.runs.sources import Protocol, Sources, Tree, hashed, video_of
from rerender.config.compose import literal, preflight
from rerender.config.foreign import allowing, check_recorded
from rerender.config.job import Job
from rerender.contracts import Model
from rerender.errors import ConfigError, InputError, PartialSweepError, RerenderError
from rerender.exits import Parser, command, report
from rerender.jobs.progress import Progress
from rerender.run_folder import SCORES
from rerender.scene import Watch
from rerender.video import Clip, Video


@dataclass
class Scorer:
    """Scores one video after the other and keeps the file up to date.

    Attributes:
        root: the results folder.
        old: rows of an earlier call, by key.
        rows: rows so far.
        watch: told of the progress.
        computed: how many of the rows were measured by this call.
    """

    root: Path
    old: dict[str, Score]
    rows: list[Score]
    watch: Watch
    computed: int = 0
    _own: Own = field(default_factory=Own)

    def take(self, protocol: Protocol, clip: Clip, outcome: Outcome, what: str) -> None:
        """Take what the run of ours that made a video has measured itself."""
        own = self._own.rows(outcome, protocol, clip)
        for metric in protocol.metrics:
            if metric.name in own and _lasting(own[metric.name]):
                key = _key(protocol, clip, metric, what)
                self.old.setdefault(key, replace(own[metric.name], clip=clip.name, key=key))

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
        keys = {metric.name: _key(protocol, clip, metric, what) for metric in _single(protocol)}
        kept = [self.old[key] for key in keys.values() if key in self.old]
        known = {row.metric for row in kept}
        todo = [metric for metric in _single(protocol) if metric.name not in known]
        made = []
        if todo:
            made = score(clip, result, todo, protocol.flow, *name, self.watch, offset=offset)
        made = [replace(row, key=keys[row.metric] if _lasting(row) else "") for row in made]
        self.computed += len(made)
        kind, source = clip.kind, clip.source_clip or video_of(clip)
        rows = [
            replace(row, method=name[0], seed=name[1], kind=kind, source_clip=source)
            for row in made + kept
        ]
        self.rows += sorted(rows, key=lambda row: list(keys).index(row.metric))
        if made:
            score_files.write(self.root / SCORES, self.rows)

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
        for metric in protocol.metrics:
            if isinstance(metric, SeveralResults):
                key = _key(protocol, clip, metric, hashed([what for _, what in results]))
                row = self.old.get(key)
                if row is None:
                    videos = [outcome.open(clip.video) for outcome, _ in results]
                    row = score_several(clip, videos, metric, protocol.flow, method)
                    self.computed += 1
                self.rows.append(
                    replace(
                        row,
                        method=method,
                        key=key if _lasting(row) else "",
                        kind=clip.kind,
                        source_clip=clip.source_clip,
                    )
                )


def score_folder(
    root: Path, tree: Tree | None, with_floors: bool = True, with_vae: bool = False
) -> Scorer:
    """Score all finished videos of a folder; what did not change is not measured again, nor what
    a complete run of ours has measured itself.

    Args:
        root: the results folder; ``scores.jsonl`` is written there after every video.
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
    old = {row.key: row for row in score_files.intact(root / SCORES) if row.key}
    scorer = Scorer(root, old, [], Progress())
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
            what = hashed([digest(file) for file in outcome.files()])
            if tree is None:
                scorer.take(protocol, clip, outcome, what)
            video = outcome.open(clip.video)
            if outcome.offset is not None or len(video) != len(clip.video):
                what = hashed([what, "paired", outcome.offset])
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
    score_files.write(root / SCORES, scorer.rows)
    _raise(failures, len(outcomes))
    return scorer


def _single(protocol: Protocol) -> list[Metric]:
    """The metrics that measure one video by itself."""
    return [metric for metric in protocol.metrics if not isinstance(metric, SeveralResults)]


def _floors(clip: Clip, model: Model | None) -> Iterator[tuple[str, Video, str]]:
    yield SOURCE, references.source(clip), SOURCE
    truth = references.translation(clip)
    if truth is not None:
        yield TRUTH, truth, TRUTH
    if model is not None:
        yield VAE, references.round_trip(clip, model), f"{VAE} {model.digest()}"


def _key(protocol: Protocol, clip: Clip, metric: Metric, what: str) -> str:
    """Hash of everything that decides a row's value."""
    return hashed(
        [
            protocol.identity,
            (clip.name, clip.prompt, clip.source_prompt, list(clip.video.size)),
            what,
            repr(protocol.flow),
            (metric.name, metric.version, repr(metric)),
        ]
    )


def _lasting(row: Score) -> bool:
    """Whether a row may be kept: what was not available may be there the next time."""
    return row.value is not None


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
        f"{given.results / SCORES}  {scorer.computed} rows measured, {kept} unchanged\n"
    )


if __name__ == "__main__":
    sys.exit(main())
