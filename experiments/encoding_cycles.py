"""What is lost by encoding and decoding again and again (Fig. 13 and 14).

    python -m experiments.encoding_cycles [key=value ...] [--cycles 1 2 4 8] [--out FOLDER]

The first frame of every clip goes through the autoencoder n times, encoded plainly, and with
fidelity-oriented encoding at half and at full compensation (the threshold of the pixel constraint);
its mean squared error to the frame is what is measured. Clips and model are said as for a run:
``model=sd15`` and ``model=sd15 model.vae=null`` are the paper's two autoencoders, ``data=folder
data.path=FOLDER prompt=any`` takes pictures of one's own. The folder gets scores.jsonl, the tables
and cycles.png: the frame, then plain above compensated for each number of cycles.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import torch
from torch import Tensor

from eval import score_files
from eval.score_files import Score
from experiments import experiment, tables
from rerender import files
from rerender.config.compose import literal, preflight
from rerender.config.job import Job
from rerender.config.table import TableSpec
from rerender.constraint._encoding import encode_faithfully
from rerender.constraint.pixel import Pixel
from rerender.contracts import Model
from rerender.errors import ConfigError
from rerender.exits import Parser, command
from rerender.fitting import fit
from rerender.jobs.progress import Progress
from rerender.run_folder import SCORES
from rerender.video import Clip

PLAIN, FULL = "plain", "compensated"
COMPENSATION: Mapping[str, float] = {PLAIN: 0.0, "half_compensated": 0.5, FULL: 1.0}
ROWS = {PLAIN: "plain", "half_compensated": "half compensated", FULL: "compensated"}
CYCLES = (1, 2, 4, 8)
SHOWN = 4  # clips in the picture


def cycled(
    model: Model, image: Tensor, compensation: float, threshold: float, cycles: int
) -> Iterator[Tensor]:
    """``y_n = D(E*(y_{n-1}))``, ``y_0`` the image, for n = 1..cycles.

    Args:
        model: whose autoencoder; the image's sides are multiples of ``model.size_multiple``.
        image: ``[3,H,W]`` in 0..1.
        compensation: lambda of ``E*``, see `encode_faithfully`; 0 encodes plainly.
        threshold: pixel error above which compensation is withheld, 0..1.
        cycles: how often.

    Yields:
        Images ``[3,H,W]`` in 0..1.
    """
    for _ in range(cycles):
        latent = encode_faithfully(model, image, compensation, threshold)
        image = model.decode(latent).float().cpu().clamp(0, 1)
        yield image


@torch.inference_mode()
def measured(
    clips: Sequence[Clip], model: Model, threshold: float, cycles: Sequence[int], watch: Progress
) -> tuple[list[Score], dict[str, list[Tensor]]]:
    """Scores ``mse_after_N`` of every clip's first frame, and its pictures after each N by row."""
    rows: list[Score] = []
    pictures: dict[str, list[Tensor]] = {}
    for number, clip in enumerate(clips):
        image = clip.video[0]
        for name, compensation in COMPENSATION.items():
            made = list(cycled(model, image, compensation, threshold, max(cycles)))
            errors = [float((each - image).double().square().mean()) for each in made]
            rows += [
                Score(clip.name, name, None, f"mse_after_{n}", "1", errors[n - 1], 1)
                for n in cycles
            ]
            pictures.setdefault(name, []).append(
                torch.cat([image, *(made[n - 1] for n in cycles)], 2)
            )
        watch.advance("encode", number + 1, len(clips), clip.name)
    return rows, pictures


def write(
    root: Path, rows: Sequence[Score], pictures: Mapping[str, Sequence[Tensor]]
) -> list[Path]:
    """The scores, their tables, and a picture of the first clips that have one size."""
    score_files.write(root / SCORES, rows)
    pictured = range(min(SHOWN, len(pictures[PLAIN])))
    strips = [pictures[name][index] for index in pictured for name in (PLAIN, FULL)]
    alike = [strip for strip in strips if strip.shape == strips[0].shape]
    files.put(root / "cycles.png", files.png(torch.cat(alike, 1)))
    metrics = tuple(dict.fromkeys(row.metric for row in rows))
    spec = TableSpec(
        reference=PLAIN,
        primary=tuple(dict.fromkeys((metrics[0], metrics[-1]))),
        columns=metrics[:8],
        caption="Mean squared error after n cycles through the autoencoder (Fig. 14 of the paper).",
        label="tab:encoding_cycles",
        rows=ROWS,
    )
    experiment.write(root, spec, ())
    return [*tables.write(root, with_published=False), root / "cycles.png"]


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; returns the exit code (see `rerender.exits`)."""
    return command(_main, arguments)


def _main(arguments: list[str]) -> None:
    parser = Parser(prog="python -m experiments.encoding_cycles", description=__doc__)
    parser.add_argument("settings", nargs="*", help="key=value, as for python -m rerender.run")
    parser.add_argument("--cycles", type=int, nargs="+", default=CYCLES, help="numbers of cycles")
    parser.add_argument("--out", type=Path, default=Path("results/encoding_cycles"))
    given = parser.parse_intermixed_args(arguments)
    if min(given.cycles) < 1 or max(given.cycles) > 1000:
        raise ConfigError("--cycles", f"must lie in 1..1000, received {given.cycles}", "change it")
    chosen = ["data=demo_study", "constraint=[pixel]", *given.settings]
    trees = preflight(literal(chosen)).jobs
    if len(trees) > 1:
        raise ConfigError("settings", f"describe {len(trees)} runs", "give one value for each key")
    job = Job.of(trees[0])
    job.model.check(())
    (pixel,) = (part for part in job.parts.constraint if isinstance(part, Pixel))
    clips, model = job.data.clips(), job.model.load(())
    sized = [
        Clip(each.name, fit(each.video, job.data.size, model.size_multiple), each.prompt)
        for each in clips
    ]
    found = measured(sized, model, pixel.threshold, sorted(set(given.cycles)), Progress())
    sys.stdout.write("".join(f"{path}\n" for path in write(given.out, *found)))


if __name__ == "__main__":
    sys.exit(main())
