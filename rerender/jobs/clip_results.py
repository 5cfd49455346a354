"""What became of the clips of a job: their files, and what metrics.json, the tables of the tracker
and the last lines of a run say of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from eval.score_files import Score
from rerender.contracts import Cell
from rerender.jobs.render_clip import RenderedClip
from rerender.run_folder import CONFIG, FRAMES, SCORES, SHEET, VIDEO
from rerender.video import Clip, sha256_file


@dataclass(frozen=True)
class ClipResult:
    """What became of one clip.

    Attributes:
        clip: the source as it was processed.
        folder: where its files are.
        rendered: its video, how it was written and what it took.
        keys: numbers of its key frames, where their pictures are kept.
        scores: what was measured.
    """

    clip: Clip
    folder: Path
    rendered: RenderedClip
    keys: tuple[int, ...]
    scores: tuple[Score, ...]


def table_rows(results: Sequence[ClipResult], metrics: Sequence[str]) -> list[list[Cell]]:
    """A row for each clip: its values, its video and its sheet."""
    rows: list[list[Cell]] = []
    for result in results:
        values = {row.metric: row.value for row in result.scores}
        made = result.folder / VIDEO, result.folder / SHEET
        rows.append([result.clip.name, result.clip.prompt, *map(values.get, metrics), *made])
    return rows


def finished_files(
    folder: Path, results: Sequence[ClipResult], pictures: Sequence[str]
) -> list[Path]:
    """The files that a run ends with. What only grows (run.log, record.jsonl, wandb/) tells what
    happened and decides nothing; its lock is nobody's result."""
    found = [folder / name for name in (CONFIG, SCORES)]
    for result in results:
        found += [result.folder / VIDEO, result.folder / SHEET, *result.rendered.master]
        for name in pictures:
            found += (result.folder / name).glob("*.png")
    return found


def clip_facts(result: ClipResult, folder: Path) -> dict[str, Any]:
    """What metrics.json says of a clip."""
    video = result.clip.video
    return {
        "clip": result.clip.name,
        "prompt": result.clip.prompt,
        **({"prompts": list(map(asdict, result.clip.ranges))} if result.clip.ranges else {}),
        "video": (result.folder / VIDEO).relative_to(folder).as_posix(),
        "sha256": sha256_file(result.folder / VIDEO),
        "frames": len(video),
        "processed_size": list(video.size),
        "compared_size": list(result.clip.output.size),
        "size": list(result.rendered.encoded.size),
        "padding": list(result.rendered.encoded.padding),
        "audio": result.rendered.encoded.audio,
        "seconds": dict(result.rendered.seconds),
        "peak_memory": result.rendered.peak,
        "keys": list(result.keys),
        "vae_generations": [list(each) for each in result.rendered.generations],
        **_master(result, folder),
        **_origin(result.clip),
        "scores": {
            row.metric: {
                "value": row.value,
                "n": row.n,
                "note": row.note,
                "version": row.version,
            }
            for row in result.scores
        },
    }


def _master(result: ClipResult, folder: Path) -> dict[str, Any]:
    """What is said of the result in a format besides mp4: its file, or the folder of its frames."""
    if not result.rendered.master:
        return {}
    first = result.rendered.master[0]
    place = first.parent if first.parent.name == FRAMES else first
    return {"master": place.relative_to(folder).as_posix(), "master_audio": result.rendered.sound}


def _origin(clip: Clip) -> dict[str, str]:
    """What is said of where a clip is from, and of the edit."""
    names = ("kind", "source_clip", "licence", "attribution")
    return {name: getattr(clip, name) for name in names if getattr(clip, name)}


def closing(
    folder: Path, results: Sequence[ClipResult], seconds: Mapping[str, float], form: str = "mp4"
) -> str:
    """What a run says at its end: where things are, and a small table of scores."""
    lines = [f"{folder}/"]
    for result in results:
        height, width = result.clip.output.output_size
        frames = len(result.clip.video)
        lines.append(f"  {result.folder / VIDEO}  {frames} frames, {width}x{height}")
        if master := _master(result, folder):
            lines.append(f"  {folder / master['master']}  the same, format={form}")
        lines.append(f"  {result.folder / SHEET}  source and result side by side")
    rows = [("clip", "metric", "value", "")]
    # what has no value is said once for each reason: a run without CLIP's weights is no page of it
    missing: dict[str, list[str]] = {}
    for result in results:
        for row in result.scores:
            note = "; ".join(filter(None, [row.note, row.remark]))
            if row.value is None:
                names = missing.setdefault(note.removeprefix("n/a: "), [])
                names += [row.metric] if row.metric not in names else []
            else:
                rows.append((row.clip, row.metric, f"{row.value:.6g}", note))
    widths = [max(len(cells[column]) for cells in rows) for column in range(3)]
    for cells in rows if len(rows) > 1 else ():
        padded = [cell.ljust(width) for cell, width in zip(cells[:3], widths, strict=True)]
        lines.append("  ".join(["", *padded, cells[3]]).rstrip())
    lines += [f"  n/a: {', '.join(names)}: {reason}" for reason, names in missing.items()]
    lines.append("  ".join(["", *(f"{stage} {spent:.1f} s" for stage, spent in seconds.items())]))
    return "\n".join(lines) + "\n"
