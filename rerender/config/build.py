"""From the composed configuration to objects: every key known, every value of its field's type.

A mapping with ``_target_`` becomes an object of that class. A mapping of such mappings (a
list-by-key: ``constraint: {shape: {_target_: ...}}``) becomes a tuple, in order. Everything else
is a plain value, checked against the annotation of the field it is for.
"""

from __future__ import annotations

import difflib
import importlib
import os
import re
import typing
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import MISSING, Field, fields, is_dataclass
from functools import cache
from pathlib import Path
from typing import Any, TypeVar

from rerender.config.allowlist import TARGET, allowed
from rerender.errors import ConfigError, RerenderError, ResourceError
from rerender.kinds import Kind, expanded

Built = TypeVar("Built")
UNSET = "???"  # how a configuration writes "must be given"
_LONGEST_NAME, _LONGEST_PATH = 255, 4095  # bytes, of what file systems take
APT = "apt install libgl1 libglib2.0-0 libxcb1"


def build(node: Any, key: str) -> Any:
    """The value that a part of the configuration stands for.

    Args:
        node: a resolved part of the configuration (mappings, lists, scalars).
        key: its place in the configuration, such as ``constraint.shape``; messages start with it.

    Raises:
        ConfigError: a class that is not one of ours, an unknown key or a value out of range.
        ResourceError: a system library that a class needs is missing.
    """
    if isinstance(node, Mapping):
        if TARGET in node:
            settings = {name: value for name, value in node.items() if name != TARGET}
            return construct(_located(str(node[TARGET]), key), settings, key)
        if _by_key(node):
            return tuple(build(value, f"{key}.{name}") for name, value in node.items())
        return {name: build(value, f"{key}.{name}") for name, value in node.items()}
    if isinstance(node, list):
        return [build(value, f"{key}[{index}]") for index, value in enumerate(node)]
    return node


def construct(cls: type[Built], settings: Mapping[str, Any], key: str) -> Built:
    """An object of a dataclass from its settings, each one checked.

    Args:
        cls: a dataclass.
        settings: a plain value or a part of the configuration for each of its fields.
        key: the place of the settings in the configuration; "" is the top.

    Raises:
        ConfigError: an unknown or missing key, or a value that the field or the class refuses.
    """
    known = {field.name: field for field in fields(typing.cast(Any, cls)) if field.init}
    for name in settings:
        if name not in known:
            raise unknown_key(_join(key, name), name, known)
    hints = _hints(typing.cast(Any, cls))
    values = {
        name: _checked(value, hints[name], _join(key, name)) for name, value in settings.items()
    }
    for name, field in known.items():
        if name not in values and _required(field):
            raise _missing(_join(key, name))
    try:
        return cls(**values)
    except RerenderError as error:
        raise _prefixed(error, key, known) from error
    except (TypeError, ValueError) as error:
        raise ConfigError(key, str(error), "correct the value") from error


def unknown_key(where: str, name: str, known: Iterable[str]) -> ConfigError:
    """The refusal of a key that nobody reads; it names the nearest key that somebody does."""
    names = sorted(map(str, known))
    near = difflib.get_close_matches(str(name), names, 1, 0.6)
    cure = f"did you mean {near[0]}?" if near else f"known keys: {', '.join(names) or 'none'}"
    return ConfigError(where, "unknown key", cure)


def _located(target: str, key: str) -> type[Any]:
    if target not in allowed():
        near = difflib.get_close_matches(target, allowed(), 1, 0.5)
        cure = f"did you mean {near[0]}?" if near else "name a class of this project"
        raise ConfigError(f"{key}.{TARGET}", f"{target!r} is not a part of this project", cure)
    module, _, name = target.rpartition(".")
    try:
        found = getattr(importlib.import_module(module), name)
    except ImportError as error:
        raise missing_library(error) or error from error
    if not is_dataclass(found):
        raise ConfigError(f"{key}.{TARGET}", f"{target!r} has no settings", "choose one of conf/")
    return typing.cast("type[Any]", found)


def missing_library(error: ImportError) -> ResourceError | None:
    """What to install where OpenCV lacks a system library; None for any other failed import."""
    found = re.search(r"(lib[\w.+-]+\.so[.\d]*): cannot open shared object", str(error))
    if found is None:
        return None
    return ResourceError("opencv-python", f"the system lacks {found[1]}", f"run: {APT}")


def _by_key(node: Mapping[str, Any]) -> bool:
    return bool(node) and all(isinstance(v, Mapping) and TARGET in v for v in node.values())


def _checked(value: Any, annotation: Any, key: str) -> Any:
    if value == UNSET:
        raise _missing(key)
    if typing.get_origin(annotation) is tuple and value in (None, {}):
        value = ()  # a list of choices from which nothing was chosen
    value = build(value, key)
    objects = [item for item in _items(value) if _is_part(item)]
    if objects:
        return _of_kind(value, objects, annotation, key)
    return _valid(value, annotation, key)


def _items(value: Any) -> Iterator[Any]:
    yield from value if isinstance(value, (tuple, list)) else (value,)


