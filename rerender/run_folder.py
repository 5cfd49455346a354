"""Small files of ours, read back: JSON and YAML that may be damaged, and metrics.json, which holds
the sha256 of every finished file of its run.

Folders of results are copied, cut, edited and come from elsewhere. Whatever stands in such a file,
its reader gets a plain value of the right kind, or one line that names the file.
"""

from __future__ import annotations

import hashlib
import json
import os
import stat
from collections.abc import Iterable, Mapping
from contextlib import suppress
from copy import deepcopy
from functools import lru_cache
from pathlib import Path
from typing import Any

import yaml

from rerender.errors import InputError
from rerender.video import sha256_file

# Names of the files and folders that a run writes.
CONFIG, METRICS, SCORES = "config.yaml", "metrics.json", "scores.jsonl"
EVAL_SCORES = "eval_scores.jsonl"  # what eval.score measures of the run itself, floors included
VIDEO, SHEET = "video.mp4", "sheet.png"
FRAMES, SOUND = "frames", "sound.m4a"  # pictures of the result, and the sound beside them
MASTERS = ("video.mov", "video.mkv")  # the result as format=NAME asks for it, beside the mp4
LOG, RECORD = "run.log", "record.jsonl"
OWN, WANDB, KEYS = ".store", "wandb", "keys"
REPORT, STUDY = "report", "study"  # of a folder of results

SEAL, FILES = "sha256", "files"  # keys of metrics.json
_LARGEST = 64 * 2**20  # bytes of a small file
_DEEPEST = 100  # mappings and lists within each other
_CURE = "make it again with the same command, or remove it"
_WANTED = {"config": str, "code": str, "versions": dict, "inputs": dict, "pictures": list}
_WANTED |= {"clips": list, "seconds": dict, FILES: dict, "warnings": list}
_OF_CLIP = {"clip": str, "video": str, "frames": int, "seconds": dict}


def read_text(path: Path) -> str:
    """The text of a small file; a pipe, a device or a huge file is refused, not waited for.

    Raises:
        InputError: it cannot be read as UTF-8 text.
    """
    try:
        handle = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        with os.fdopen(handle, "rb") as file:
            found = os.fstat(handle)
            if not stat.S_ISREG(found.st_mode) or found.st_size > _LARGEST:
                raise InputError(path, "is no small plain file", _CURE)
            return file.read().decode()
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise InputError(path, f"cannot be read ({reason.lower()})", _CURE) from error


def read_json(path: Path) -> dict[str, Any]:
    """The object in a JSON file.

    Raises:
        InputError: it cannot be read, or is something else.
    """
    try:
        found = json.loads(read_text(path))
    except (ValueError, RecursionError) as error:
        raise InputError(path, f"is damaged ({error})", _CURE) from error
    if not isinstance(found, dict):
        raise InputError(path, f"holds {type(found).__name__} in place of an object", _CURE)
    return found


# libyaml reads ten times as fast; where PyYAML lacks it, the same in Python.
_LOADER: Any = yaml.CSafeLoader if yaml.__with_libyaml__ else yaml.SafeLoader


def _loader(text: str) -> Any:
    """What reads a text. libyaml refuses half characters, which stand for bytes of names of files
    that are no UTF-8."""
    return yaml.SafeLoader if "\\uDC" in text else _LOADER


def _check_yaml(text: str) -> None:
    """Refuse what our files never have: aliases, with which a short text can become huge, and a
    depth at which the C library's stack would end.

    Raises:
        yaml.YAMLError: the text has one of these, or is no YAML.
    """
    depth = 0
    for event in yaml.parse(text, _loader(text)):
        if isinstance(event, yaml.AliasEvent):
            raise yaml.YAMLError("it has an alias")
        depth += isinstance(event, yaml.CollectionStartEvent)
        depth -= isinstance(event, yaml.CollectionEndEvent)
        if depth > _DEEPEST:
            raise yaml.YAMLError(f"it nests deeper than {_DEEPEST}")


@lru_cache(256)  # a report asks for the configuration of each run several times
def _parsed(text: str) -> Any:
    """What a text says in YAML, if JSON can say it too.

    Raises:
        Exception: of any kind, the text is no such YAML.
    """
    _check_yaml(text)
    found = yaml.load(text, _loader(text))
    json.dumps(found, sort_keys=True, allow_nan=False)
    return found


