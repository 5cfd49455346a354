"""A job: one composed configuration, built and checked."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields, replace
from typing import Annotated, Any

import yaml
from pydantic import Field

from eval.contracts import Metric
from rerender.codec import FormatName
from rerender.config.allowlist import LISTS
from rerender.config.build import construct, unknown_key
from rerender.config.parts import Parts
from rerender.contracts import Checkpoint, Data, Tracker
from rerender.data.ranges import in_time
from rerender.errors import ConfigError
from rerender.kinds import Device, Output, Told
from rerender.video import Clip

UNHASHED = ("out", "name", "tracker", "pictures", "debug", "prompt_file", "store", "devices")
Name = Annotated[str, Field(pattern=r"^[\w][\w.+-]{0,99}$")]


@dataclass(frozen=True)
class Job:
    """All that config.yaml says; its keys are these fields and those of ``Parts``.

    Attributes:
        data: where the clips come from.
        model: what denoises them.
        metrics: what is measured on the finished videos.
        tracker: where the record goes besides record.jsonl.
        parts: the method.
        seed: of all noise.
        prompts: a table of what is asked of which frames of a clip (see `rerender.data.ranges`).
        prompt, prompt_file, source_prompt, negative_prompt: texts for clips that bring none.
        out: the output folder; None for one named after the configuration.
        name: what that folder is called; None for the experiment's or the data's name.
        store: folder of the stage store; None keeps stages in the output folder while it works.
        pictures: names of the pictures that are kept on the way.
        format: in which the result is written besides mp4 (see `rerender.codec.formats`).
        debug: whether tracebacks are shown.
        devices: a process computes on each, for one clip after the other; () has none but the run's
            own, on the device of the model.
    """

    data: Data
    model: Checkpoint
    metrics: tuple[Metric, ...]
    tracker: Tracker
    parts: Parts
    seed: Annotated[int, Field(ge=0, lt=2**63)]
    prompts: Told | None
    prompt: str | None
    prompt_file: Told | None
    source_prompt: str
    negative_prompt: str
    out: Output | None
    name: Name | None
    store: Output | None
    pictures: tuple[Name, ...]
    format: FormatName
    debug: bool
    devices: Annotated[tuple[Device, ...], Field(max_length=64)] = ()

    @classmethod
    def of(cls, tree: Mapping[str, Any]) -> Job:
        """The job that a resolved configuration describes.

        Raises:
            ConfigError: an unknown key, a value out of range, choices that do not go together.
        """
        chosen = {**{key: {} for key in LISTS}, **tree}
        inner = [field.name for field in fields(Parts)]
        known = {field.name for field in fields(cls)} - {"parts"} | set(inner)
        for key in chosen:
            if key not in known:
                raise unknown_key(key, key, known)
        for key in inner:
            if chosen.get(key) is None:
                raise ConfigError(key, "nothing is chosen", f"choose one: {key}=NAME")
        parts = construct(Parts, {key: chosen[key] for key in inner}, "")
        rest = {key: value for key, value in chosen.items() if key not in inner}
        job = construct(cls, {**rest, "parts": parts}, "")
        return job.on(job.devices[0]) if job.devices else job

    def on(self, device: str) -> Job:
        """The same job on one of its devices.

        Raises:
            ConfigError: its model is to be on another one or computes on the processor alone, or
                pictures are kept that other processes make.
        """
        said = getattr(self.model, "device", None)
        if said not in (None, "auto", *self.devices):
            problem = f"model.device={said} is none of them"
            raise ConfigError("devices", problem, "leave out one of the two")
        if said is None and device != "cpu":
            problem = f"this model computes on the processor, not on {device}"
            raise ConfigError("devices", problem, "leave it out, or devices=[cpu,cpu]")
        if more := set(self.pictures) - {"keys"}:
            problem = f"pictures of {', '.join(sorted(more))} are kept by a run on one device alone"
            raise ConfigError("pictures", problem, "leave out devices=… or these pictures")
        if said is None:
            return self
        return replace(self, model=replace(self.model, device=device))  # type: ignore[type-var]

    def clips(self) -> Sequence[Clip]:
        """The clips of ``data``, with what is asked of them when."""
        clips = self.data.clips()
        table = self.prompts
        return clips if table is None else [in_time(clip, table) for clip in clips]


def key_of(job: Mapping[str, Any]) -> str:
    """A hash of everything in a configuration that decides the result's bytes."""
    deciding = {key: value for key, value in job.items() if key not in UNHASHED}
    return hashlib.sha256(json.dumps(deciding, sort_keys=True).encode()).hexdigest()


def to_yaml(job: Mapping[str, Any]) -> str:
    """A configuration as text that `from_yaml` reads back."""
    return yaml.safe_dump(dict(job), sort_keys=False, allow_unicode=True, width=100)


def from_yaml(text: str) -> Any:
    """What a configuration file of ours says."""
    return yaml.safe_load(text)
