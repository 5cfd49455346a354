"""What lies in a results folder: which method made which clip, with which seed."""

from __future__ import annotations

import logging
import re
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from rerender import files
from rerender.data.names import is_picture, pictures_of
from rerender.errors import InputError
from rerender.files import suffixes
from rerender.run_folder import (
    CONFIG,
    METRICS,
    REPORT,
    STUDY,
    VIDEO,
    WANDB,
    damaged,
    is_run,
    read_config,
    read_facts,
)
from rerender.video import Video

log = logging.getLogger(__name__)

VIDEOS = tuple(suffix for suffix in suffixes.VIDEOS if suffix != ".gif")  # a gif is a preview
OFFSET = "offset.txt"  # in a method's folder: the source's frame that its first frame stands for
_FREE = ("seed", "data", "prompt", "source_prompt", "negative_prompt", "prompt_file")
_ASIDE = ("out", "name", "tracker", "pictures", "debug", "metrics", "devices")
_HASH = re.compile(r"-[0-9a-f]{8}$")
_SEED = re.compile(r"seed[-_]?(\d+)$")
Tree = Mapping[str, Any]


@dataclass(frozen=True)
class Outcome:
    """One finished video.

    Attributes:
        method: what made it.
        clip: the clip's name; None for a run of a single clip, whatever its name.
        seed: the seed; None where none is known.
        path: a video file or a folder of pictures.
        config: the configuration of the run of ours that made it; None for others.
        run: folder of the run of ours that made it; None for others.
        offset: the source's frame that its first frame stands for; None where nothing says so.
    """

    method: str
    clip: str | None
    seed: int | None
    path: Path
    config: Tree | None = None
    run: Path | None = None
    offset: int | None = None

    def check(self) -> None:
        """Refuse a video of a finished run of ours that is not what the run wrote.

        Raises:
            InputError: it does not fit its sha256 in the run's metrics.json.
        """
        if self.run is None:
            return
        try:
            facts = read_facts(self.run)
        except InputError:  # a run that is not finished has no sums yet
            return
        if damaged(self.run, facts, [self.path.relative_to(self.run).as_posix()]):
            cure = "run its command again"
            raise InputError(self.path, "does not fit its sha256 in metrics.json", cure)

    def open(self, like: Video) -> Video:
        """The video; pictures are given the rate of ``like``.

        Raises:
            InputError: it cannot be read.
        """
        return self._opened(len(like) / float(like.end - like.timestamps[0]))

    def alone(self) -> Video:
        """The video where its source is unknown; pictures are given 25 frames per second."""
        return self._opened(25.0)

    def _opened(self, rate: float) -> Video:
        # Here, so that who only asks what lies in a folder waits for no torch.
        from rerender.codec import open_video
        from rerender.data.pictures import Pictures

        return open_video(self.path) if self.path.is_file() else Pictures.of(self.path, rate)

    def files(self) -> list[Path]:
        """All files that the video consists of."""
        return [self.path] if self.path.is_file() else pictures_of(self.path)


def discover(root: Path) -> list[Outcome]:
    """Every finished video under a results folder, ordered by name.

    Understood are a run folder of ours, a folder of run folders, and ``METHOD/CLIP`` where CLIP is
    a video file, or a folder with one video file, with pictures (also under ``frames/``), or with
    ``seed-N`` folders of these.

    Raises:
        InputError: there is no such folder, or one that can be read in two ways.
    """
    if not root.is_dir():
        raise InputError(root, "is not a folder", "name a folder of results")
    found = list(_run(root)) if is_run(root) else []
    for folder in _folders(root) if not found else ():
        found += _run(folder) if is_run(folder) else _foreign(folder)
    return _labelled(found)


def of_method(folder: Path) -> list[Outcome]:
    """The finished videos of one method: a run folder of ours, or ``CLIP`` as for `discover`.

    Raises:
        InputError: there is no such folder, or one that can be read in two ways.
    """
    if not folder.is_dir():
        raise InputError(folder, "is not a folder", "name a folder of results")
    return list(_run(folder) if is_run(folder) else _foreign(folder))


def _folders(root: Path) -> list[Path]:
    """Folders that may be methods: hidden ones, the report page, a study and W&B's are not."""
    found = [path for path in files.children(root) if path.is_dir()]
    ours = (REPORT, STUDY, WANDB)
    return [path for path in found if path.name not in ours and not path.name.startswith(".")]


def _run(folder: Path) -> Iterator[Outcome]:
    config = _config(folder)
    if config is None:
        return
    method, seed = _HASH.sub("", folder.name), config.get("seed")
    for gone in _gone(folder):
        log.warning("%s: is gone; it is left out", gone)
    if (folder / VIDEO).is_file():
        yield Outcome(method, None, seed, folder / VIDEO, config, folder)
        return
    inside = (path / VIDEO for path in files.children(folder))
    for file in filter(Path.is_file, inside):
        yield Outcome(method, file.parent.name, seed, file, config, folder)


