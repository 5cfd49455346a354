"""What the page asks for, as settings of the run command: the same dictionary becomes the command
line and the yaml file, so that neither says what the other does not."""

from __future__ import annotations

import csv
import hashlib
import io
import math
import re
import shlex
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator

from rerender import files
from rerender.config.overrides import escape, literal, parsed, quoted, texts_of
from rerender.config.paths import choices_of
from rerender.errors import ConfigError

CHOSEN = ("data", "data.path", "out", "name", "exp", "method", "prompt", "prompt_file", "prompts")
"""Keys that are the page's own, or would make of one run another one than the page shows."""
PROGRAM = ("python", "-m", "rerender.run")
_CONSTRAINTS = ("cross_frame", "color", "shape", "pixel")  # offered; the order in which they act
_PRESETS = ("fast", "turbo", "one_pass", "paper", "published", "seed")  # in the page's order
_COMMAND_LINE = ("out", "prompts")  # written or repeated, which no file may ask for
# Keys that decide nothing of how the others are composed.
VALUES = (
    "prompt",
    "negative_prompt",
    "seed",
    "sampling.strength",
    "sampling.steps",
    "sampler.origin_steps",
)
PREVIEWED, PREVIEW_SIZE = 21, 128  # frames, and short side in pixels with a small model
_UNPRINTED = re.compile(r"[\x00-\x1f\x7f]")
_Id = Annotated[str, Field(pattern=r"^[0-9a-f]{16}$")]
_Text = Annotated[str, Field(max_length=2000)]
_Frame = Annotated[int, Field(ge=0, le=10_000_000)]
_Strength = Annotated[float, Field(ge=0, le=1)]


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True, allow_inf_nan=False)


class AskedRange(_Strict):
    """A line of the prompt table: frames ``first`` to ``last``, from 0, both in it; ``fade`` frames
    over which the result goes over from the range before."""

    first: _Frame
    last: _Frame
    prompt: Annotated[str, Field(min_length=1, max_length=2000)]
    negative_prompt: _Text = ""
    strength: _Strength | None = None
    fade: Annotated[int, Field(ge=0, le=1000)] = 0


class StudioSettings(_Strict):
    """What the page asks for; None leaves a key as the preset or the model has it.

    Attributes:
        clip: of the studio.
        prompt: what the result should show.
        negative_prompt: what it should not show.
        preset: of conf/preset.
        strength: share of the steps, 0..1, how far to leave the source.
        constraints: which of the paper's four, in any order.
        interval: frames from one key frame to the next.
        cuts: give each shot its own anchor.
        size: short side at which the clip is processed, pixels.
        source_size: make the result at the size of the source.
        start, frames: the stretch of the clip.
        seed: of all noise.
        mask: painted on the first frame of the stretch.
        keep: what of the source stays as it is.
        feather: width of the soft rim, pixels of the result; None is that of `mask=file`.
        ranges: the prompt table.
        keys: mended key frames; then none is translated.
        score: measure the result.
    """

    clip: _Id
    prompt: Annotated[str, Field(min_length=1, max_length=2000)]
    negative_prompt: _Text = ""
    preset: str | None = "fast"
    strength: _Strength | None = None
    constraints: list[str] | None = None
    interval: Annotated[int, Field(ge=1, le=1000)] | None = None
    cuts: bool = False
    size: Annotated[int, Field(ge=32, le=4320)] | None = None
    source_size: bool = False
    start: _Frame = 0
    frames: Annotated[int, Field(ge=1, le=10_000_000)] | None = None
    seed: Annotated[int, Field(ge=0, lt=2**53)] = 0
    mask: _Id | None = None
    keep: Literal["outside", "inside"] = "outside"
    feather: Annotated[float, Field(ge=0, le=500)] | None = None
    ranges: Annotated[list[AskedRange], Field(max_length=200)] = []
    keys: _Id | None = None
    score: bool = False

    @field_validator("prompt", "negative_prompt")
    @classmethod
    def _one_line(cls, text: str) -> str:
        if _UNPRINTED.search(text) or not _is_utf8(text):
            raise ValueError("is one line of printable text")
        return text

    @model_validator(mode="after")
    def _known(self) -> StudioSettings:
        if not self.prompt.strip():
            raise ValueError("prompt: nothing is asked for")
        if self.preset is not None and self.preset not in choices_of("preset"):
            raise ValueError(f"preset: no choice {self.preset[:40]!r}")
        for name in self.constraints or ():
            if name not in _CONSTRAINTS:
                raise ValueError(f"constraints: no choice {name[:40]!r}")
        return self

    @classmethod
    def of(cls, given: Any) -> StudioSettings:
        """Settings from what a page has sent.

        Raises:
            ConfigError: an unknown key, or a value that it does not take.
        """
        try:
            return cls.model_validate(given)
        except ValidationError as error:
            first = error.errors(include_url=False, include_input=False)[0]
            where = ".".join(map(str, first["loc"])) or "settings"
            reason = str(first["msg"]).removeprefix("Value error, ")
            raise ConfigError(where[:80], reason.lower(), "correct it on the page") from error


