"""How the clips, prompts and masks of public data sets lie in their archives.

Names and structure are those that public readers of the sets use (docs/public_sets.md names them).
Each layout becomes the ``clips`` of a table of edits, which `rerender.data.edits` reads.
"""

from __future__ import annotations

import csv
import io
import json
import logging
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import yaml

from rerender.data.names import is_picture
from rerender.datasets.archive import ArchiveError
from rerender.datasets.manifest import DatasetManifest

log = logging.getLogger(__name__)

Clips = dict[str, dict[str, Any]]
VIDEOS = (".mp4", ".m4v", ".mov", ".mkv", ".webm", ".avi", ".gif", ".mpg", ".mpeg")
TGVE_TABLE, V2VBENCH_TABLE = "LOVEU-TGVE-2023_Dataset.csv", "config.yaml"
FIVE_KINDS = ("object-rigid", "object-non-rigid", "color", "material", "addition", "removal")
_CURE = "get the archive from its makers again"
_LARGEST = 16 << 20  # bytes of a table


class Asked(NamedTuple):
    """One line of a set's own table."""

    clip: str
    places: tuple[Path, ...]
    source_prompt: str
    prompt: str
    kind: str
    mask: Path | None = None


def clips_of(wanted: DatasetManifest, folder: Path) -> Clips:
    """The clips of an unpacked data set, with paths relative to its folder.

    Raises:
        ArchiveError: the set's own table is not as it should be, or clips are missing.
    """
    found = _READERS[wanted.layout](wanted, folder)
    missing = sorted(set(wanted.clips) - set(found))
    if missing:
        problem = f"lacks {len(missing)} clips ({', '.join(missing)[:200]})"
        raise ArchiveError(wanted.name, problem, _CURE)
    if not found or wanted.count not in (None, len(found)):
        count = wanted.count or "any"
        problem = f"holds {len(found)} clips in {', '.join(wanted.inside)}, expected {count}"
        raise ArchiveError(wanted.name, problem, _CURE)
    pairs = sum(len(clip.get("edits", ())) for clip in found.values())
    if wanted.pairs not in (None, pairs):
        log.warning(
            "%s: holds %d pairs of clip and prompt, its makers state %s",
            wanted.name,
            pairs,
            wanted.pairs,
        )
    return found


def _folders(wanted: DatasetManifest, folder: Path) -> Clips:
    """Video files and folders of pictures, by their names."""
    found: Clips = {}
    for place in wanted.inside:
        base = folder / place
        for path in sorted(base.iterdir()) if base.is_dir() else ():
            name = path.stem if _is_video(path) else ""
            if path.is_dir() and any(map(is_picture, path.iterdir())):
                name = path.name
            if not name:
                continue
            if name in found:
                raise ArchiveError(wanted.name, f"holds two clips named {name}", _CURE)
            found[name] = {"path": path.relative_to(folder).as_posix()}
            if wanted.masks and (folder / wanted.masks / name).is_dir():
                found[name]["mask"] = (Path(wanted.masks) / name).as_posix()
            found[name] |= wanted.prompts.get(name, {})
    return found


def _videos(wanted: DatasetManifest, folder: Path) -> Clips:
    """Files that were fetched one by one, or lie somewhere in a folder or an archive."""
    files = {path.stem: path for path in sorted(folder.rglob("*")) if _is_video(path)}
    missing = sorted(set(wanted.videos) - set(files))
    if missing:
        problem = f"lacks {len(missing)} clips ({', '.join(missing)[:200]})"
        raise ArchiveError(wanted.name, problem, _CURE)
    kept = ("source_prompt", "licence", "attribution", "edits")
    return {
        name: {
            "path": files[name].relative_to(folder).as_posix(),
            **{key: said[key] for key in kept if said.get(key)},
        }
        for name, said in wanted.videos.items()
    }


def _is_video(path: Path) -> bool:
    return path.suffix.lower() in VIDEOS and path.is_file()


def _tgve(wanted: DatasetManifest, folder: Path) -> Clips:
    """LOVEU-TGVE-2023: a csv in which a line ``DAVIS Videos:`` begins a group, whose clips lie in
    ``DAVIS_480p/480p_videos/NAME.mp4`` or ``DAVIS_480p/480p_frames/NAME/``."""
    table = _only(wanted, folder, TGVE_TABLE)
    return _asked(wanted, folder, _tgve_lines(wanted, table))


def _tgve_lines(wanted: DatasetManifest, table: Path) -> Iterator[Asked]:
    rows = csv.reader(io.StringIO(_read(wanted, table), newline=""))
    header = [cell.strip() for cell in next(rows, [])]
    kinds = {
        index: cell.split()[0].lower()
        for index, cell in enumerate(header)
        if cell.endswith(("Change Caption", "Changes Caption"))
    }
    names = [header.index(name) for name in ("Video name", "Our GT caption") if name in header]
    if len(names) < 2 or not kinds:
        raise ArchiveError(table, f"has the columns {', '.join(header)[:200] or 'none'}", _CURE)
    groups = {path.name.casefold(): path for path in table.parent.iterdir() if path.is_dir()}
    place: Path | None = None
    for row in rows:
        cells = [cell.strip() for cell in row] + [""] * (len(header) - len(row))
        name = cells[names[0]]
        if name.endswith("Videos:"):
            group = f"{name.split()[0]}_480p"
            place = groups.get(group.casefold(), table.parent / group)
        elif name:
            if place is None:
                raise ArchiveError(table, f"names {name!r} before a group ('DAVIS Videos:')", _CURE)
            film, pictures = place / "480p_videos" / f"{name}.mp4", place / "480p_frames" / name
            for index, kind in kinds.items():
                yield Asked(name, (film, pictures), cells[names[1]], cells[index], kind)


