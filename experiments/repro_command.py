"""The command that repeats a run, found from its composed configuration."""

from __future__ import annotations

import json
import shlex
from collections.abc import Iterator, Mapping
from functools import lru_cache
from pathlib import Path
from typing import Any

import yaml
from hydra.core.override_parser.types import Quote, QuotedString
from omegaconf import OmegaConf

from rerender.config.allowlist import LISTS, TARGET
from rerender.config.compose import literal, preflight
from rerender.config.overrides import quoted, texts_of
from rerender.config.paths import CONF
from rerender.config.settings import PROMPTS, literal_at
from rerender.errors import RerenderError

_ASIDE = ("out", "name", "tracker", "prompt_file", "debug", "devices")
Tree = Mapping[str, Any]


def command(tree: Tree) -> str | None:
    """``python -m rerender.run ...`` that composes the same configuration again.

    Choices of groups come first, then every setting that differs from what they say. What only says
    where results go (out, name, tracker) is left out.

    Returns:
        The command, or None where no command of this version gives that configuration.
    """
    arguments = tuple(_choices(tree)) + tuple(_prompts(tree))
    try:
        arguments += tuple(_changes(tree, _composed(arguments)))
        again = _composed(arguments)
    except RerenderError:
        return None
    if list(_changes(tree, again)):
        return None
    return shlex.join(["python", "-m", "rerender.run", *arguments])


@lru_cache(maxsize=64)
def _composed(arguments: tuple[str, ...]) -> Tree:
    return preflight(literal(arguments)).jobs[0]


def _choices(tree: Tree) -> Iterator[str]:
    """``group=choice`` for every group that has a folder in conf/."""
    default = _composed(())
    for group in {**default, **tree}:
        node = tree.get(group)
        if not (CONF / group).is_dir() or group in _ASIDE:
            continue
        if group in LISTS:
            names = _listed(group, node or {})
            if names != _listed(group, default.get(group) or {}):
                yield f"{group}=[{','.join(names)}]"
        elif isinstance(node, Mapping):
            name = _nearest(group, node)
            if name is not None and name != _nearest(group, default[group]):
                yield f"{group}={name}"


def _listed(group: str, node: Tree) -> list[str]:
    """The files of a list-by-key group whose keys are all there, in order of their first key."""
    keys = list(node)
    found = {path.stem: list(_file(path)) for path in sorted((CONF / group).glob("*.yaml"))}
    whole = [name for name, own in found.items() if own and set(own) <= set(keys)]
    return sorted(whole, key=lambda name: keys.index(found[name][0]))


def _nearest(group: str, node: Tree) -> str | None:
    """The file of a group with the same class and the fewest differences."""
    same = {
        path.stem: dict(_leaves(_file(path)))
        for path in sorted((CONF / group).glob("*.yaml"))
        if _file(path).get(TARGET) == node.get(TARGET)
    }
    own = dict(_leaves(node))
    return min(same, key=lambda name: _distance(own, same[name]), default=None)


def _distance(one: Tree, other: Tree) -> int:
    return sum(one.get(key) != other.get(key) for key in {*one, *other})


@lru_cache(maxsize=256)
def _file(path: Path) -> dict[str, Any]:
    """What a choice says, together with the choices of its group that it goes out from."""
    own: dict[str, Any] = dict(yaml.safe_load(path.read_text(encoding="utf-8")) or {})
    bases = [name for name in own.pop("defaults", ()) if name != "_self_"]
    if not bases:
        return own
    files = [_file(path.with_name(f"{name}.yaml")) for name in bases]
    merged = OmegaConf.to_container(OmegaConf.merge(*files, own))
    assert isinstance(merged, dict)  # as its parts
    return {str(key): value for key, value in merged.items()}


def _prompts(tree: Tree) -> Iterator[str]:
    for name in PROMPTS:
        if tree.get(name):
            yield f"{name}={_said(name, str(tree[name]))}"


def _changes(tree: Tree, base: Tree) -> Iterator[str]:
    """``key=value`` of every setting that is not as in ``base``."""
    wanted, given = dict(_leaves(tree)), dict(_leaves(base))
    for key, value in wanted.items():
        if key.split(".")[0] in _ASIDE:
            continue
        if key not in given:
            yield f"+{key}={_said(key, value)}"
        elif given[key] != value:
            yield f"{key}={_said(key, value)}"
    for key in given:
        if key not in wanted and key.split(".")[0] not in _ASIDE:
            yield f"~{key}"


def _leaves(node: Any, key: str = "") -> Iterator[tuple[str, Any]]:
    if isinstance(node, Mapping) and node:
        for name, value in node.items():
            yield from _leaves(value, f"{key}.{name}" if key else str(name))
    else:
        yield key, node


def _said(key: str, value: Any) -> str:
    """What to write behind ``key=``."""
    setting = literal_at(key) if isinstance(value, str) else None
    if setting is None:
        return _value(value)
    # As it is, but where quotes or null would be taken for more than that.
    plain = texts_of(value) == [value] and not (value == "null" and setting.optional)
    return value if plain else str(QuotedString(value, Quote.double).with_quotes())


def _value(value: Any) -> str:
    """A value in Hydra's grammar."""
    if isinstance(value, str):
        return _quoted(value)
    if isinstance(value, (list, tuple)):
        return f"[{','.join(map(_value, value))}]"
    if isinstance(value, Mapping):
        return "{" + ",".join(f"{key}:{_value(item)}" for key, item in value.items()) + "}"
    return json.dumps(value)


def _quoted(text: str) -> str:
    simple = text and all(letter.isalnum() or letter in "_-./" for letter in text)
    if simple and text not in ("null", "true", "false") and not text[0].isdigit():
        return text
    return quoted(text)
