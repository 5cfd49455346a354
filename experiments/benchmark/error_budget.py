"""Where the error of a run comes from, as parts whose sum is its total squared error.

With ``T`` the true translation, ``K`` the true key frames and ``D(E(.))`` the autoencoder, four
videos lead from what propagation alone gets wrong to the finished file:

    V1 = propagate(K)              propagation = |V1 - T|^2
    V2 = propagate(D(E(K)))        VAE         = |V2 - T|^2 - |V1 - T|^2
    V3 = propagate(key frames)     key frames  = |V3 - T|^2 - |V2 - T|^2
    V4 = decode(encode(V3))        codec       = |V4 - T|^2 - |V3 - T|^2

Errors are means over frames, pixels and channels of values in 0..1. A part may be negative: a stage
may take away some of the error of an earlier one (a codec that smooths noise, say). The key frames
are those that the run kept; its total is measured on its video, so that the sum of the parts shows
whether they are those of this very run.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from torch import Tensor

from eval.results import Outcome, discover
from experiments.benchmark.tasks import EditTask
from experiments.escape import markdown
from rerender import files
from rerender.codec import encode, open_video
from rerender.config.foreign import check_recorded
from rerender.config.job import Job
from rerender.config.parts import Parts
from rerender.contracts import Model
from rerender.data import picture
from rerender.errors import InputError
from rerender.fitting import fit, resize
from rerender.propagate import propagate
from rerender.run_folder import KEYS
from rerender.scene import Trace, Translation, Watch
from rerender.video import Clip, KeyFrame, Truth, Video

PARTS = ("vae", "key_frames", "propagation", "codec")
TOLERANCE = 0.01  # by which share of the total the sum of the parts may differ from it
_UNUSED = ("out", "store", "tracker", "prompts", "prompt_file")  # of a run's configuration, here


@dataclass(frozen=True)
class ErrorBudget:
    """The squared error of one run on one clip.

    Attributes:
        method, clip: names.
        vae, key_frames, propagation, codec: parts, which may be negative.
        total: of the run's video.
    """

    method: str
    clip: str
    vae: float
    key_frames: float
    propagation: float
    codec: float
    total: float

    @property
    def sum(self) -> float:
        """Of the parts; within ``TOLERANCE`` of the total."""
        return self.vae + self.key_frames + self.propagation + self.codec


def budgets(
    root: Path, tasks: Mapping[str, EditTask] | None = None, watch: Watch | None = None
) -> list[ErrorBudget]:
    """The budget of every finished video of ours in a folder whose truth is known.

    Args:
        root: a run folder, or a folder of run folders.
        tasks: of the benchmark whose clips they were made from, by clip; other clips bring their
            own truth.
        watch: told of the progress under the stage "budget".

    Raises:
        InputError: there is none; its truth is not known or its key frames were not kept; or its
            parts do not add up to its error, because another version made it.
        ConfigError: its configuration says what only the command line may say.
    """
    outcomes = [outcome for outcome in discover(root) if outcome.config is not None]
    if not outcomes:
        cure = "name runs of python -m rerender.run"
        raise InputError(root, "holds no finished runs of ours", cure)
    found = []
    models: dict[str, Model] = {}
    for number, outcome in enumerate(outcomes, 1):
        outcome.check()
        config = outcome.config or {}
        check_recorded(config, [key for key in config if key not in _UNUSED])
        job = Job.of(config)
        which = repr((job.model, job.parts.names()))
        if which not in models:
            models[which] = job.model.load(job.parts.names())
        found.append(_of_run(outcome, job, models[which], tasks or {}))
        (watch or Watch()).advance("budget", number, len(outcomes), outcome.method)
    return found


def _of_run(outcome: Outcome, job: Job, model: Model, tasks: Mapping[str, EditTask]) -> ErrorBudget:
    clips = {clip.name: clip for clip in job.data.clips()}
    name = next(iter(clips)) if outcome.clip is None else outcome.clip
    if name not in clips:
        raise InputError(outcome.path, f"is of no clip of its run ({name})", "run it again")
    video = fit(clips[name].video, job.data.size, model.size_multiple)
    clip = replace(clips[name], video=video)
    if clip.truth is None and name in tasks:
        clip = replace(clip, truth=_truth(tasks[name], clip, outcome))
    if clip.truth is None or clip.truth.translation(0) is None:
        cure = "take clips of the demo world and prompts in its words, or name the --benchmark"
        raise InputError(outcome.path, "the true translation of its clip is not known", cure)
    keys = _kept(outcome.path.parent / KEYS, clip, job.parts)
    return budget(clip, keys, model, job.parts, open_video(outcome.path), outcome.method)


def _truth(task: EditTask, clip: Clip, outcome: Outcome) -> Truth | None:
    """The truth of a task, where the run was asked for what the task asks for."""
    if (clip.prompt, len(clip.video)) != (task.prompt, task.frames):
        problem = f"was asked for {clip.prompt[:80]!r}, the benchmark asks for {task.prompt!r}"
        raise InputError(outcome.path, problem, "run it with the prompts of the benchmark")
    return task.clip().truth


def _kept(folder: Path, clip: Clip, parts: Parts) -> list[Translation]:
    """The key frames of a run, from the pictures that it kept."""
    found = []
    for shot, indices in enumerate(parts.keyframes.pick(clip.video)):
        for index in indices:
            path = folder / f"{index:06d}.png"
            if not path.is_file():
                cure = "run it again with pictures=[keys], and keep the folder whole"
                raise InputError(path, "this key frame was not kept", cure)
            key = KeyFrame(index, clip.video[index], shot=shot)
            found.append(Translation(key, Trace(image=picture.read(path).image)))
    return found


@torch.inference_mode()
def budget(
    clip: Clip,
    keys: Sequence[Translation],
    model: Model,
    parts: Parts,
    video: Video,
    method: str,
) -> ErrorBudget:
    """The error budget of a finished video whose truth is known.

    Args:
        clip: the source as it was processed, with its truth.
        keys: its translated key frames.
        model: whose autoencoder is asked.
        parts: the method: propagation, flow and filter.
        video: the finished video.
        method: its name.

    Raises:
        InputError: the parts do not add up to the error of the video within ``TOLERANCE``.
    """
    truth, size = clip.truth, clip.video.size
    assert truth is not None, clip.name
    flow = parts.flow.open(clip)
    true = [_with(each, _true(truth, each.key.index, size)) for each in keys]
    coded = [_with(each, model.decode(model.encode(each.image)).float().cpu()) for each in true]

    def finished(translations: Sequence[Translation]) -> Iterator[Tensor]:
        frames = propagate(clip.video, translations, parts.propagation, flow)
        return parts.smooth.run(frames, clip.video, flow)

    exact = _error(finished(true), truth, size)
    rounded = _error(finished(coded), truth, size)
    kept = list(finished(keys))
    before = _error(kept, truth, size)
    after = _error(_coded(kept, clip.video), truth, size)
    total = _error((video[index] for index in range(len(video))), truth, size)
    made = ErrorBudget(
        method, clip.name, rounded - exact, before - rounded, exact, after - before, total
    )
    if abs(made.sum - total) > TOLERANCE * total:
        problem = f"its parts sum to {made.sum:.3g}, its error is {total:.3g}"
        cure = "run it again with this version, on this machine"
        raise InputError(f"{method}, {clip.name}", problem, cure)
    return made


def _with(translation: Translation, image: Tensor) -> Translation:
    return Translation(translation.key, Trace(image=image))


def _true(truth: Truth, index: int, size: tuple[int, int]) -> Tensor:
    image = truth.translation(index)
    assert image is not None
    return resize(image, size)


def _error(frames: Iterable[Tensor], truth: Truth, size: tuple[int, int]) -> float:
    """Mean squared error over all frames, in double precision."""
    errors = [
        (resize(frame, size).clamp(0, 1) - _true(truth, index, size)).double().square().mean()
        for index, frame in enumerate(frames)
    ]
    return float(torch.stack(errors).mean())


def _coded(frames: Sequence[Tensor], like: Video) -> Iterator[Tensor]:
    """Frames as they come back from the file that a run would write."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "video.mp4"
        with files.writing(path) as file:
            encode(frames, like, file)
        video = open_video(path)
        yield from (video[index] for index in range(len(video)))