def _v2vbench(wanted: DatasetManifest, folder: Path) -> Clips:
    """V2VBench: a ``config.yaml`` with ``data: [{video_id, prompt, edit: [{prompt, type}]}]``;
    clips in ``frames/ID/`` or ``videos/ID.mp4``."""
    table = _only(wanted, folder, V2VBENCH_TABLE)
    try:
        said = yaml.safe_load(_read(wanted, table))["data"]
        lines = [
            Asked(
                str(video["video_id"]),
                (
                    table.parent / "frames" / str(video["video_id"]),
                    table.parent / "videos" / f"{video['video_id']}.mp4",
                ),
                str(video.get("prompt") or ""),
                str(edit["prompt"]),
                str(edit.get("type") or ""),
            )
            for video in said
            for edit in video["edit"]
        ]
    except (yaml.YAMLError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise ArchiveError(table, f"is not a list of videos ({_brief(error)})", _CURE) from error
    return _asked(wanted, folder, iter(lines))


def _five(wanted: DatasetManifest, folder: Path) -> Clips:
    """FiVE: ``edit_prompt/editN_FiVE.json`` for each kind of edit N, clips in ``images/NAME/`` or
    ``videos/NAME.mp4``, masks in ``bmasks/NAME/``."""
    first = _only(wanted, folder, "edit1_FiVE.json")
    root = first.parent.parent
    return _asked(
        wanted,
        folder,
        (
            line
            for number, kind in enumerate(FIVE_KINDS, 1)
            if (first.parent / f"edit{number}_FiVE.json").is_file()
            for line in _five_lines(wanted, first.parent / f"edit{number}_FiVE.json", root, kind)
        ),
    )


def _five_lines(wanted: DatasetManifest, table: Path, root: Path, kind: str) -> Iterator[Asked]:
    try:
        items = json.loads(_read(wanted, table))
        for item in items.values() if isinstance(items, dict) else items:
            name = str(item["video_name"])
            # Words that other methods treat apart stand in brackets.
            source, target = (
                str(item[key]).replace("[", "").replace("]", "")
                for key in ("source_prompt", "target_prompt")
            )
            places = root / "images" / name, root / "videos" / f"{name}.mp4"
            mask = root / "bmasks" / name
            yield Asked(name, places, source, target, kind, mask if mask.is_dir() else None)
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise ArchiveError(table, f"is not a list of edits ({_brief(error)})", _CURE) from error


def _asked(wanted: DatasetManifest, folder: Path, lines: Iterator[Asked]) -> Clips:
    """The clips that a set's own table names, each with its edits."""
    found: Clips = {}
    missing: dict[str, None] = {}
    twice = 0
    for line in lines:
        if set(line.clip) & {"/", "\\", "\0"} or line.clip in ("", ".", ".."):
            raise ArchiveError(wanted.name, f"names a clip {line.clip[:80]!r}", _CURE)
        path = next((place for place in line.places if _holds(place)), None)
        if path is None:
            missing[line.clip] = None
            continue
        clip = found.setdefault(
            line.clip, {"path": path.relative_to(folder).as_posix(), "edits": []}
        )
        if line.mask is not None:
            clip["mask"] = line.mask.relative_to(folder).as_posix()
        edit = {"prompt": line.prompt, "kind": line.kind, "source_prompt": line.source_prompt}
        edit = {key: value for key, value in edit.items() if value}
        if not line.prompt:
            continue
        twice += edit in clip["edits"]
        if edit not in clip["edits"]:
            clip["edits"].append(edit)
    if missing:
        problem = f"lacks {len(missing)} clips ({', '.join(missing)[:200]})"
        raise ArchiveError(wanted.name, problem, _CURE)
    if twice:
        log.warning("%s: %d edits stand in its table twice and are taken once", wanted.name, twice)
    return found


def _holds(place: Path) -> bool:
    return place.is_file() or (place.is_dir() and any(map(is_picture, place.iterdir())))


def _only(wanted: DatasetManifest, folder: Path, name: str) -> Path:
    """The file of a name, wherever in the archive it lies."""
    found = sorted(folder.rglob(name), key=lambda path: len(path.parts))
    if not found:
        raise ArchiveError(wanted.name, f"lacks {name}", _CURE)
    return found[0]


def _read(wanted: DatasetManifest, table: Path) -> str:
    if table.stat().st_size > _LARGEST:
        raise ArchiveError(table, f"holds more than {_LARGEST} bytes", _CURE)
    data = table.read_bytes()
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError:  # as spreadsheets of western systems write
        log.warning("%s: %s is no UTF-8 and is read as Windows-1252", wanted.name, table.name)
        return data.decode("cp1252", errors="replace")


def _brief(error: Exception) -> str:
    return f"{type(error).__name__}: {' '.join(str(error).split())}"[:200]


_READERS: Mapping[str, Callable[[DatasetManifest, Path], Clips]] = {
    "folders": _folders,
    "tgve": _tgve,
    "v2vbench": _v2vbench,
    "five": _five,
    "videos": _videos,
}
