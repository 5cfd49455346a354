"""What a Python program needs besides the method itself: a model, the choices of a run, a file."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from torch import Tensor

from rerender.codec import FORMATS, Encoded, FormatName, deliver
from rerender.config.build import build
from rerender.config.compose import literal, preflight
from rerender.config.device import check_devices
from rerender.config.job import Job
from rerender.config.parts import Parts
from rerender.config.paths import choices_of
from rerender.contracts import Checkpoint, Model
from rerender.errors import ConfigError
from rerender.video import Video


def load_model(
    name_or_path: str | Path = "demo", controls: Sequence[str] = ("canny",), *settings: str
) -> Model:
    """Load a diffusion model with its ControlNets.

    Args:
        name_or_path: a choice of conf/model (``demo``, ``demo_natural``, ``sd15``), or a folder in
            diffusers layout or a hub id, which is loaded with the other settings of ``sd15``.
        controls: names of the controls that need a ControlNet, in the order of ``control=[canny]``.
        settings: further settings of the model, as on the command line, such as
            ``"model.vae=null"`` or ``"model.device=cpu"``.

    Raises:
        ConfigError: a setting is refused, or a control has no ControlNet.
        WeightsError: weights are missing, damaged, or of another family of models.
    """
    name = str(name_or_path)
    known = name in choices_of("model")
    chosen = [f"model={name}"] if known else ["model=sd15", f"model.path={name}"]
    checkpoint = build(_composed([*chosen, *settings])["model"], "model")
    assert isinstance(checkpoint, Checkpoint)  # as the folder of choices says
    check_devices(checkpoint)
    checkpoint.check(controls)
    return checkpoint.load(controls)


def parts(*settings: str) -> Parts:
    """The choices of a run: those of conf/config.yaml, but for some settings.

    Args:
        settings: as on the command line, such as ``"constraint=[cross_frame,shape]"`` or
            ``"keyframes.interval=5"``. What suits a model (guidance, thresholds of edges) follows
            the choice of the model: ``"model=sd15"``.

    Raises:
        ConfigError: a setting is refused, is a sweep, or choices do not go together.
    """
    return Job.of(_composed(settings)).parts


def write_video(
    path: str | Path, frames: Iterable[Tensor], video: Video, format: FormatName = "mp4"
) -> Encoded:
    """Write frames with the times and the sound of their source; a file appears when complete.

    Args:
        path: the file; for a format of pictures (``"png16"``, ``"exr"``) the folder that they go
            into, new or empty.
        frames: as many images ``[3,H,W]`` in 0..1 as the source has, such as `render` yields.
        video: the source.
        format: as ``format=`` of a run.

    Returns:
        What was written.

    Raises:
        ConfigError: the format is unknown or cannot hold the video, or the folder has files.
        ResourceError: the file cannot be written.
        InputError: the source's times do not fit into the file.
    """
    if format != "mp4" and format not in FORMATS:
        cure = f"choose mp4, {', '.join(FORMATS)}"
        raise ConfigError("format", f"unknown format {format!r}", cure)
    return deliver(Path(path), frames, video, FORMATS.get(format))


def _composed(settings: Sequence[str]) -> Mapping[str, Any]:
    """The one configuration that settings describe."""
    trees = preflight(literal(settings)).jobs
    if len(trees) > 1:
        problem = f"one configuration is needed, these settings describe {len(trees)}"
        raise ConfigError("settings", problem, "give one value for each key")
    return trees[0]
