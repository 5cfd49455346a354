"""What a configuration may name: checked over the whole composed tree, before any import.

Hydra would call whatever ``_target_`` names, in ``hydra.callbacks`` even before our first line.
So the classes that may be named are read from our own files with ``ast``, exactly and without
importing them, and everything else is refused. A configuration cannot read the environment either.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator, Mapping
from functools import lru_cache
from pathlib import Path
from typing import Any

import yaml

from rerender.errors import ConfigError

ROOT = Path(__file__).resolve().parents[1]
CONF = ROOT / "conf"
TARGET = "_target_"
LISTS = ("control", "constraint", "metrics")  # groups from which any number may be chosen

_MAX_BYTES, _MAX_DEPTH = 64 * 1024, 20  # of a configuration file from elsewhere
_ALSO = frozenset({"rerender.parts.Sampling"})  # a part without a folder of choices
_ENGINES = frozenset(
    {
        "hydra._internal.core_plugins.basic_launcher.BasicLauncher",
        "hydra._internal.core_plugins.basic_sweeper.BasicSweeper",
        "hydra_plugins.hydra_rerender.Spread",
    }
)
_LOGGING = {"version": 1, "root": None, "disable_existing_loggers": False}
_FIXED: dict[str, Any] = {
    "callbacks": {},
    "hydra_logging": _LOGGING,
    "job_logging": _LOGGING,
    "output_subdir": None,
    "run.dir": "outputs/.jobs",
    "sweep.dir": "outputs/.jobs",
    "sweep.subdir": "${hydra.job.num}",
    "job.env_set": {},
    "job.chdir": None,
}
_UNREAD = ("hydra.overrides", "hydra.job.override_dirname", "hydra.help", "hydra.hydra_help")
_REFERENCE = re.compile(r"\$\{(?:[A-Za-z_][\w.]*|oc\.select:[\w.,]+)\}")
_ESCAPED = re.compile(r"(?<!\\)(?:\\\\)*\\\$\{")


@lru_cache(maxsize=1)
def allowed() -> frozenset[str]:
    """Full names of the classes a configuration may name: those of our folders of choices."""
    found = set(_ALSO)
    for group in ("launcher", *sorted(path.name for path in CONF.iterdir() if path.is_dir())):
        for package in ("rerender", "eval"):
            for file in sorted((ROOT / package / group).glob("*.py")):
                found |= {f"{package}.{group}.{file.stem}.{name}" for name in _classes(file)}
    return frozenset(found)


def scan_file(path: Path) -> None:
    """Refuse a configuration file from elsewhere that could stall or mislead its reader.

    Raises:
        ConfigError: it is large or deep, or uses anchors or a key twice.
    """

    def refuse(problem: str) -> ConfigError:
        return ConfigError(path, problem, "write it plainly")

    if path.stat().st_size > _MAX_BYTES:
        raise refuse(f"holds more than {_MAX_BYTES} bytes")
    try:
        text, depth = path.read_text(encoding="utf-8"), 0
        for event in yaml.parse(text, yaml.SafeLoader):
            if isinstance(event, yaml.AliasEvent):
                raise refuse("uses an alias")
            depth += isinstance(event, yaml.CollectionStartEvent)
            depth -= isinstance(event, yaml.CollectionEndEvent)
            if depth > _MAX_DEPTH:
                raise refuse(f"is nested more than {_MAX_DEPTH} deep")
        for key in _twice(yaml.compose(text, yaml.SafeLoader)):
            raise refuse(f"says {key!r} twice")
    except (UnicodeDecodeError, yaml.YAMLError) as error:
        raise refuse(f"is not YAML ({' '.join(str(error).split())})") from error


def _twice(node: yaml.Node | None) -> Iterator[str]:
    if isinstance(node, yaml.MappingNode):
        names = [key.value for key, _ in node.value]
        yield from (name for name in names if names.count(name) > 1)
        for _, value in node.value:
            yield from _twice(value)
    elif isinstance(node, yaml.SequenceNode):
        for value in node.value:
            yield from _twice(value)


def scan(tree: Mapping[str, Any]) -> None:
    """Refuse a composed configuration that names, reads or writes what it must not.

    Args:
        tree: the composed configuration as plain values, unresolved, with its ``hydra`` node.

    Raises:
        ConfigError: naming the key.
    """
    ours = {key: value for key, value in tree.items() if key != "hydra"}
    for key, name, value in _leaves(ours, ""):
        if name == TARGET and value not in allowed():
            raise _foreign(key, value)
        if name != TARGET and name.startswith("_") and name.endswith("_"):
            raise ConfigError(key, "is not a setting", "remove it")
        _no_resolver(key, value)
    if "hydra" in tree:
        _scan_hydra(tree["hydra"])


def _scan_hydra(hydra: Mapping[str, Any]) -> None:
    for key, name, value in _leaves(hydra, "hydra"):
        if key.startswith(_UNREAD):
            continue
        if name == TARGET and value not in _ENGINES:
            raise _foreign(key, value)
        if isinstance(value, str) and re.search(r"\$\{[^}]*\boc\.", value):
            raise ConfigError(key, f"reads what it must not, {value!r}", "remove it")
    for path, expected in _FIXED.items():
        value = hydra
        for part in path.split("."):
            value = value.get(part, None)
        if value != expected:
            raise ConfigError(f"hydra.{path}", "is fixed", "remove it; results go where out= says")


def _leaves(node: Any, key: str, name: str = "") -> Iterator[tuple[str, str, Any]]:
    """(full key, last name, value) of everything that is not a mapping or list."""
    if isinstance(node, Mapping):
        for child, value in node.items():
            yield from _leaves(value, f"{key}.{child}" if key else str(child), str(child))
    elif isinstance(node, list):
        for index, value in enumerate(node):
            yield from _leaves(value, f"{key}[{index}]", name)
    else:
        yield key, name, node


def _classes(file: Path) -> Iterator[str]:
    for node in ast.parse(file.read_text(encoding="utf-8")).body:
        if isinstance(node, ast.ClassDef) and not node.name.startswith("_"):
            yield node.name


def _foreign(key: str, value: Any) -> ConfigError:
    return ConfigError(key, f"{value!r} is not a part of this project", "choose one of conf/")


def _no_resolver(key: str, value: Any) -> None:
    if not isinstance(value, str):
        return
    rest = _REFERENCE.sub("", _ESCAPED.sub("", value))
    if "${" in rest:
        raise ConfigError(
            key,
            f"may only refer to other keys, received {value!r}",
            r"write the text out, or \${ for a literal ${",
        )
