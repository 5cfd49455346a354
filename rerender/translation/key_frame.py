"""How one key frame is translated under its constraints (Rerender §4.1), as a job that asks for
network evaluations. A constraint that needs a draft costs a second pass, but only from its first
step on: up to there the passes are one.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterator, Sequence
from dataclasses import dataclass, replace

from torch import Tensor

from rerender.config.parts import Parts
from rerender.contracts import Condition, Constraint, InitialLatent, Model, Schedule, StartContext
from rerender.flow.field import Flow, colored
from rerender.scene import Noise, Reference, Scene, Trace, Translation, Watch
from rerender.translation.denoise import (
    Ask,
    BoundEdits,
    DenoisingTask,
    Position,
    Recorder,
    denoise,
    start,
)
from rerender.translation.lanes import run
from rerender.translation.noise import keyed
from rerender.translation.recolor import recolor
from rerender.translation.references import References
from rerender.video import Clip, KeyFrame

Draw = Callable[[KeyFrame], Noise]
"""The noise of a key frame; the default is `rerender.translation.noise.keyed`."""

Work = Generator[Ask, Tensor | None, Translation]


@dataclass(frozen=True)
class Studio:
    """What the key frames of one clip have in common."""

    clip: Clip
    model: Model
    parts: Parts
    seed: int
    watch: Watch
    draw: Draw | None = None

    @property
    def schedule(self) -> Schedule:
        return self.parts.sampling.schedule(self.parts.sampler, self.model)

    def fork(self) -> int:
        """The first step in which a final pass may differ from its draft."""
        starts = [self.parts.sampling.window(c).start for c in self._drafting()]
        return min(starts, default=len(self.schedule))

    def _acting(self) -> list[Constraint]:
        """Constraints that act in some executed step; the others are never bound, since what they
        wait for, such as a draft, need not come."""
        return [c for c in self.parts.constraint if self.parts.sampling.window(c)]

    def _drafting(self) -> list[Constraint]:
        """Constraints that need a draft and act at all."""
        return [c for c in self._acting() if c.needs_draft]

    def jobs(
        self,
        shot: Sequence[int],
        number: int,
        palette: Tensor | None,
        first: int = 0,
        cast: References | None = None,
    ) -> Iterator[Work]:
        """One job for each key frame of a shot from the ``first``-th on; each refers to those
        before it, the first one to ``cast``."""
        for ordinal, index in enumerate(shot[first:], first):
            layers = self._remembered_layers(ordinal)
            dtype, device = self.parts.sampling.storage()
            translation = Translation(self._key(index, number), Trace(dtype=dtype, device=device))
            yield self._work(translation, cast, palette, Recorder(translation.trace, layers))
            cast = self.next_cast(translation, cast, ordinal)

    def next_cast(
        self, translation: Translation, before: References | None, ordinal: int
    ) -> References:
        """What the key frame after the ``ordinal``-th of a shot refers to."""
        return References.after(translation, before, bool(self._remembered_layers(ordinal)))

    def palette(self, index: int, shot: int, report: Callable[[Ask], None]) -> Tensor | None:
        """A first result from pure noise, whose colours the source will take; None where it is to
        keep its own."""
        if not self.parts.sampling.recolor:
            return None
        studio = replace(self, parts=self.parts.from_noise())
        jobs = studio.jobs([index], shot, None)
        result: Translation = next(run(jobs, self.model.predict_noise, 1, report))
        return result.image

    def _remembered_layers(self, ordinal: int) -> frozenset[str]:
        constraints = self.parts.constraint
        return frozenset(
            layer.name
            for layer in self.model.layers()
            if any(constraint.remembers(layer, ordinal) for constraint in constraints)
        )

    def _key(self, index: int, shot: int) -> KeyFrame:
        image = self.clip.video[index]
        controls = tuple(control.map(image) for control in self.parts.control)
        for control, map_ in zip(self.parts.control, controls, strict=True):
            self.watch.picture(f"control_{control.name}", index, map_)
        return KeyFrame(index, image, controls, shot)

    def _work(
        self, own: Translation, cast: References | None, palette: Tensor | None, recorder: Recorder
    ) -> Work:
        """Translate one key frame: (draft,) final pass, decode."""
        task, opening = yield from self._begin(own.key, palette, cast)
        position, noise = start(opening), task.noise
        last, fork = len(task.schedule), self.fork()
        if cast is None or not self.parts.constraint:
            position = yield from denoise(task, position, last, (), recorder)
        else:
            scene = self._scene(own.key, cast, noise)
            bound = self._bind(scene)
            position = yield from denoise(task, position, fork, bound, recorder)
            if fork < last:
                draft = yield from denoise(task, position, last, bound)
                image = self.model.decode(draft.noisy)
                yield Ask(lambda: cast.previous.trace.image is not None, None)
                bound = self._bind(replace(scene, draft=image), bound)
                position = yield from denoise(task, position, last, bound, recorder)
        return self._finished(own, position)

    def _finished(self, own: Translation, end: Position) -> Translation:
        """The translation with its latent and its image."""
        own.trace.latent = end.noisy
        own.trace.image = self.model.decode(end.noisy).cpu()
        self.watch.picture("keys", own.key.index, own.image)
        return own

    def _begin(
        self, key: KeyFrame, palette: Tensor | None, cast: References | None
    ) -> Generator[Ask, Tensor | None, tuple[DenoisingTask, Tensor]]:
        """All that lasts over a key frame, and the latent that its passes begin with."""
        source = key.image if palette is None else recolor(key.image, palette)
        latent = self.model.encode(source)
        task = self._task(key, self._noise(key, latent), cast)
        stage = StartContext(
            key=key,
            distance=key.index - cast.anchor.key.index if cast else 0,
            latent=latent,
            noise=task.noise,
            schedule=task.schedule,
            weights=task.weights,
            guidance=task.guidance,
            condition=task.condition,
            source=lambda: self._told(key, self.clip.source_prompt),
            pure=self.parts.sampling.strength is None,
        )
        opening = yield from self._open(stage)
        return replace(task, texts=opening.texts), opening.noisy

    def _open(self, stage: StartContext) -> Generator[Ask, Tensor | None, InitialLatent]:
        """What the start makes of the stage; it waits for nobody."""
        start, asked = self.parts.start, 0
        begun, answer = start.begin(stage), None
        while True:
            try:
                query = next(begun) if answer is None else begun.send(answer)
            except StopIteration as stop:
                opening: InitialLatent = stop.value
                break
            asked += 1
            answer = yield Ask(lambda: True, query, f"key frame {stage.key.index}, start")
        if spared := start.evaluations(len(stage.schedule)) - asked:
            yield Ask(lambda: True, None, spared=spared)
        return opening

    def _noise(self, key: KeyFrame, latent: Tensor) -> Noise:
        if self.draw is not None:
            return self.draw(key)
        frame = key.index if self.parts.sampling.noise == "per_frame" else None
        return keyed(self.seed, tuple(latent.shape), frame)

    def _told(self, key: KeyFrame, prompt: str) -> Condition:
        negative, guided = self.clip.negative_prompt, self.parts.sampling.guided
        return self.model.condition(prompt, negative, key.controls, guided)

    def _task(self, key: KeyFrame, noise: Noise, cast: References | None) -> DenoisingTask:
        sampling, schedule = self.parts.sampling, self.schedule
        windows = [(c.weight, sampling.window(c)) for c in self.parts.control]
        weights = [
            tuple(weight if step in window else 0.0 for weight, window in windows)
            for step in range(len(schedule))
        ]
        return DenoisingTask(
            schedule=schedule,
            sampler=self.parts.sampler,
            condition=self._told(key, self.clip.prompt),
            weights=weights,
            guidance=sampling.guidance,
            noise=noise,
            ready=_readiness(cast, self.parts.constraint),
            label=f"key frame {key.index}",
        )

    def _scene(self, key: KeyFrame, cast: References, noise: Noise) -> Scene:
        anchor = self._reference(key, cast.anchor)
        same = cast.previous is cast.anchor
        previous = anchor if same else self._reference(key, cast.previous)
        return Scene(key, anchor, previous, cast.remembered, noise, self.watch)

    def _reference(self, key: KeyFrame, earlier: Translation) -> Reference:
        def estimate() -> Flow:
            flow = self.parts.flow.between(key, earlier.key)
            if self.watch.wants("flow"):
                self.watch.picture("flow", key.index, colored(flow))
            return flow

        return Reference(earlier, estimate)

    def _bind(self, scene: Scene, early: Sequence[BoundEdits] = ()) -> list[BoundEdits]:
        """The edits of every acting constraint that can act yet, in the configured order; those
        that were bound before there was a draft are taken over from ``early``."""
        drafting, before = self._drafting(), iter(early)
        chosen = self._acting()
        if scene.draft is None:
            return [self._bound(c, scene) for c in chosen if c not in drafting]
        return [self._bound(c, scene) if c in drafting else next(before) for c in chosen]

    def _bound(self, constraint: Constraint, scene: Scene) -> BoundEdits:
        return BoundEdits(
            self.parts.sampling.window(constraint), constraint.bind(scene, self.model)
        )


def _readiness(cast: References | None, constraint: Sequence[Constraint]) -> Callable[[int], bool]:
    """Whether the key frames that constraints look back at have settled a step."""
    if cast is None or not constraint:
        return lambda step: True
    traces = [cast.anchor.trace, cast.remembered.trace]
    if any(each.needs_previous for each in constraint):
        traces.append(cast.previous.trace)
    return lambda step: all(trace.settled > step for trace in traces)
