"""What a run would do, before it is started: its shots and key frames, or why it is refused."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

from rerender.config.compose import Composer, literal
from rerender.config.job import Job
from rerender.data.ranges import in_time
from rerender.errors import ConfigError
from rerender.fitting import fit
from rerender.studio.frames import opened
from rerender.video import Clip, Window

_CHEAP = (
    "Uniform",
    "SceneCut",
    "Manual",
    "FolderOfKeys",
)  # picked without optical flow or diffusion
_SMALL = ("demo", "demo_natural")
_COMPOSING = threading.Lock()  # Hydra keeps one state for the whole process


def planned(arguments: Sequence[str], path: Path) -> dict[str, Any]:
    """The plan of a run.

    Args:
        arguments: of the run command.
        path: of the clip that they name.

    Returns:
        first: number of the first frame in the file; frames: how many; size: (height, width) at
        which they are processed; shots: numbers of the key frames of each shot, counted in the
        file, None where only the run itself can tell; constraints, strength, interval, short_side:
        as composed.

    Raises:
        ConfigError, InputError: as the run command.
    """
    return _planned(tuple(arguments), path)


@lru_cache(64)
def _planned(arguments: tuple[str, ...], path: Path) -> dict[str, Any]:
    with _COMPOSING:
        sweep = Composer(literal(arguments)).sweep()
        job = Job.of(sweep.jobs[0])
    video = opened(path)
    # The run itself reads the file again; here it is open already, and was looked through.
    first, asked = (sweep.jobs[0]["data"][key] for key in ("start", "frames"))
    stop = len(video) if asked is None else first + asked
    if not first < stop <= len(video):
        problem = f"frames {first} to {stop - 1} are not in the clip, which has {len(video)}"
        raise ConfigError("data.frames", problem, "choose another stretch")
    stretch = Window(video, first, stop)
    for_model = fit(stretch, job.data.size, 8)
    clip = Clip("clip", for_model, job.prompt or "")
    if job.prompts is not None:
        in_time(clip, job.prompts)
    job.parts.mask.check(stretch)
    job.parts.keyframes.check(stretch)
    shots = None
    if type(job.parts.keyframes).__name__ in _CHEAP:
        picked = job.parts.keyframes.pick(for_model)
        shots = [[first + index for index in shot] for shot in picked]
    return {
        "first": first,
        "frames": len(clip.video),
        "size": list(for_model.size),
        "shots": shots,
        "constraints": sorted(sweep.jobs[0].get("constraint") or ()),
        "strength": job.parts.sampling.strength,
        "interval": getattr(job.parts.keyframes, "interval", None),
        "short_side": job.data.size,
    }


@lru_cache(4)
def model_of(told: tuple[str, ...]) -> dict[str, Any]:
    """The model that every run takes.

    Returns:
        model: its name; small: of a small one, whose previews are smaller still, the short side of
        its runs in pixels, else None; styles: those that it knows, where it knows few.
    """
    with _COMPOSING:
        lines = literal([*told, "data=video", "data.path=clip.mp4"])
        composed = Composer(lines).sweep().jobs[0]
    name = next((a.partition("=")[2] for a in told if a.startswith("model=")), "demo")
    return {
        "model": name,
        "small": composed["data"]["size"] if name in _SMALL else None,
        "styles": list(composed["model"].get("styles") or ()),
    }


@lru_cache(32)
def strength_of(told: tuple[str, ...], preset: str | None) -> float | None:
    """The strength that a preset sets, 0..1; None begins from noise."""
    chosen = [] if preset is None else [f"preset={preset}"]
    with _COMPOSING:
        lines = literal([*told, *chosen, "data=video", "data.path=clip.mp4"])
        found: float | None = Composer(lines).sweep().jobs[0]["sampling"]["strength"]
    return found
