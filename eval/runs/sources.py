"""The clips that results were made of, found through the configurations of runs."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from eval.contracts import Metric
from eval.results import Outcome
from rerender.config.foreign import check_recorded
from rerender.config.job import Job
from rerender.contracts import FlowEstimator
from rerender.errors import InputError, RerenderError
from rerender.fitting import fit_clip
from rerender.video import Clip

_MULTIPLE = 8  # sides of the frames that are compared, as for most models
_PROMPTED = ": "  # between the names of a video and its prompt where it has several
_DECIDING = ("data", "prompts", "prompt", "source_prompt", "negative_prompt")
USED = ("data", "flow", "metrics")
"""The keys of a run's configuration that measuring it acts on."""
Tree = Mapping[str, Any]


@dataclass(frozen=True)
class Protocol:
    """What is measured, and on which clips.

    Attributes:
        clips: by name.
        metrics, flow: as for `eval.measure.score`.
        tree: the configuration of all three: data, metrics, flow.
    """

    clips: Mapping[str, Clip]
    metrics: tuple[Metric, ...]
    flow: FlowEstimator
    tree: Tree

    @classmethod
    def of(cls, tree: Tree) -> Protocol:
        """The protocol that a run's configuration describes.

        Raises:
            RerenderError: the configuration is of another version, its clips are not there, or it
                says what only the command line may say.
        """
        check_recorded(tree, USED)
        job = Job.of(tree)
        full = job.data.output == "source"
        fitted = (fit_clip(clip, job.data.size, _MULTIPLE, full) for clip in job.clips())
        clips = {clip.name: replace(clip, video=clip.output, full=None) for clip in fitted}
        return cls(clips, job.metrics, job.parts.flow, tree)


class Sources:
    """The protocol and the clip of every outcome; each way of asking for clips is opened once.

    Where one clip is there with several prompts, its name is followed by the prompt.

    Args:
        tree: configuration whose clips, metrics and flow hold for all outcomes; None where each
            run's own clips hold, with the metrics and the flow of the first run.
        outcomes: the finished videos.
    """

    def __init__(self, tree: Tree | None, outcomes: Sequence[Outcome]) -> None:
        self._tree = tree
        self._base = tree or next((o.config for o in outcomes if o.config is not None), None)
        self._opened: dict[str, Protocol | RerenderError] = {}
        for config in [self._base, *(outcome.config for outcome in outcomes)]:
            if config is not None:
                self._open(self._tree or config)
        prompts = defaultdict(set)
        for protocol in self.protocols():
            for clip in protocol.clips.values():
                prompts[clip.name].add(clip.prompt)
        self._several = {name for name, asked in prompts.items() if len(asked) > 1}

    @property
    def known(self) -> bool:
        """Whether any configuration says what the clips are."""
        return self._base is not None

    def protocols(self) -> list[Protocol]:
        """All protocols that could be opened, the one whose metrics hold first."""
        return [found for found in self._opened.values() if isinstance(found, Protocol)]

    def named(self, clip: Clip) -> Clip:
        """A clip under the name that it has in score rows."""
        return (
            replace(clip, name=f"{clip.name}{_PROMPTED}{clip.prompt}")
            if clip.name in self._several
            else clip
        )

    def every(self) -> Iterator[tuple[Protocol, Clip]]:
        """Each clip once, under its name in score rows."""
        seen = set()
        for protocol in self.protocols():
            for clip in map(self.named, protocol.clips.values()):
                if clip.name not in seen:
                    seen.add(clip.name)
                    yield self._measured(protocol), clip

    def find(self, outcome: Outcome) -> tuple[Protocol, Clip]:
        """What an outcome is measured against.

        Raises:
            RerenderError: its clip is not known, or its configuration cannot be opened.
        """
        own = self._tree or outcome.config or self._base or {}
        protocol = self._open(own)
        if isinstance(protocol, RerenderError):
            raise protocol
        if outcome.clip is None and len(protocol.clips) == 1:
            clip = next(iter(protocol.clips.values()))
        elif outcome.clip is not None and outcome.clip in protocol.clips:
            clip = protocol.clips[outcome.clip]
        else:
            problem = f"belongs to clip {outcome.clip!r}, which is not among the sources"
            known = ", ".join(protocol.clips) or "none"
            raise InputError(outcome.path, problem, f"rename it; sources are: {known}")
        return self._measured(protocol), self.named(clip)

    def _measured(self, protocol: Protocol) -> Protocol:
        """A protocol with the metrics and the flow that hold for all."""
        first = self.protocols()[0]
        tree = {**protocol.tree, **{each: first.tree.get(each) for each in ("metrics", "flow")}}
        return replace(protocol, metrics=first.metrics, flow=first.flow, tree=tree)

    def _open(self, tree: Tree) -> Protocol | RerenderError:
        key = json.dumps({name: tree.get(name) for name in _DECIDING}, sort_keys=True, default=str)
        if key not in self._opened:
            try:
                self._opened[key] = Protocol.of(tree)
            except RerenderError as error:
                self._opened[key] = error
            except KeyError as error:
                cure = "name the clips: data=video data.path=FILE"
                self._opened[key] = InputError("config.yaml", f"says nothing of {error}", cure)
        return self._opened[key]


def video_of(clip: Clip) -> str:
    """The name of the video that a clip is one prompt of, as `Sources.named` gave it; "" where its
    name is that of its video."""
    name = clip.name.removesuffix(f"{_PROMPTED}{clip.prompt}")
    return "" if name == clip.name else name