def read_config(path: Path) -> dict[str, Any]:
    """The configuration in a config.yaml of ours: plain values under texts.

    Raises:
        InputError: it cannot be read, or is something else.
    """
    try:
        found = deepcopy(_parsed(read_text(path)))
    except InputError:
        raise
    except Exception as error:  # the parser raises nearly anything for texts that are no YAML
        reason = f"{type(error).__name__}: {error}"[:200]
        raise InputError(path, f"is damaged ({reason})", _CURE) from error
    if not isinstance(found, dict) or not all(isinstance(key, str) for key in found):
        raise InputError(path, "is no configuration", _CURE)
    return found


def is_run(folder: Path) -> bool:
    """Whether a folder is a run of ours, also where one of the two files that say so is damaged."""
    if (folder / CONFIG).is_file():
        return True
    with suppress(InputError):
        return bool(read_facts(folder))
    return False


def score_file(root: Path) -> Path:
    """Where the scores of a folder of results stand. Those of a run, whose own scores.jsonl is in
    its metrics.json by sha256, stand beside that."""
    return root / (EVAL_SCORES if is_run(root) else SCORES)


def known_score_file(root: Path) -> Path:
    """The scores of a folder of results for those who show them: a run that nobody has scored since
    has its own."""
    found = score_file(root)
    return found if found.is_file() else root / SCORES


def files_below(folder: Path) -> list[Path]:
    """The plain files of a folder and of those below it, by name. Others may be writing and
    removing there: what vanishes meanwhile is left out, and links to folders are not followed."""
    found = (Path(place, name) for place, _, names in os.walk(folder) for name in names)
    return sorted(path for path in found if path.is_file())


def sealed(facts: Mapping[str, Any]) -> dict[str, Any]:
    """Facts with the sha256 of all that they say."""
    return {**facts, SEAL: _seal(facts)}


def _seal(facts: Mapping[str, Any]) -> str:
    text = json.dumps(facts, sort_keys=True, allow_nan=False)
    return hashlib.sha256(text.encode()).hexdigest()


def read_facts(folder: Path) -> dict[str, Any]:
    """What the metrics.json of a finished run says.

    Raises:
        InputError: there is none, it does not fit its own sha256, or is of another version.
    """
    path = folder / METRICS
    found = read_json(path)
    seal = found.pop(SEAL, None)
    try:
        whole = seal == _seal(found)
    except ValueError:  # NaN, which we never write
        whole = False
    if not whole:
        problem = "is damaged or of another version (it does not fit its own sha256)"
        raise InputError(path, problem, _CURE)
    if not all(isinstance(found.get(key), kind) for key, kind in _WANTED.items()) or not all(
        isinstance(clip, dict)
        and all(isinstance(clip.get(key), kind) for key, kind in _OF_CLIP.items())
        for clip in found["clips"]
    ):
        raise InputError(path, "lacks what a finished run says", _CURE)
    return found


def sums(folder: Path, files: Iterable[Path]) -> dict[str, dict[str, Any]]:
    """Size and sha256 of files of a folder, by name."""
    return {
        file.relative_to(folder).as_posix(): {
            "size": file.stat().st_size,
            "sha256": sha256_file(file),
        }
        for file in sorted(files)
    }


def damaged(
    folder: Path, facts: Mapping[str, Any], names: Iterable[str] | None = None
) -> list[str]:
    """The files of a finished run that are missing, or are not what it has written.

    Args:
        folder: of the run.
        facts: what its metrics.json says.
        names: which files to look at; None looks at all.
    """
    known: Mapping[str, Any] = facts[FILES]
    chosen = known if names is None else [name for name in names if name in known]
    return [name for name in chosen if not _intact(folder / name, known[name])]


def _intact(path: Path, expected: Mapping[str, Any]) -> bool:
    try:
        found = path.stat()
        if not stat.S_ISREG(found.st_mode) or found.st_size != expected["size"]:
            return False
        return bool(sha256_file(path) == expected["sha256"])
    except (OSError, KeyError, TypeError):
        return False
