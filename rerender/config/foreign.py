"""Configuration files from elsewhere: what they may say, and what they may not.

Such a file may come from a stranger. Whatever runs a program, connects to a machine or writes
outside the usual folders is said on the command line, or by a file of our own conf/. A folder of
``--config-dir`` is looked through before anything of it is composed; what it made of the
configuration is compared afterwards, at the place where a value ends up, whatever way it came
there. The config.yaml of a run in a folder of results is such a file too.
"""

from __future__ import annotations

import os
import re
from argparse import ArgumentParser
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from rerender.config.allowlist import TARGET, check_classes, scan_file
from rerender.config.paths import CONF
from rerender.config.settings import JOB, Setting, settings_of
from rerender.errors import ConfigError

OPTION = "--config-dir"
_MOST, _ENTRIES, _BYTES = 1000, 10_000, 2_000_000
_PLAIN = ".yaml"
_CURE = "say it on the command line"
Given = Mapping[str, Sequence[Any]]
"""The values that the command line says for each key."""
ALLOW = "--allow"
_SAID: dict[str, list[Any]] = {}  # by the command line of this process, of what it alone may say


def scan_folder(folder: Path) -> None:
    """Refuse a folder of configurations that could stall, mislead or lead elsewhere.

    Raises:
        ConfigError: there is no such folder; it cannot be read, is huge, or holds links that lead
            out of it, files under names of ours, or a file that `scan_file` refuses.
    """
    if not folder.is_dir():
        problem = f"{folder} is a file" if folder.exists() else f"there is no folder {folder}"
        raise ConfigError(OPTION, problem, "name a folder of yaml files")
    files = [file for file in _walked(folder) if _is_yaml(file, folder)]
    if len(files) > _MOST or sum(file.stat().st_size for file in files) > _BYTES:
        problem = f"{folder} holds more than {_MOST} files or {_BYTES} bytes of yaml"
        raise ConfigError(OPTION, problem, "name a folder that holds your configurations alone")
    for file in sorted(files):
        scan_file(file)
        _scan_defaults(file)


def _walked(folder: Path) -> Iterator[Path]:
    """Every file of a folder, links that lead out of it refused."""

    def unreadable(error: OSError) -> None:
        problem = f"cannot be read: {error.strerror}"
        raise ConfigError(error.filename or folder, problem, "make it readable")

    root, count = folder.resolve(), 0
    for place, folders, files in os.walk(folder, onerror=unreadable):
        for name in (*folders, *files):
            path = Path(place, name)
            count += 1
            if count > _ENTRIES:
                problem = f"{folder} holds more than {_ENTRIES} files"
                cure = "name a folder that holds your configurations alone"
                raise ConfigError(OPTION, problem, cure)
            if path.is_symlink() and not path.resolve().is_relative_to(root):
                raise ConfigError(path, "is a link that leads out of the folder", "copy the file")
            if name in files:
                yield path


def _is_yaml(file: Path, folder: Path) -> bool:
    """Whether Hydra would read a file; refused where its name misleads."""
    if file.suffix.lower() not in (_PLAIN, ".yml"):
        return False
    inside = file.relative_to(folder)
    if file.suffix != _PLAIN:
        raise ConfigError(file, "is not read under this name", f"call it {file.stem}{_PLAIN}")
    if not file.is_file():
        raise ConfigError(file, "is not a file", "remove it")
    if inside.parts[0] == "hydra":
        raise ConfigError(
            file, "is about what runs jobs", f"remove it; {_CURE}: hydra/launcher=NAME"
        )
    if (CONF / inside).exists():
        raise ConfigError(file, "has the name of one of ours, which is taken", "give it another")
    return True


def _scan_defaults(file: Path) -> None:
    """Refuse a defaults list that names files outside the folders of configurations."""
    tree = yaml.safe_load(file.read_bytes().decode("utf-8-sig"))
    defaults = tree.get("defaults")
    for entry in defaults if isinstance(defaults, list) else ():
        words = [*entry, *entry.values()] if isinstance(entry, dict) else [entry]
        for word in words:
            for name in word if isinstance(word, list) else (word,):
                if ".." in str(name).split("/") or "://" in str(name):
                    problem = f"its defaults lead out of the folder, {name!r}"
                    raise ConfigError(file, problem, "name a choice: group: name")


def check_hydra(hydra: Mapping[str, Any], ours: Mapping[str, Any]) -> None:
    """Refuse what files from elsewhere made of Hydra's own settings; they may sweep, no more.

    Args:
        hydra: Hydra's settings as composed with these files.
        ours: the same without them.

    Raises:
        ConfigError: naming the key.
    """
    for key in sorted({*hydra, *ours} - {"overrides", "runtime", "searchpath", "job"}):
        one, other = hydra.get(key), ours.get(key)
        if key == "sweeper":
            one, other = ({**(node or {}), "params": None} for node in (one, other))
        if one != other:
            raise ConfigError(
                f"hydra.{key}", f"is set by a file of {OPTION}", f"remove it; {_CURE}"
            )


