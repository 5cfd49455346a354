"""Key-frame translation (Rerender §4.1): the anchor, then every key frame under its constraints.

Each key frame is a job of `rerender.translation.key_frame`; `rerender.translation.lanes` runs them.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from rerender.config.parts import Parts
from rerender.contracts import Model
from rerender.scene import Translation, Watch
from rerender.translation.denoise import Ask
from rerender.translation.key_frame import Draw, Studio
from rerender.translation.lanes import run
from rerender.translation.references import ResumePoint
from rerender.video import Clip


def translate(
    clip: Clip,
    shots: Sequence[Sequence[int]],
    model: Model,
    parts: Parts,
    seed: int = 0,
    watch: Watch | None = None,
    draw: Draw | None = None,
    ledger: ResumePoint | None = None,
) -> Iterator[Translation]:
    """Translate the key frames of a clip, in order, as they are finished.

    Args:
        clip: the video and its prompts; frames must be sized to ``model.size_multiple``.
        shots: indices of the key frames of each shot; the first of a shot is its anchor.
        model: what denoises.
        parts: controls, sampler, sampling, flow (opened for this clip) and constraints.
        seed: of all noise.
        watch: told of every network evaluation, stage ``"translate"``.
        draw: other noise than the seed's, such as recorded tensors.
        ledger: key frames that are finished already are taken from here, others noted here.

    Yields:
        Translations with their images; traces are kept no longer than a later key frame needs.
    """
    studio = Studio(clip, model, parts, seed, watch or Watch(), draw)
    ledger = ledger or ResumePoint()
    finished = ledger.finished
    progress = Progress(studio, shots, finished)
    for number, shot in enumerate(shots):
        known = min(finished, len(shot))
        finished -= known
        yield from (ledger.recall(index, number) for index in shot[:known])
        if known == len(shot):
            continue
        cast = ledger.cast if known else None
        palette = studio.palette(shot[0], number, progress.evaluated)
        jobs = studio.jobs(shot, number, palette, known, cast)
        alone = parts.sampling.lanes == 1
        ran = run(jobs, model.predict_noise, parts.sampling.lanes, progress.evaluated)
        for ordinal, translation in enumerate(ran, known):
            # With lanes, later key frames are under way already: only the whole shot is a state
            # that can be gone on from with the same batches, and so with the same bytes.
            cast = studio.next_cast(translation, cast, ordinal) if alone else None
            ledger.finish(translation, cast)
            yield translation


class Progress:
    """Counts network evaluations against the number that all key frames will take."""

    def __init__(self, studio: Studio, shots: Sequence[Sequence[int]], finished: int) -> None:
        executed = len(studio.schedule)
        first = executed + studio.parts.start.evaluations(executed)
        again = executed - studio.fork() if studio.parts.constraint else 0
        palette = studio.parts.sampling.steps if studio.parts.sampling.recolor else 0
        costs = [
            first + (again if ordinal else palette)
            for shot in shots
            for ordinal in range(len(shot))
        ]
        self.watch, self.done, self.total = studio.watch, 0, sum(costs[finished:])

    def evaluated(self, ask: Ask) -> None:
        self.done += ask.spared if ask.query is None else 1
        self.watch.advance("translate", self.done, self.total, ask.note)