def offered() -> dict[str, list[str]]:
    """What the page lets choose, by name."""
    known = choices_of("preset")
    return {
        "presets": [name for name in _PRESETS if name in known],
        "constraints": list(_CONSTRAINTS),
    }


def keys_of(
    asked: StudioSettings,
    path: Path,
    mask: Path | None,
    table: Path | None,
    keys: Path | None = None,
) -> dict[str, Any]:
    """Keys and choices of the configuration, in the order of the command line.

    Args:
        asked: by the page.
        path: of the clip.
        mask: of the mask that it names.
        table: where its prompt table is kept.
        keys: the folder of the mended key frames that it names.
    """
    found: dict[str, Any] = {"data": "video", "data.path": str(path), "prompt": asked.prompt}
    optional = {
        "negative_prompt": asked.negative_prompt or None,
        "preset": asked.preset,
        "sampling.strength": asked.strength,
        "data.start": asked.start or None,
        "data.frames": asked.frames,
        "data.size": asked.size,
        "data.output": "source" if asked.source_size else None,
        "keyframes": "folder" if keys else "scene_cut" if asked.cuts else None,
        "keyframes.path": str(keys) if keys else None,
        "keyframes.interval": None if keys else asked.interval,
        "seed": asked.seed or None,
        "prompts": None if table is None else str(table),
    }
    found |= {key: value for key, value in optional.items() if value is not None}
    if asked.constraints is not None:
        found["constraint"] = [name for name in _CONSTRAINTS if name in asked.constraints]
    if mask is not None:
        found |= {"mask": "file", "mask.path": str(mask), "mask.keep": asked.keep}
        if asked.feather is not None:
            found["mask.feather"] = asked.feather
    if not asked.score:
        found["metrics"] = []
    return {**found, "tracker": "none"}


def preview_of(
    asked: StudioSettings, strength: float | None, small: int | None
) -> tuple[StudioSettings, dict[str, Any]]:
    """What a preview of settings is made with: the first frames of the stretch in few steps, the
    small models' also small. Other models take few steps where they were made for it, which the
    page says by preset=turbo.

    Args:
        asked: by the page.
        strength: of its preset, where the page says none.
        small: of a small model the short side of its runs, pixels; None for others.

    Returns:
        Settings of the page, and keys that go before theirs.
    """
    few = small is not None or asked.preset == "turbo"
    first = next((r for r in asked.ranges if r.first <= asked.start <= r.last), None)
    changes: dict[str, Any] = {
        "preset": "turbo" if few else "fast",
        "frames": min(asked.frames or PREVIEWED, PREVIEWED),
        "ranges": [],
        "source_size": False,
        "score": False,
    }
    if first is not None:
        changes |= {"prompt": first.prompt, "negative_prompt": first.negative_prompt}
        strength = first.strength if first.strength is not None else strength
    elif asked.strength is not None:
        strength = asked.strength
    if small is not None:
        if asked.feather is not None:
            changes["feather"] = asked.feather * PREVIEW_SIZE / (asked.size or small)
        changes["size"] = PREVIEW_SIZE
    steps = few_steps(strength)
    keys: dict[str, Any] = {"sampling.batch_size": 1}  # the first one soonest
    keys["sampling.strength"] = strength
    if few:
        keys |= {"sampler": "lcm", "propagation": "warp", "sampling.steps": steps}
    if small is not None:  # not distilled: it takes them from its own grid (docs/few_steps.md)
        keys["sampler.origin_steps"] = max(20, steps)
    return asked.model_copy(update=changes), keys