def _gone(folder: Path) -> list[Path]:
    """Videos that a finished run says it has made and that are not there."""
    with suppress(InputError):  # said by those who need it
        if (folder / METRICS).is_file():
            said = (str(clip.get("video") or VIDEO) for clip in read_facts(folder)["clips"])
            return [folder / name for name in said if not (folder / name).is_file()]
    return []


def _config(folder: Path) -> Tree | None:
    """The configuration of a run; a run whose own is damaged is said and left out."""
    try:
        config = read_config(folder / CONFIG)
    except InputError as error:
        log.warning("%s: %s; this run is left out", error.where, error.problem)
        return None
    problem = ""
    if not isinstance(config.get("seed"), int | None):
        problem = "its seed is no whole number"
    elif (folder / METRICS).is_file():
        with suppress(InputError):  # said by those who need it
            if damaged(folder, read_facts(folder), [CONFIG]):
                problem = "does not fit its sha256 in metrics.json"
    if problem:
        log.warning("%s: %s; this run is left out", folder / CONFIG, problem)
        return None
    return config


def _foreign(method: Path) -> Iterator[Outcome]:
    offset = offset_in(method)
    for entry in files.children(method):
        if entry.is_file() and entry.suffix.lower() in VIDEOS:
            yield Outcome(method.name, entry.stem, None, entry, offset=offset)
        elif entry.is_dir():
            seeded = [path for path in files.children(entry) if _SEED.fullmatch(path.stem)]
            for path in seeded or [entry]:
                match = _SEED.fullmatch(path.stem)
                video = _video(path)
                if video is not None:
                    seed = int(match[1]) if match else None
                    yield Outcome(method.name, entry.name, seed, video, offset=offset)


def offset_in(method: Path) -> int | None:
    """What a method's folder says of its first frame; None where it says nothing.

    Raises:
        InputError: it is no whole number from 0.
    """
    file = method / OFFSET
    if not file.is_file():
        return None
    text = file.read_text(encoding="utf-8", errors="replace").strip()[:40]
    if not (text.isascii() and text.isdecimal()):
        raise InputError(file, f"must hold a whole number from 0, received {text!r}", "write 1")
    return int(text)


def _video(path: Path) -> Path | None:
    """The video file or picture folder at a place; None if there is none."""
    if path.is_file():
        return path if path.suffix.lower() in VIDEOS else None
    found = [file for file in files.children(path) if file.suffix.lower() in VIDEOS]
    if found:
        if len(found) > 1 and found[0].parent / VIDEO not in found:
            names = ", ".join(file.name for file in found)
            raise InputError(path, f"holds several videos ({names})", "leave one of them there")
        return path / VIDEO if path / VIDEO in found else found[0]
    places = (path / "frames", path)
    return next((place for place in places if _pictured(place)), None)


def _pictured(place: Path) -> bool:
    return any(map(is_picture, files.children(place)))


def _labelled(outcomes: Sequence[Outcome]) -> list[Outcome]:
    """Runs of one name with different settings are told apart by what differs."""
    by_name: dict[str, list[Outcome]] = defaultdict(list)
    for outcome in outcomes:
        by_name[outcome.method].append(outcome)
    named = []
    for group in by_name.values():
        suffixes = _differences([outcome.config or {} for outcome in group])
        named += [
            replace(outcome, method=" ".join(filter(None, [outcome.method, suffix])))
            for outcome, suffix in zip(group, suffixes, strict=True)
        ]
    return named


def _differences(configs: Sequence[Tree]) -> list[str]:
    """For each configuration, ``key=value`` of the settings in which they are not all alike."""
    flats = [dict(_leaves(config)) for config in configs]
    keys = sorted({key for flat in flats for key in flat})
    missing = object()
    differing = [key for key in keys if len({repr(flat.get(key, missing)) for flat in flats}) > 1]
    names = []
    for config, flat in zip(configs, flats, strict=True):
        said: dict[str, str] = {}
        for key in differing:
            group = key.split(".")[0]
            if all(key in other for other in flats) and not key.endswith("_target_"):
                said[key] = str(flat[key])
            else:
                said[group] = _choice(config.get(group))
        names.append(",".join(f"{key}={value}" for key, value in sorted(said.items())))
    return names


def _leaves(node: Any, key: str = "") -> Iterator[tuple[str, Any]]:
    if isinstance(node, Mapping) and node:
        for name, value in node.items():
            if key or name not in (*_FREE, *_ASIDE):
                yield from _leaves(value, f"{key}.{name}" if key else str(name))
    else:
        yield key, node


def _choice(node: Any) -> str:
    """A group's choice in a word: the file of its class, or the names of a list-by-key."""
    if isinstance(node, Mapping):
        target = node.get("_target_")
        names = str(target).split(".")
        return names[-2] if names[1:] else "+".join(map(str, node))
    return "none" if node is None else str(node)
