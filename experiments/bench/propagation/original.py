"""The published program against ours, like for like.

    python -m experiments.bench.propagation.original CLIPS PROGRAM [--cases NAME ...] [--sheets DIR]

CLIPS is a folder that holds the three clips, PROGRAM an `ebsynth`: the released one, or one that
also tells its errors. Every method carries each key frame over the nine frames between, with the
same flow; then the same blends make one of both. Writes propagation_original.json and .md beside
this file, after each case anew.
"""

from __future__ import annotations

import argparse
import json
import resource
import textwrap
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import date
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch

from experiments.bench.propagation import measures as measures
from experiments.bench.propagation.__main__ import HERE, RAW, choice, commit, quality, say
from experiments.bench.propagation.cases import INTERVAL, Case, Picture, case, eight_bit
from rerender import files
from rerender.contracts import Propagation
from rerender.flow.dis import Dis
from rerender.propagation.blending.blend import Bidirectional, Blend, Linear, Soft, TwoBand
from rerender.propagation.blending.contrast import Contrast
from rerender.propagation.blending.min_error import MinError
from rerender.propagation.blending.poisson import Poisson
from rerender.propagation.ebsynth import EbSynth
from rerender.propagation.motion.pixels import Pixels

CASES = (
    "kool paint",
    "antoni paint",
    "kool@3 paint",
    "cotton paint",
    "kool sketch",
    "kool ident",
)
METHODS = ("ebsynth", "published", "patchmatch", "warp")
QUICK = ("patchmatch", "warp")
"""Those that are run once before they are timed: they are compiled then."""

BLENDS: Mapping[str, Blend] = {
    "linear": Linear(),
    "soft": Soft(tolerance=8.0),
    "min-error": MinError(),
    "contrast": Contrast(),
    "contrast + Poisson": Poisson(),
    "contrast + Poisson as published": Poisson(published_pairing=True, published_cut=True),
    "two-band": TwoBand(tolerance=4.0),
}
Row = dict[str, Any]


@dataclass(frozen=True)
class KeptResult(Blend):
    """Keeps both versions of every frame, to be blended in several ways afterwards."""

    pairs: list[Bidirectional] = field(default_factory=list)

    def run(self, pairs: Iterable[Bidirectional]) -> Iterator[Pixels]:
        for pair in pairs:
            self.pairs.append(pair)
            yield pair.left.image


