"""Prompts that change over time: each range is translated and filled as a clip of its own, with its
own anchor, and the ranges are joined, at once or by a cross-fade.

So a range depends on no other: another prompt in one leaves the key frames of all others alone.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from functools import cache, partial
from itertools import chain

from torch import Tensor

from rerender.config.parts import Parts
from rerender.contracts import Model, Workers
from rerender.errors import ConfigError
from rerender.propagate import propagate
from rerender.propagate.detail import enlarged
from rerender.scene import Translation, Watch
from rerender.translate import translate
from rerender.translation.divided import divided
from rerender.translation.references import ResumePoint
from rerender.video import Clip, PromptRange


class RangeWatch(Watch):
    """Tells another watch of a range in the frame numbers of the whole clip."""

    def __init__(self, watch: Watch, span: range, asked: PromptRange, total: int) -> None:
        self._watch, self._span, self._asked, self._total = watch, span, asked, total

    def advance(self, stage: str, done: int, total: int, note: str = "") -> None:
        if stage == "propagate":
            done, total = done + self._span.start, self._total
        self._watch.advance(stage, done, total, note)

    def wants(self, name: str) -> bool:
        return self._watch.wants(name)

    def picture(self, name: str, index: int, image: Tensor) -> None:
        frame = index + self._span.start
        if self._asked.start <= frame < self._asked.stop:  # in a fade the other range has it
            self._watch.picture(name, frame, image)


def translated(
    clip: Clip,
    model: Model | Callable[..., Model],
    parts: Parts,
    seed: int,
    watch: Watch | None,
    resume: ResumePoint,
    workers: Workers | None = None,
) -> Iterator[Translation]:
    """The key frames of all ranges, one range after the other (arguments as
    `rerender.pipeline.render`)."""
    shots = cache(lambda: parts.keyframes.pick(clip.video))

    def keys(number: int) -> Iterator[Translation]:
        own, others = resume.part(number), _of(workers, number)
        return range_keys(number, clip, shots, model, parts, seed, watch, own, others)

    return chain.from_iterable(map(keys, range(len(clip.ranges))))


def range_keys(
    number: int,
    clip: Clip,
    shots: Callable[[], Sequence[Sequence[int]]],
    model: Model | Callable[..., Model],
    parts: Parts,
    seed: int,
    watch: Watch | None,
    resume: ResumePoint,
    workers: Workers | None = None,
) -> Iterator[Translation]:
    """The key frames of a range, as they are finished.

    Args:
        number: of the range.
        clip: the whole clip.
        shots: picks the key frames of the whole clip; asked where they are not known.
        model, parts, seed, watch: as of `rerender.pipeline.render`.
        resume, workers: of the range.

    Raises:
        ConfigError: the range has LoRAs, and ``model`` cannot load them.
    """
    part, asked, span = clip.part(number), clip.ranges[number], clip.spans[number]
    if asked.loras:
        if not callable(model):
            problem = "a range has LoRAs, and the model that is given is loaded already"
            raise ConfigError("model", problem, "give what loads it: a function of the LoRAs")
        model = partial(model, asked.loras)
    own = resume.shots or within(shots(), span)
    resume.begin(own)
    parts = parts.with_strength(asked.strength)
    parts = replace(parts, flow=parts.flow.open(part))
    told = RangeWatch(watch or Watch(), span, asked, len(clip.video))
    if workers is not None:
        return divided(part, own, workers, told, resume)
    return translate(part, own, model, parts, seed, told, resume=resume)


def _of(workers: Workers | None, number: int) -> Workers | None:
    return None if workers is None else workers.part(number)


def within(shots: Sequence[Sequence[int]], span: range) -> list[list[int]]:
    """The key frames of each shot that lie in a span, counted from its beginning; the first and the
    last frame of the span and of every shot in it are among them."""
    found = []
    for shot in shots:
        first, last = max(shot[0], span.start), min(shot[-1], span.stop - 1)
        if first <= last:
            inner = (index for index in shot if first < index < last)
            found.append([index - span.start for index in sorted({first, *inner, last})])
    return found


def joined(
    clip: Clip,
    model: Model | Callable[..., Model],
    parts: Parts,
    seed: int,
    watch: Watch | None,
    resume: ResumePoint,
    workers: Workers | None = None,
) -> Iterator[Tensor]:
    """The frames of a clip from ``resume.first`` on, each as its range asks for it.

    Over a fade of F frames the k-th, from 1, is ``(1 - w) before + w after`` with w = k / (F + 1).
    """
    running: dict[int, Iterator[Tensor]] = {}
    spans, shots = clip.spans, cache(lambda: parts.keyframes.pick(clip.video))

    def frames(number: int) -> Iterator[Tensor]:
        part, span, own = clip.part(number), spans[number], resume.part(number)
        others = _of(workers, number)
        keys = range_keys(number, clip, shots, model, parts, seed, watch, own, others)
        if span.stop <= resume.first:
            deque(keys, maxlen=0)  # they are all finished, and shown again
            return iter(())
        told = RangeWatch(watch or Watch(), span, clip.ranges[number], len(clip.video))
        first, flow = max(resume.first - span.start, 0), parts.flow.open(part)
        keys = enlarged(keys, part)
        video, filling = part.output, parts.propagation
        return propagate(video, keys, filling, flow, told, first=first, workers=others)

    for number, span in enumerate(spans):
        if span.stop <= resume.first:
            frames(number)
    for index in range(resume.first, len(clip.video)):
        seen = [number for number, span in enumerate(spans) if index in span]
        for number in seen:
            if number not in running:
                running[number] = frames(number)
        images = [next(running[number]) for number in seen]
        if len(seen) == 2:
            asked = clip.ranges[seen[1]]
            weight = (index - asked.begin + 1) / (asked.fade + 1)
            yield (1 - weight) * images[0] + weight * images[1]
        else:
            yield images[0]
        for number in seen:
            if index == spans[number].stop - 1:
                deque(running.pop(number), maxlen=0)  # it comes to its own end
    resume.close()
