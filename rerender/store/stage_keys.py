"""What decides each stage of a clip: the keys under which the stage store keeps it.

A stage's key holds the content of the clip, the configuration of the parts it uses with the files
that they name, the digest of the weights, the code that it runs, the versions of the libraries, and
the keys of the stages before it. Whatever else changes, the stage is taken from the store.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import torch

from rerender.config.job import Job
from rerender.config.parts import Parts
from rerender.contracts import Checkpoint
from rerender.fitting import fit_clip
from rerender.store.cache import key
from rerender.store.checkpoint import Loading, Loras
from rerender.store.provenance import code_of, targets, versions
from rerender.store.run_identity import Identity, content_of, inputs_of
from rerender.video import Clip

FILLING = ("flow", "propagation", "blend_source", "smooth", "mask")  # the second half of the method
TRANSLATING = tuple(
    each.name
    for each in fields(Parts)
    if each.name not in ("propagation", "blend_source", "smooth", "mask")
)
Tree = Mapping[str, Any]


@dataclass(frozen=True)
class Stages:
    """The keys of the stages of one clip.

    Attributes:
        tree: the run's resolved configuration.
        identity: what decides the run.
        clip: the clip as it is processed.
        weights: digest of the model's weights.
        device: what computes, with its number of threads where that is the processor.
        regional: key frames are translated otherwise outside of the region of the mask, or told it.
        adapted: digests of the weights with the LoRAs of ranges.
    """

    tree: Tree
    identity: Identity
    clip: Clip
    weights: str
    device: str
    regional: bool = False
    adapted: Mapping[Loras, str] = field(default_factory=dict)

    @cached_property
    def parts(self) -> tuple[Stages, ...]:
        """Those of the ranges of the clip, each of which is translated for itself; itself alone
        where the prompt does not change."""
        ranges = self.clip.ranges
        return tuple(self._part(number) for number in range(len(ranges))) if ranges else (self,)

    def _part(self, number: int) -> Stages:
        strength, tree = self.clip.ranges[number].strength, self.tree
        if strength is not None:
            tree = {**tree, "sampling": {**tree["sampling"], "strength": strength}}
        weights = self.adapted.get(self.clip.ranges[number].loras, self.weights)
        return replace(self, clip=self.clip.part(number), tree=tree, weights=weights)

    @cached_property
    def keys(self) -> str:
        """The key of the translated key frames; what a mask keeps of the source changes none."""
        if self.clip.ranges:
            return key(ranges=[part.keys for part in self.parts])
        regional = ("mask",) if self.regional else ()
        return key(
            clip=self._clip(),
            seed=self.tree.get("seed"),
            weights=self.weights,
            device=self.device,
            **self._used(
                (*TRANSLATING, *regional, "model"),
                ("rerender.translate", "rerender.translation.joint"),
            ),
        )

    @cached_property
    def video(self) -> str:
        """The key of the finished video."""
        modules = ["rerender.pipeline", "rerender.propagate", "rerender.codec.encode"]
        form = {}
        if self.tree.get("format", "mp4") != "mp4":
            form = {"format": self.tree["format"]}
            modules.append("rerender.codec.master")
        return key(
            keys=self.keys,
            full=self._full,
            fades=self._fades(),
            **form,
            **self._used(FILLING, modules),
        )

    def score(self, metric: str, version: str, video: str) -> str:
        """The key of what a metric says of a video (see `score_key`)."""
        return score_key(self.tree, metric, version, self.clip, self._compared, video)

    @cached_property
    def _compared(self) -> str:
        return self.clip.output.digest()

    @cached_property
    def _content(self) -> str:
        return self.clip.video.digest()

    @cached_property
    def _full(self) -> str | None:
        return None if self.clip.full is None else self.clip.full.digest()

    def _fades(self) -> list[tuple[int, int]]:
        return [(each.start, each.fade) for each in self.clip.ranges]

    def _clip(self) -> dict[str, str]:
        return {"video": self._content, **_prompts(self.clip)}

    def _used(self, groups: Sequence[str], modules: Sequence[str]) -> dict[str, Any]:
        """Configuration, files, code and libraries of some groups of parts."""
        config = {group: self.tree.get(group) for group in groups}
        inputs = {
            name: digest
            for name, digest in self.identity.inputs.items()
            if name.partition(".")[0] in groups
        }
        # Clips are read by the code of their data, whatever happens to them then.
        found = {*modules, *targets(config), *targets(self.tree.get("data")), "rerender.fitting"}
        return {
            "config": config,
            "inputs": inputs,
            "code": code_of(found),
            "versions": versions(),
        }


def score_key(tree: Tree, metric: str, version: str, clip: Clip, compared: str, video: str) -> str:
    """The key of what a metric says of a video, for runs and for folders of results.

    The device and its number of threads are no part of it: a value that was measured on others is
    taken, though its last digits may differ.

    Args:
        tree: a configuration, of which data, flow and metrics count.
        metric: its key in the configuration.
        version: of the metric's definition.
        clip: the source and what is asked of it.
        compared: digest of the frames that the video is compared with, the clip's ``output``.
        video: sha256 of the video file, or what names other contents of results.
    """
    config = {"flow": tree.get("flow"), "metric": tree["metrics"][metric]}
    code = {"eval.measure", "rerender.fitting", *targets(config), *targets(tree.get("data"))}
    masks = [content_of(Path(clip.masks)), clip.first_frame] if clip.masks else []
    return key(
        clip={"video": compared, **_prompts(clip)},
        ranges=repr(clip.ranges),
        masks=masks,
        version=version,
        video=video,
        config=config,
        inputs=inputs_of(config),
        code=code_of(code),
        versions=versions(),
    )


def _prompts(clip: Clip) -> dict[str, str]:
    return {
        "prompt": clip.prompt,
        "source_prompt": clip.source_prompt,
        "negative_prompt": clip.negative_prompt,
    }


def stages_of(job: Job, tree: Tree, identity: Identity, clip: Clip, loading: Loading) -> Stages:
    """The stages of one of a job's clips, which is brought to the size at which it is processed."""
    full = job.data.output == "source"
    clip = fit_clip(clip, job.data.size, loading.size_multiple, full)
    device = device_of(job.model)
    if device.startswith("cuda"):  # another kind computes other bits
        device = torch.cuda.get_device_name(device)
    elif device == "cpu":  # and so do more threads, which add up parts of sums
        device = f"cpu, {torch.get_num_threads()} threads"
    regional = job.parts.mask.regional or job.model.inpaints()
    sets = {asked.loras for asked in clip.ranges if asked.loras}
    adapted = {loras: loading.adapted(loras).digest for loras in sets}
    return Stages(tree, identity, clip, loading.digest, device, regional, adapted)


def device_of(checkpoint: Checkpoint) -> str:
    """Where the model computes, and metrics with it."""
    chosen = str(getattr(checkpoint, "device", "cpu"))
    if chosen != "auto":
        return chosen
    return "cuda" if torch.cuda.is_available() else "cpu"
