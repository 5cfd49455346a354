"""Key-frame translation (Rerender §4.1): the anchor, then every key frame under its constraints.

Each key frame is a coroutine of `rerender.translation.key_frame`. They run one after the other (as
many side by side as a batch holds), or all of a shot in lockstep where a constraint is joint.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from functools import partial

from rerender.config.parts import Parts
from rerender.contracts import Model
from rerender.scene import Translation, Watch
from rerender.translation.joint import JointShot, lockstep
from rerender.translation.key_frame import Draw, KeyFrameTranslator
from rerender.translation.lanes import side_by_side
from rerender.translation.placement import placed_parts
from rerender.translation.references import ResumePoint
from rerender.translation.region import Region
from rerender.video import Clip


def translate(
    clip: Clip,
    shots: Sequence[Sequence[int]],
    model: Model | Callable[[], Model],
    parts: Parts,
    seed: int = 0,
    watch: Watch | None = None,
    draw: Draw | None = None,
    resume: ResumePoint | None = None,
) -> Iterator[Translation]:
    """Translate the key frames of a clip, in order, as they are finished.

    Args:
        clip: the video and its prompts; frames must be sized to ``model.size_multiple``.
        shots: indices of the key frames of each shot; the first of a shot is its anchor.
        model: what denoises, or what loads it: called before the first key frame that is not
            finished already.
        parts: controls, sampler, sampling, start, flow (opened for this clip) and constraints.
        seed: of all noise.
        watch: told of every network evaluation, stage ``"translate"``.
        draw: other noise than the seed's, such as recorded tensors.
        resume: key frames that are finished already are taken from here, others kept here.

    Yields:
        Translations with their images; traces are kept no longer than a later key frame needs, and
        under a joint constraint until their shot is done.

    Raises:
        ConfigError: a constraint compares with the source prompt, and the clip has none.
    """
    resume = resume or ResumePoint()
    finished, translator = resume.finished, None
    made = [(n, shot) for n, shot in enumerate(shots) if resume.only in (None, n)]
    for number, shot in made:
        known = min(finished, len(shot))
        finished -= known
        yield from (resume.recall(index, number) for index in shot[:known])
        if known == len(shot):
            continue
        if translator is None:
            if parts.joint:
                parts.check(clip)
            model = model() if callable(model) else model
            parts = placed_parts(parts, model.device, back=False)
            region = Region.of(clip, parts) if parts.mask.regional or model.inpaints else None
            watch = watch or Watch()
            parts = replace(parts, control=tuple(each.open(clip) for each in parts.control))
            translator = KeyFrameTranslator(clip, model, parts, seed, watch, draw, region=region)
            evaluations = Evaluations(translator, [shot for _, shot in made], resume.finished)
            translator = translator.imagining(shots[0][0], 0, evaluations.report)
        color_reference = translator.color_reference(shot[0], number, evaluations.report)
        if parts.joint:
            joint = JointShot.of(clip, shot, translator.model, parts, seed, translator.watch)
            coroutines = replace(translator, joint=joint).coroutines(shot, number, color_reference)
            together = partial(joint.predict, translator.model)
            turns = lockstep(coroutines, together, evaluations.report)
            known, references, resumable = 0, None, False
        else:
            references = resume.references if known else None
            coroutines = translator.coroutines(shot, number, color_reference, known, references)
            predict, batch_size = translator.model.predict_noise, parts.sampling.batch_size
            turns = side_by_side(coroutines, predict, batch_size, evaluations.report)
            # In a batch of several, later key frames are under way already: only the whole shot is
            # a state that can be gone on from with the same batches, and so with the same bytes.
            resumable = batch_size == 1
        for turn in turns:
            if not isinstance(turn, Translation):
                turn.lane.request = turn.lane.coroutine.send(turn.noise)  # type: ignore[arg-type]
                continue
            if resumable:
                references = translator.reanchored(turn.key, references)
                references = translator.next_references(turn, references, known)
            known += 1
            resume.finish(turn, references if resumable else None)
            yield turn
    resume.close()


class Evaluations:
    """Counts network evaluations against the number that all key frames will take."""

    def __init__(
        self, translator: KeyFrameTranslator, shots: Sequence[Sequence[int]], finished: int
    ) -> None:
        parts, executed = translator.parts, len(translator.schedule)
        first = executed + parts.start.evaluations(executed)
        drafted = parts.constraint and parts.sampling.draft == "full"
        again = executed - translator.fork() if drafted else 0
        recoloring = parts.sampling.steps if parts.sampling.recolor else 0
        costs = [
            first + (again if ordinal else recoloring)
            for shot in shots
            for ordinal in range(len(shot))
        ]
        imagined = any(control.imagines for control in parts.control) * parts.sampling.steps
        self.watch, self.done, self.total = translator.watch, 0, sum(costs[finished:]) + imagined

    def report(self, count: int, note: str) -> None:
        """So many evaluations are done or turned out not to be needed."""
        self.done += count
        self.watch.advance("translate", self.done, self.total, note)