def few_steps(strength: float | None) -> int:
    """Steps of a schedule of which 4 to 6 are executed, so that the windows of preset=turbo hold a
    step each, and that begin as near as they can to where a long schedule would."""
    if strength is None:
        return 4
    found = {executed: math.ceil(executed / max(strength, 0.01) - 1e-9) for executed in (4, 5, 6)}
    return found[max(found, key=lambda executed: (round(executed / found[executed], 6), -executed))]


def arguments_of(keys: Mapping[str, Any], told: Sequence[str]) -> list[str]:
    """The command line of a run.

    Args:
        keys: as of `keys_of`.
        told: settings of every run, from the studio's command line; what the page says goes before.
    """
    kept = [argument for argument in told if key_of_argument(argument) not in keys]
    return [*kept, *(f"{key}={_said(key, value)}" for key, value in keys.items())]


def command_of(arguments: Sequence[str]) -> str:
    """A command line as it is typed into a shell."""
    return shlex.join([*PROGRAM, *arguments])


def key_of_argument(argument: str) -> str:
    """The key that an argument of the command line is about."""
    return argument.partition("=")[0].lstrip("+~").partition("@")[0]


def yaml_of(keys: Mapping[str, Any], told: Sequence[str], name: str) -> str:
    """The same settings as an experiment of a folder of configurations (``--config-dir``).

    Args:
        keys: as of `keys_of`.
        told: as of `arguments_of`.
        name: of the experiment.
    """
    said: dict[str, Any] = {}
    for argument in literal([each for each in told if key_of_argument(each) not in keys]):
        override = parsed(argument)
        said[override.key_or_group] = override.value()
    said |= {key: escape(value) if isinstance(value, str) else value for key, value in keys.items()}
    line = [f"{key}={shlex.quote(_said(key, keys[key]))}" for key in _COMMAND_LINE if key in keys]
    groups = {key: value for key, value in said.items() if choices_of(key)}
    tree: dict[str, Any] = {"defaults": [{f"override /{k}": v} for k, v in groups.items()]}
    for key, value in said.items():
        if key in groups or key in _COMMAND_LINE:
            continue
        place = tree
        *parents, last = key.split(".")
        for parent in parents:
            place = place.setdefault(parent, {})
        place[last] = value
    command = " ".join([*PROGRAM, "--config-dir", "FOLDER", f"+exp={name}", *line])
    head = f"# @package _global_\n# Put it into FOLDER/exp/{name}.yaml, then:\n# {command}\n"
    return head + yaml.safe_dump(tree, sort_keys=False, allow_unicode=True, width=100)


def keep_table(room: Path, asked: StudioSettings) -> Path | None:
    """Write the prompt table as the csv file that the run reads, named after its content."""
    if not asked.ranges:
        return None
    text = io.StringIO()
    lines = csv.writer(text, lineterminator="\n")
    lines.writerow(("from", "to", "prompt", "negative_prompt", "strength", "fade"))
    for each in asked.ranges:
        strength = "" if each.strength is None else each.strength
        fade = each.fade or ""
        lines.writerow((each.first, each.last, each.prompt, each.negative_prompt, strength, fade))
    data = text.getvalue().encode()
    path = files.unlinked(room.parent, room) / f"{hashlib.sha256(data).hexdigest()[:16]}.csv"
    if not path.is_file():
        files.put(path, data)
    return path


def _said(key: str, value: Any) -> str:
    """A value on the command line. Texts that Hydra's grammar would read as something else are
    quoted: a prompt ``'a','b'`` is one prompt, not a sweep over two."""
    if isinstance(value, list):
        return f"[{','.join(value)}]"
    if not isinstance(value, str):
        return str(value)
    plain = texts_of(value) == [value] and value != "null"
    return value if plain else quoted(value)


def _is_utf8(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True