def to_markdown(found: Sequence[ErrorBudget]) -> str:
    """Means over clips for each method, in 10^-4, with the share of the total in percent."""
    head = "| method | VAE | key frames | propagation | codec | sum | total | PSNR (dB) | clips |"
    lines = [head, "|---" * 9 + "|"]
    for method in dict.fromkeys(one.method for one in found):
        own = [one for one in found if one.method == method]

        def mean(name: str, own: Sequence[ErrorBudget] = own) -> float:
            return sum(float(getattr(one, name)) for one in own) / len(own)

        total = mean("total")
        cells = [f"{1e4 * mean(name):.2f} ({mean(name) / total:.0%})" for name in PARTS]
        psnr = -10 * float(torch.tensor(total, dtype=torch.float64).log10())
        ends = [f"{1e4 * mean('sum'):.2f}", f"{1e4 * total:.2f}", f"{psnr:.2f}", str(len(own))]
        lines.append(f"| {' | '.join([markdown(method), *cells, *ends])} |")
    note = (
        "Mean squared error against the true translation in 10^-4 of values in 0..1, and its share"
        " of the total. Propagation: of true key frames; VAE: added where these went through the"
        " autoencoder; key frames: added by what diffusion made of them; codec: added by the file."
    )
    return "\n".join([*lines, "", note, ""])
