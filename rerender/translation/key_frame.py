"""How one key frame is translated under its constraints (Rerender §4.1), as a coroutine that asks
for network evaluations. A constraint that needs a draft costs a second pass, but only from its
first step on: up to there the passes are one.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace

from torch import Tensor

from rerender.config.parts import Parts
from rerender.contracts import (
    Condition,
    Constraint,
    FlowEstimator,
    Model,
    NoiseRequest,
    Schedule,
    StartContext,
)
from rerender.flow.field import Flow, colored
from rerender.scene import Noise, Reference, Scene, State, Trace, Translation, Watch
from rerender.translation.ahead import FlowAhead
from rerender.translation.denoise import BoundEdits, DenoisingTask, Recorder, denoise
from rerender.translation.finite import finite
from rerender.translation.joint import JointShot
from rerender.translation.lanes import KeyFrameCoroutine, Report, Wait
from rerender.translation.noise import keyed
from rerender.translation.placement import PlacedFlow, control_map, moved, placed
from rerender.translation.recolor import recolor
from rerender.translation.references import References
from rerender.translation.region import Region
from rerender.video import Clip, Frame, KeyFrame

Draw = Callable[[KeyFrame], Noise]
"""The noise of a key frame; the default is `rerender.translation.noise.keyed`."""


def too_little_seen(flow: FlowEstimator, floor: float | None, key: Frame, anchor: Frame) -> bool:
    """Whether less than a share ``floor`` of a key frame is visible in its anchor; None is never
    too little."""
    return floor is not None and 1 - float(flow.between(key, anchor).occluded.mean()) < floor


@dataclass(frozen=True)
class KeyFrameTranslator:
    """Translates the key frames of one clip.

    Attributes:
        clip: the video and its prompts.
        model: what denoises.
        parts: controls, sampler, sampling, start, flow (opened for this clip) and constraints.
        seed: of all noise.
        watch: told of progress, shown pictures.
        draw: other noise than the seed's.
        joint: the shot whose key frames are denoised jointly; None denoises one after the other.
        region: where key frames are translated otherwise than outside; None is everywhere alike.
        imagined: a picture ``[3,H,W]`` sampled from the prompt, of which controls that imagine make
            their maps; None makes them of the frames.
    """

    clip: Clip
    model: Model
    parts: Parts
    seed: int
    watch: Watch
    draw: Draw | None = None
    joint: JointShot | None = None
    region: Region | None = None
    imagined: Tensor | None = None

    @property
    def schedule(self) -> Schedule:
        """The executed steps."""
        return self.parts.sampling.schedule(self.parts.sampler, self.model)

    def fork(self) -> int:
        """The first step in which a final pass may differ from its draft."""
        starts = [self.parts.sampling.window(c).start for c in self._drafting()]
        return min(starts, default=len(self.schedule))

    def coroutines(
        self,
        shot: Sequence[int],
        number: int,
        color_reference: Tensor | None,
        first: int = 0,
        references: References | None = None,
    ) -> Iterator[KeyFrameCoroutine]:
        """One coroutine for each key frame of a shot from the ``first``-th on; each refers to those
        before it, the first one to ``references``.

        Args:
            shot: frame numbers of its key frames.
            number: of the shot.
            color_reference: a picture whose colours the source takes first; None keeps its own.
            first: ordinal of the first key frame to translate.
            references: what that one refers to.
        """
        # Flow on the model's device is queued there, and does not hold up a thread of its own.
        alone = self.model.device.type == "cpu" or isinstance(self.parts.flow, PlacedFlow)
        if alone or not self.parts.sequential:
            yield from self._coroutines(shot, number, color_reference, first, references)
            return
        own = replace(self, parts=replace(self.parts, flow=FlowAhead(self.parts.flow)))
        yield from own._coroutines(shot, number, color_reference, first, references)

    def _coroutines(
        self,
        shot: Sequence[int],
        number: int,
        color_reference: Tensor | None,
        first: int,
        references: References | None,
    ) -> Iterator[KeyFrameCoroutine]:
        following: Frame | None = None
        for ordinal, index in enumerate(shot[first:], first):
            layers = self._remembered_layers(ordinal)
            if self.parts.sampling.reanchor is not None:  # each may become the anchor
                layers |= self._remembered_layers(0)
            dtype, device = self.parts.sampling.storage()
            key = self._key(following or Frame(index, self.clip.video[index]), number)
            translation = Translation(key, Trace(dtype=dtype, device=device))
            recorder = Recorder(translation.trace, layers)
            references = self.reanchored(key, references)
            following = None
            if isinstance(self.parts.flow, FlowAhead) and ordinal + 1 < len(shot):
                after = shot[ordinal + 1]
                following = Frame(after, self.clip.video[after])
                anchor = references.anchor.key if references else key
                self.parts.flow.expect(following, anchor, "anchor")
                self.parts.flow.expect(following, key, "previous")
            yield self.translate(translation, references, color_reference, recorder)
            references = self.next_references(translation, references, ordinal)

    def next_references(
        self, translation: Translation, before: References | None, ordinal: int
    ) -> References:
        """What the key frame after the ``ordinal``-th of a shot refers to."""
        return References.after(translation, before, bool(self._remembered_layers(ordinal)))

    def reanchored(self, key: KeyFrame, references: References | None) -> References | None:
        """The references of a key frame, with the key frame before it as the anchor where too
        little of the old anchor is seen in it. That one was made with the old anchor, so what is
        handed on does not jump."""
        floor = self.parts.sampling.reanchor
        if references is None or not self.parts.sequential:
            return references
        if references.anchor is references.previous:
            return references
        if not too_little_seen(self.parts.flow, floor, key, references.anchor.key):
            return references
        old, anchor = references.anchor, references.previous
        remembered = anchor if references.remembered is old else references.remembered
        return replace(references, anchor=anchor, remembered=remembered)

    def color_reference(self, index: int, shot: int, report: Report) -> Tensor | None:
        """A first result from pure noise, whose colours the source will take; None where it is to
        keep its own."""
        if not self.parts.sampling.recolor:
            return None
        return self._alone(self.parts.from_noise(), index, shot, report)

    def imagining(self, index: int, shot: int, report: Report) -> KeyFrameTranslator:
        """The translator with a picture sampled from the prompt alone, where a control makes its
        map of one: it is the same for all key frames."""
        if not any(control.imagines for control in self.parts.control):
            return self
        return replace(self, imagined=self._alone(self.parts.uncontrolled(), index, shot, report))

    def _alone(self, parts: Parts, index: int, shot: int, report: Report) -> Tensor:
        """The picture of a key frame that refers to no other."""
        (alone,) = replace(self, parts=parts, joint=None).coroutines([index], shot, None)
        request = next(alone)
        while isinstance(request, NoiseRequest):  # nothing that it would have to wait for
            (noise,) = self.model.predict_noise([request])
            report(1, request.note)
            request = alone.send(noise)
        assert isinstance(request, Translation)
        return request.image

    def translate(
        self,
        own: Translation,
        references: References | None,
        color_reference: Tensor | None,
        recorder: Recorder,
    ) -> KeyFrameCoroutine:
        """Translate one key frame: (draft,) final pass, decode.

        Args:
            own: the key frame and its empty trace, which is filled.
            references: the key frames that it refers to; None of the first one of a shot.
            color_reference: a picture whose colours the source takes first; None keeps its own.
            recorder: keeps what later key frames need.
        """
        model, parts, key = self.model, self.parts, own.key
        source = key.image if color_reference is None else recolor(key.image, color_reference)
        latent = model.encode(source)
        task = self._task(key, self._noise(key, latent), references)
        context = self._start_context(key, latent, task, references)
        initial = yield from parts.start.begin(context)
        if skipped := parts.start.evaluations(len(task.schedule)) - initial.evaluations:
            yield Wait(lambda: True, skipped)
        task = replace(task, prompt_embeds=initial.prompt_embeds)
        state, last, fork = task.beginning(initial.noisy), len(task.schedule), self.fork()
        bound = self.joint.bound(key.index) if self.joint else []
        if self.region is not None:
            bound += self.region.edits(key, latent, task)
        if references is None or not parts.constraint:
            state = yield from denoise(task, state, last, bound, recorder)
            yield self._finished(own, state)
            return
        scene = self._scene(key, references, task.noise)
        early = self._bind(scene)
        state = yield from denoise(task, state, fork, [*bound, *early], recorder)
        if fork < last:
            if parts.sampling.draft == "estimate":
                draft = own.trace.clean[fork - 1]
            else:
                draft = (yield from denoise(task, state, last, [*bound, *early])).noisy
            image = model.decode(draft)
            yield Wait(lambda: references.previous.trace.image is not None)
            edits = self._bind(replace(scene, draft=image), early)
            state = yield from denoise(task, state, last, [*bound, *edits], recorder)
        yield self._finished(own, state)

    def _finished(self, own: Translation, end: State) -> Translation:
        """The translation with its latent and its image."""
        own.trace.latent = end.noisy
        own.trace.image = finite(self.model.decode(end.noisy).cpu(), own.key.index, self.model)
        self.watch.picture("keys", own.key.index, own.image)
        return own

    def _drafting(self) -> list[Constraint]:
        """Acting constraints that need a draft."""
        return [c for c in self.parts.sequential if c.needs_draft]

    def _remembered_layers(self, ordinal: int) -> frozenset[str]:
        constraints = self.parts.sequential
        return frozenset(
            layer.name
            for layer in self.model.layers()
            if any(constraint.remembers(layer, ordinal) for constraint in constraints)
        )

    def _key(self, frame: Frame, shot: int) -> KeyFrame:
        index = frame.index
        drawn = frame if self.imagined is None else Frame(index, self.imagined.clamp(0, 1))
        controls = tuple(
            control_map(control, drawn if control.imagines else frame, self.model.device)
            for control in self.parts.control
        )
        region = None
        if self.region is not None:
            region = self.region.at(index)
            controls = self.region.controls(region, controls)
        for control, map_ in zip(self.parts.control, controls, strict=True):
            self.watch.picture(f"control_{control.name}", index, map_)
        return KeyFrame(index, frame.image, controls, shot, region)

    def _noise(self, key: KeyFrame, latent: Tensor) -> Noise:
        if self.draw is not None:
            return placed(self.draw(key), latent.device)
        frame = key.index if self.parts.sampling.noise == "per_frame" else None
        return placed(keyed(self.seed, tuple(latent.shape), frame), latent.device)

    def _condition(self, key: KeyFrame, prompt: str) -> Condition:
        negative, guided = self.clip.negative_prompt, self.parts.sampling.guided
        scale, region = self.parts.sampling.guidance, key.region
        repainted = None if region is None else self.parts.mask.repainted(region)
        return self.model.condition(
            prompt, negative, key.controls, guided, scale, key.image, repainted
        )

    def _start_context(
        self, key: KeyFrame, latent: Tensor, task: DenoisingTask, references: References | None
    ) -> StartContext:
        context = StartContext(
            key=key,
            distance=key.index - references.anchor.key.index if references else 0,
            latent=latent,
            noise=task.noise,
            schedule=task.schedule,
            conditioning_scale=task.conditioning_scale,
            guidance_scale=task.guidance_scale,
            condition=task.condition,
            source_condition=lambda: self._condition(key, self.clip.source_prompt),
            from_noise=self.parts.sampling.strength is None,
            adapter_scale=task.adapter_scale,
            label=task.label,
            image_guidance=task.image_guidance,
        )
        if self.joint is None or not self.joint.edits_inversion:
            return context
        return replace(context, edited=self.joint.inversion(key.index))

    def _task(self, key: KeyFrame, noise: Noise, references: References | None) -> DenoisingTask:
        sampling, schedule = self.parts.sampling, self.schedule
        nets = [(c.weight, sampling.window(c)) for c in self.parts.control]
        adapters = [(a.scale, sampling.window(a)) for a in self.model.adapters]
        scale, adapter_scale = (
            [
                tuple(weight if step in window else 0.0 for weight, window in windows)
                for step in range(len(schedule))
            ]
            for windows in (nets, adapters)
        )
        return DenoisingTask(
            schedule=schedule,
            sampler=self.parts.sampler,
            condition=self._condition(key, self.clip.prompt),
            conditioning_scale=scale,
            guidance_scale=sampling.guidance,
            noise=noise,
            ready=self._readiness(references),
            adapter_scale=adapter_scale,
            label=f"key frame {key.index}",
            ordinal=self.joint.ordinal(key.index) if self.joint else None,
            share=self.joint.share(key.index) if self.joint else None,
            image_guidance=sampling.image_scale,
        )

    def _readiness(self, references: References | None) -> Callable[[int], bool]:
        """Whether the key frames that constraints look back at have settled a step. In lockstep
        they have: earlier ones come first in a batch."""
        constraints = self.parts.sequential
        if references is None or not constraints or self.joint is not None:
            return lambda step: True
        traces = [references.anchor.trace, references.remembered.trace]
        if any(each.needs_previous for each in constraints):
            traces.append(references.previous.trace)
        return lambda step: all(trace.settled > step for trace in traces)

    def _scene(self, key: KeyFrame, references: References, noise: Noise) -> Scene:
        anchor = self._reference(key, references.anchor)
        same = references.previous is references.anchor
        previous = anchor if same else self._reference(key, references.previous)
        return Scene(key, anchor, previous, references.remembered, noise, self.watch)

    def _reference(self, key: KeyFrame, earlier: Translation) -> Reference:
        def estimate() -> Flow:
            flow = self.parts.flow.between(key, earlier.key)
            if self.watch.wants("flow"):
                self.watch.picture("flow", key.index, colored(flow))
            return moved(flow, self.model.device)

        return Reference(earlier, estimate)

    def _bind(self, scene: Scene, early: Sequence[BoundEdits] = ()) -> list[BoundEdits]:
        """The edits of every acting constraint that can act yet, in the configured order; those
        that were bound before there was a draft are taken over from ``early``."""
        drafting, before = self._drafting(), iter(early)
        window, bound = self.parts.sampling.window, []
        for constraint in self.parts.sequential:
            if constraint in drafting and scene.draft is None:
                continue
            if constraint not in drafting and scene.draft is not None:
                bound.append(next(before))
            else:
                bound.append(BoundEdits(window(constraint), constraint.bind(scene, self.model)))
        return bound