def main() -> None:
    """Measure, write the results and say where they are."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=RAW)
    parser.add_argument("clips", type=Path, help="folder that holds the three clips")
    parser.add_argument("program", help="name or path of an ebsynth")
    parser.add_argument("--cases", nargs="+", default=CASES, help="a clip and a look each")
    parser.add_argument("--note", default="", help="what the program is and how it was run")
    parser.add_argument("--sheets", type=Path, help="folder for contact sheets (png)")
    options = parser.parse_args()
    torch.set_num_threads(1)
    cv2.setNumThreads(1)
    results: Row = {
        "date": date.today().isoformat(),
        "commit": commit(),
        "command": f"python -m {MODULE} CLIPS PROGRAM --cases",
        "note": options.note,
        "rows": [],
    }
    for name in options.cases:
        clip, look = name.split()
        item = case(clip, look, options.clips)
        results["rows"] += list(compared(item, options.program, options.sheets))
        results["command"] += f' "{name}"'
        files.put(HERE / "original.json", json.dumps(results, indent=1).encode())
        files.put(HERE / "original.md", markdown(results).encode())
    print(HERE / "original.md")


MODULE = "experiments.bench.propagation.original"


def compared(item: Case, program: str, sheets: Path | None) -> Iterator[Row]:
    """Every method on a case: each direction alone, and both blended in every way."""
    referee = measures.Referee(item.source)
    yield {"case": item.name, "method": "truth", "warp": referee.warp_error(item.truth)}
    for method in METHODS:
        say(f"{item.name}: {method}")
        kept = KeptResult()
        part = replace(choice(method), blend=kept)  # type: ignore[type-var]
        if isinstance(part, EbSynth):
            part = replace(part, program=program)
        if method in QUICK:
            seconds(replace(part, blend=KeptResult()), item)  # type: ignore[type-var]
        spent = seconds(part, item)
        row = {"case": item.name, "method": method, "seconds": spent, **alone(kept.pairs, item)}
        blended: dict[str, Row] = {}
        for name, blend in BLENDS.items():
            frames = [picture(image) for image in blend.run(iter(kept.pairs))]
            whole = [item.keys[0], *frames, item.keys[1]]
            blended[name] = {**quality(frames, item), "warp": referee.warp_error(whole)}
            if sheets is not None:
                save(sheets / f"{item.name}-{method}-{name}.png".replace(" ", "-"), item, frames)
        yield {**row, "blends": blended}


def seconds(part: Propagation, item: Case) -> float:
    """Fill the segment; processor time for a frame, that of programs it has started included."""
    before = measures.cpu_seconds() + children()
    frames = list(part.fill(item.segment(), Dis()))
    return (measures.cpu_seconds() + children() - before) / len(frames)


def children() -> float:
    """Processor time of the programs that have ended."""
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    return usage.ru_utime + usage.ru_stime


def alone(pairs: Sequence[Bidirectional], item: Case) -> Row:
    """PSNR of each direction's frames by their distance from its key frame."""
    truth = item.truth[1:-1]
    left = [measures.psnr(picture(p.left.image), t) for p, t in zip(pairs, truth, strict=True)]
    right = [measures.psnr(picture(p.right.image), t) for p, t in zip(pairs, truth, strict=True)]
    return {"forward": left, "backward": right[::-1]}


def picture(image: Pixels) -> Picture:
    """Levels in RGB as a picture in BGR."""
    return eight_bit(image[..., ::-1])


def save(path: Path, item: Case, frames: Sequence[Picture]) -> None:
    """Source, truth and result of every frame between, one below the other."""
    table = np.vstack([np.hstack(row) for row in (item.source[1:-1], item.truth[1:-1], frames)])
    _, data = cv2.imencode(".png", table)
    files.put(path, data.tobytes())


def markdown(results: Mapping[str, Any]) -> str:
    """The results as tables."""
    note = textwrap.fill(results["note"], 100)
    head = f"{results['date']}, commit {results['commit']}:\n`{results['command']}`"
    lines = ["# The published program against ours", "", head, "", note, ""]
    lines += ["## One key frame alone: PSNR by distance from it", ""]
    lines += [f"| case | from | method | {' | '.join(map(str, range(1, INTERVAL)))} | mean |"]
    lines += [f"|{'---|' * (INTERVAL + 3)}"]
    rows = [row for row in results["rows"] if row["method"] != "truth"]
    for way, key in (("left", "forward"), ("right", "backward")):
        for row in rows:
            values = " | ".join(f"{value:.2f}" for value in (*row[key], np.mean(row[key])))
            lines.append(f"| {row['case']} | {way} | {row['method']} | {values} |")
    lines += ["", "## Both key frames, blended", ""]
    lines += [
        "s/frame: processor time of one run, that of the program included, blends left out.",
        "",
    ]
    lines += ["| case | method | blend | PSNR | SSIM | msge | warp | s/frame |", f"|{'---|' * 8}"]
    for row in results["rows"]:
        if row["method"] == "truth":
            lines.append(f"| {row['case']} | truth | - | - | - | - | {row['warp']:.3f} | - |")
            continue
        for name, cell in row["blends"].items():
            values = f"{cell['psnr']:.2f} | {cell['ssim']:.4f} | {cell['msge']:.3f}"
            lines.append(
                f"| {row['case']} | {row['method']} | {name} | {values} | {cell['warp']:.3f} | "
                f"{row['seconds']:.2f} |"
            )
    return "\n".join([*lines, ""])


if __name__ == "__main__":
    main()
