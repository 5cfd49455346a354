"""What a configuration may name: checked over the whole composed tree, before any import.

Hydra would call whatever ``_target_`` names, in ``hydra.callbacks`` even before our first line.
So the classes that may be named are read from our own files with ``ast``, exactly and without
importing them, and everything else is refused. A configuration cannot read the environment either.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator, Mapping
from functools import cache
from pathlib import Path
from typing import Any

import yaml

from rerender.config.paths import CONF, ROOT
from rerender.errors import ConfigError

TARGET = "_target_"
LISTS = ("control", "constraint", "metrics")  # groups from which any number may be chosen

_MAX_BYTES, _MAX_DEPTH = 64 * 1024, 20  # of a configuration file from elsewhere
_ALSO = frozenset({"rerender.config.sampling.Sampling"})  # a part without a folder of choices
ALONE = "hydra._internal.core_plugins.basic_launcher.BasicLauncher"  # jobs here, one by one
_SWEEPER = "hydra._internal.core_plugins.basic_sweeper.BasicSweeper"
_LAUNCHERS = "rerender.launcher."
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
_KEY = r"(?!hydra\b|oc\.)[A-Za-z_][\w.]*"
_REFERENCE = re.compile(rf"\$\{{(?:{_KEY}|oc\.select:{_KEY}(?:,[\w.]*)?)\}}")
_Loader: type[yaml.SafeLoader] = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
_ESCAPED = re.compile(r"(?<!\\)(?:\\\\)*\\\$\{")


@cache
def allowed() -> frozenset[str]:
    """Full names of the classes a configuration may name: those of our folders of choices."""
    found = set(_ALSO)
    for group in ("launcher", *sorted(path.name for path in CONF.iterdir() if path.is_dir())):
        for package in ("rerender", "eval"):
            for file in sorted((ROOT / package / group).rglob("[!_]*.py")):
                module = ".".join(file.relative_to(ROOT).with_suffix("").parts)
                found |= {f"{module}.{name}" for name in _classes(file)}
    return frozenset(found)


@cache
def parsed(file: Path) -> ast.Module:
    """The source of a file of ours, read once."""
    return ast.parse(file.read_text(encoding="utf-8"))


def scan_file(path: Path) -> None:
    """Refuse a configuration file from elsewhere that could stall or mislead its reader.

    Raises:
        ConfigError: it cannot be read, is no mapping of names, is large or deep, uses anchors, tags
            or a name twice, or asks for what is not in the configuration.
    """

    def refuse(problem: str) -> ConfigError:
        return ConfigError(path, problem, "write it plainly")

    try:
        if path.stat().st_size > _MAX_BYTES:
            raise refuse(f"holds more than {_MAX_BYTES} bytes")
        text, depth = path.read_bytes().decode("utf-8-sig"), 0
        for event in yaml.parse(text, _Loader):
            if isinstance(event, yaml.AliasEvent):
                raise refuse("uses an alias")
            tag = getattr(event, "tag", None)
            if tag is not None:
                raise refuse(f"uses a tag, {tag}")
            depth += isinstance(event, yaml.CollectionStartEvent)
            depth -= isinstance(event, yaml.CollectionEndEvent)
            if depth > _MAX_DEPTH:
                raise refuse(f"is nested more than {_MAX_DEPTH} deep")
            if isinstance(event, yaml.ScalarEvent):
                no_resolver(str(path), event.value)
        root = yaml.compose(text, _Loader)
        if root is None or not isinstance(root, yaml.MappingNode):
            raise refuse("is empty" if root is None else "holds no settings (name: value)")
        for problem in _misnamed(root):
            raise refuse(problem)
        yaml.load(text, yaml.SafeLoader)  # as OmegaConf does: libyaml takes what it refuses (tabs)
    except OSError as error:
        raise ConfigError(path, f"cannot be read: {error.strerror}", "make it readable") from error
    except (ValueError, yaml.YAMLError) as error:
        raise refuse(f"is not YAML ({' '.join(str(error).split())[:200]})") from error


def _misnamed(node: yaml.Node) -> Iterator[str]:
    """What is wrong with the names in a mapping and in all that it holds."""
    if isinstance(node, yaml.MappingNode):
        names = [key.value for key, _ in node.value]
        for key, value in node.value:
            if key.tag != "tag:yaml.org,2002:str":
                yield f"has a setting whose name is not a word, {str(key.value)[:40]!r}"
            elif names.count(key.value) > 1:
                yield f"says {key.value!r} twice"
            yield from _misnamed(value)
    elif isinstance(node, yaml.SequenceNode):
        for value in node.value:
            yield from _misnamed(value)


def scan(tree: Mapping[str, Any]) -> None:
    """Refuse a composed configuration that names, reads or writes what it must not.

    Args:
        tree: the composed configuration as plain values, unresolved, with its ``hydra`` node.

    Raises:
        ConfigError: naming the key.
    """
    ours = {key: value for key, value in tree.items() if key != "hydra"}
    check_classes(ours)
    for key, name, value in leaves(ours, ""):
        if name != TARGET and name.startswith("_") and name.endswith("_"):
            raise ConfigError(key, "is not a setting", "remove it")
        no_resolver(key, value)
    if "hydra" in tree:
        _scan_hydra(tree["hydra"])


def check_classes(tree: Mapping[str, Any]) -> None:
    """Refuse a configuration that names a class which is not of our folders of choices.

    Raises:
        ConfigError: naming the key.
    """
    for key, name, value in leaves(tree, ""):
        if name == TARGET and value not in allowed():
            raise _foreign(key, value)


def _scan_hydra(hydra: Mapping[str, Any]) -> None:
    for key, name, value in leaves(hydra, "hydra"):
        if key.startswith(_UNREAD):
            continue
        if name == TARGET and not _runs_jobs(str(value)):
            raise _foreign(key, value)
        if isinstance(value, str) and re.search(r"\$\{[^}]*\boc\.", value):
            raise ConfigError(key, f"reads what it must not, {value!r}", "remove it")
    for path, expected in _FIXED.items():
        value = hydra
        for part in path.split("."):
            value = value.get(part, None)
        if value != expected:
            raise ConfigError(f"hydra.{path}", "is fixed", "remove it; results go where out= says")


def _runs_jobs(target: str) -> bool:
    ours = target.startswith(_LAUNCHERS) and target in allowed()
    return ours or target in (ALONE, _SWEEPER)


def leaves(node: Any, key: str, name: str = "") -> Iterator[tuple[str, str, Any]]:
    """(full key, last name, value) of everything that is not a mapping or list."""
    if isinstance(node, Mapping):
        for child, value in node.items():
            yield from leaves(value, f"{key}.{child}" if key else str(child), str(child))
    elif isinstance(node, list):
        for index, value in enumerate(node):
            yield from leaves(value, f"{key}[{index}]", name)
    else:
        yield key, name, node


def _classes(file: Path) -> Iterator[str]:
    for node in parsed(file).body:
        if isinstance(node, ast.ClassDef) and not node.name.startswith("_"):
            yield node.name


def _foreign(key: str, value: Any) -> ConfigError:
    return ConfigError(key, f"{value!r} is not a part of this project", "choose one of conf/")


def no_resolver(key: str, value: Any) -> None:
    """Refuse a text that refers to anything but other keys of the configuration.

    Raises:
        ConfigError: naming ``key``.
    """
    if not isinstance(value, str):
        return
    rest = _REFERENCE.sub("", _ESCAPED.sub("", value))
    if "${" in rest:
        raise ConfigError(
            key,
            f"may only refer to other keys, received {value!r}",
            r"write the text out, or \${ for a literal ${",
        )