def check_tree(tree: Mapping[str, Any], given: Given) -> None:
    """Refuse a value that runs, connects or writes and that only a file from elsewhere says.

    Args:
        tree: the resolved configuration of a job.
        given: what the command line says.

    Raises:
        ConfigError: naming the key.
    """
    for key, path, setting, value in _texts(tree, JOB, ""):
        if _harmless(setting, value) or value in given_at(given, key):
            continue
        if value in _shipped(path):
            continue
        problem = f"{value!r} is said by a file of {OPTION}"
        if setting.kind and setting.kind.fetched:
            cure = f"{_CURE}, or write ./FOLDER for weights on this machine"
            raise ConfigError(key, f"{problem}, and would be fetched from the hub", cure)
        raise ConfigError(key, problem, f"{_CURE}: {key}=VALUE")


def remember(tree: Mapping[str, Any]) -> None:
    """Note what a checked configuration of this command line says that runs, connects or writes:
    the runs of this command may say it in their config.yaml.

    Args:
        tree: the resolved configuration of a job.
    """
    for key, _, setting, value in _texts(tree, JOB, ""):
        if not _harmless(setting, value):
            _SAID.setdefault(re.sub(r"\[\d+\]", "", key), []).append(value)


def allowing(parser: ArgumentParser) -> None:
    """Give a command that reads folders of results the option by which its command line says what
    their config.yaml may."""
    parser.add_argument(
        ALLOW,
        action="append",
        type=_allowed,
        metavar="KEY=VALUE",
        help="let runs say this in their config.yaml: flow.repo=DIR runs the code of that folder",
    )


def _allowed(text: str) -> str:
    key, equals, value = text.partition("=")
    if not (key and equals):
        raise ConfigError(ALLOW, f"must be KEY=VALUE, received {text!r}", "write the = too")
    _SAID.setdefault(key, []).append(value)
    return text


def check_recorded(tree: Mapping[str, Any], keys: Sequence[str]) -> None:
    """Refuse a config.yaml of a folder of results by which a reader of it would run code or a
    program, or connect, where the command line does not say so.

    Args:
        tree: what the file says.
        keys: the keys on its top of which anything is used.

    Raises:
        ConfigError: naming the key; also for a class that is not ours.
    """
    used = {key: value for key, value in tree.items() if key in keys}
    check_classes(used)
    for key, path, setting, value in _texts(used, JOB, ""):
        if not (_harmless(setting, value) or value in given_at(_SAID, key)) and (
            value not in _shipped(path)
        ):
            problem = f"{value!r} is said by the config.yaml of a run"
            raise ConfigError(key, problem, f"{_CURE}: {ALLOW} {key}={value}")


def given_at(given: Given, key: str) -> list[Any]:
    """The values that the command line says for a key, or inside those of a key above it."""
    key = re.sub(r"\[\d+\]", "", key)
    found: list[Any] = list(given.get(key, ()))
    found += [item for value in found if isinstance(value, list) for item in value]
    above, _, name = key.rpartition(".")
    if above:
        found += [v[name] for v in given_at(given, above) if isinstance(v, Mapping) and name in v]
    return found


def _texts(
    node: Mapping[str, Any], target: str, key: str
) -> Iterator[tuple[str, tuple[str, ...], Setting, Any]]:
    """(key, last names, setting, value) of every value whose field holds text or connects."""
    fields = settings_of(target)
    for name, value in node.items():
        where = f"{key}.{name}" if key else str(name)
        setting = fields.get(str(name), Setting(None, False, False))
        yield from _inside(value, where, (str(name),), setting)


def _inside(
    value: Any, key: str, path: tuple[str, ...], setting: Setting
) -> Iterator[tuple[str, tuple[str, ...], Setting, Any]]:
    if isinstance(value, Mapping):
        if TARGET in value:
            yield from _texts(value, str(value[TARGET]), key)
            return
        for name, inner in value.items():
            yield from _inside(inner, f"{key}.{name}", (*path, str(name)), setting)
    elif isinstance(value, (list, tuple)):
        for index, inner in enumerate(value):
            yield from _inside(inner, f"{key}[{index}]", path, setting)
    elif value is None or path[-1] == TARGET:
        return
    # A text in a part that is not spelled out, of which nothing is known, counts too.
    elif setting.kind is not None or (len(path) > 1 and isinstance(value, str)):
        yield key, path, setting, value


def _harmless(setting: Setting, value: Any) -> bool:
    kind = setting.kind
    if kind is None or not kind.shared:
        return False
    text = str(value)
    return not (kind.fetched and text.count("/") == 1 and not text.startswith(("/", ".", "~")))


def _shipped(path: tuple[str, ...]) -> set[Any]:
    """What files of our own conf/ say for settings of that name."""
    found: set[Any] = set()
    for file in CONF.rglob("*.yaml"):
        text = file.read_text(encoding="utf-8")
        if f"{path[-1]}:" in text:
            found |= set(_values(yaml.safe_load(text), path))
    return found


def _values(node: Any, path: tuple[str, ...]) -> Iterator[Any]:
    if isinstance(node, Mapping):
        inner: Any = node
        for name in path:
            inner = inner.get(name) if isinstance(inner, Mapping) else None
        if isinstance(inner, (str, int, float, bool)):
            yield inner
        for value in node.values():
            yield from _values(value, path)