def _is_part(value: Any) -> bool:
    return f"{type(value).__module__}.{type(value).__qualname__}" in allowed()


def _of_kind(value: Any, objects: list[Any], annotation: Any, key: str) -> Any:
    kinds = tuple(_classes(annotation))
    for item in objects:
        if not isinstance(item, kinds):
            wanted = " or ".join(kind.__name__ for kind in kinds)
            raise ConfigError(key, f"{type(item).__name__} is not a {wanted}", "choose another")
    many = typing.get_origin(annotation) in (tuple, list)
    return value if many or not isinstance(value, tuple) else _single(value, key)


def _single(value: tuple[Any, ...], key: str) -> Any:
    if len(value) > 1:
        raise ConfigError(key, f"takes one choice, received {len(value)}", "choose one")
    return value[0]


def _classes(annotation: Any) -> Iterator[type]:
    if isinstance(annotation, type):
        yield annotation
    for argument in typing.get_args(annotation):
        yield from _classes(argument)


def _valid(value: Any, annotation: Any, key: str) -> Any:
    """A plain value as the annotation wants it; texts and lists may be converted, numbers not."""
    from pydantic import ValidationError

    adapter = _adapter(annotation)
    if value == "" and Path in _classes(annotation):
        raise ConfigError(key, "is empty", f"give a path: {key}=PATH")
    if value is None and type(None) not in typing.get_args(annotation):
        raise _missing(key)
    try:
        found = adapter.validate_python(value, strict=not isinstance(value, (str, list, dict)))
        return _placed(found, annotation, key)
    except ValidationError as error:
        first = error.errors(include_url=False, include_context=False)[0]
        where = ".".join([key, *map(str, first["loc"][:1])]) if isinstance(value, dict) else key
        problem = first["msg"][:1].lower() + first["msg"][1:]
        received = f"{first['input']!r}"[:80]
        raise ConfigError(where, f"{problem}, received {received}", "correct the value") from error


@cache
def _hints(cls: type[Any]) -> Mapping[str, Any]:
    """The annotations of a class; a sweep builds the same ones for every job."""
    return typing.get_type_hints(cls, include_extras=True)


_ADAPTERS: dict[int, tuple[Any, Any]] = {}  # by identity: annotations need not be hashable


def _adapter(annotation: Any) -> Any:
    """What checks values of an annotation, made once for each that `_hints` keeps."""
    from pydantic import ConfigDict, TypeAdapter

    if id(annotation) not in _ADAPTERS:
        config = ConfigDict(arbitrary_types_allowed=True, extra="forbid", allow_inf_nan=False)
        # A union, so that config is allowed. Its annotation is kept, so that no other gets its id.
        _ADAPTERS[id(annotation)] = annotation, TypeAdapter(annotation | None, config=config)
    return _ADAPTERS[id(annotation)][1]


def _placed(value: Any, annotation: Any, key: str) -> Any:
    """Paths and names of files with their ``~`` written out, refused where no file system could
    hold them."""
    if isinstance(value, Mapping):
        return {name: _placed(item, annotation, f"{key}.{name}") for name, item in value.items()}
    if not isinstance(value, (Path, str)) or not (isinstance(value, Path) or _opens(annotation)):
        return value
    text = str(expanded(value)) if str(value).startswith("~") else str(value)
    if isinstance(value, Path):
        if "\0" in text:
            raise ConfigError(key, f"is no path, received {text!r}", f"give one: {key}=PATH")
        longest = max(len(os.fsencode(part)) for part in Path(text).parts or ("",))
        if longest > _LONGEST_NAME or len(os.fsencode(text)) > _LONGEST_PATH:
            problem = f"a name in it is longer than {_LONGEST_NAME} bytes, or it is longer than "
            raise ConfigError(key, f"{problem}{_LONGEST_PATH}", "give a shorter path")
        return Path(text)
    return text


def _opens(annotation: Any) -> bool:
    """Whether a text names a file, a folder or a program."""
    found = [annotation, *typing.get_args(annotation)]
    kinds = [extra for extra in found if isinstance(extra, Kind)]
    inner = [item for item in typing.get_args(annotation) if item is not annotation]
    return any(kind.literal for kind in kinds) or any(map(_opens, inner))


def _required(field: Field[Any]) -> bool:
    return field.default is MISSING and field.default_factory is MISSING


def _missing(key: str) -> ConfigError:
    return ConfigError(key, "needs a value", f"give one: {key}=VALUE")


def _join(key: str, name: str) -> str:
    return f"{key}.{name}" if key else name


def _prefixed(error: RerenderError, key: str, known: Iterable[str]) -> RerenderError:
    """The same refusal, said of the key where the value stands in the configuration."""
    if not isinstance(error, ConfigError) or not key or error.where.startswith(key):
        return error
    last = error.where.rpartition(".")[2]
    if last in known:
        return ConfigError(f"{key}.{last}", error.problem, error.cure)
    return ConfigError(key, f"{error.where}: {error.problem}", error.cure)
