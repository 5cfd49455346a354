"""What the settings of every part hold, read from its source without importing it.

Torch and its kin take seconds to import; the command line has to know at once which of its values
are names to be taken as typed, and which settings a file from elsewhere must not touch.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import get_args

from rerender import kinds
from rerender.config.allowlist import LISTS, TARGET, parsed
from rerender.config.paths import ROOT
from rerender.kinds import Kind

JOB = "rerender.config.job.Job"  # whose fields are the keys on the top, with those of `PARTS`
PARTS = "rerender.config.parts.Parts"
SAMPLING = "rerender.config.sampling.Sampling"
PROMPTS = ("prompt", "source_prompt", "negative_prompt")
PACKAGES = ("rerender", "eval")

_TEXTS = {"str", "Path", "Any", "object"}
_PROMPT = Kind("prompt", literal=True, shared=True)
_PATH = Kind("path", literal=True, shared=True)  # a Path without a kind of its own is read
_WORD = Kind("word", literal=False, shared=True)  # a text that a pattern limits
_UNKNOWN = Kind("unknown", literal=False, shared=False)


@dataclass(frozen=True)
class Setting:
    """What a field of a part holds.

    Attributes:
        kind: of its text; None where it holds none, or only words written in the annotation.
        optional: it may be null.
        mapping: it holds such texts by name.
    """

    kind: Kind | None
    optional: bool
    mapping: bool


def settings_of(target: str) -> Mapping[str, Setting]:
    """The fields of a class of ours, by name, with those of its bases.

    Args:
        target: its full name.
    """
    module, _, name = target.rpartition(".")
    return _of_class(module, name)


def literal_at(key: str) -> Setting | None:
    """The literal text that a key of the command line holds; None where it holds something else.

    Args:
        key: such as ``data.path`` or ``model.controlnets.canny``. Whichever choice of the group is
            taken, the text is literal where it is so for one of them.
    """
    parts = key.lstrip("+").split(".")
    if len(parts) == 1:
        found = [settings_of(JOB).get(parts[0])]
    else:
        group = "launcher" if parts[:2] == ["hydra", "launcher"] else parts[0]
        known = _of_group(group)
        found = [fields.get(parts[-1]) for fields in known]
        if len(parts) > 2:
            above = [fields.get(parts[-2]) for fields in known]
            found += [Setting(s.kind, False, False) for s in above if s and s.mapping]
    literal = [setting for setting in found if setting and setting.kind and setting.kind.literal]
    if not literal:
        return None
    return Setting(
        literal[0].kind, any(s.optional for s in literal), all(s.mapping for s in literal)
    )


def is_setting(key: str) -> bool:
    """Whether a key is a setting of some part, whichever choices are taken, or lies below one. One
    of several choices (``constraint.shape``) is none; what is said of it is.

    Args:
        key: such as ``seed``, ``sampling.steps`` or ``model.recommended.low``.
    """
    top, *below = key.split(".")
    if not below:
        return top in {*settings_of(JOB), *settings_of(PARTS)} - {"parts"}
    known = (settings_of(SAMPLING),) if top == "sampling" else _of_group(top)
    names = below[1:] if top in LISTS else below
    return bool(names) and names[0] in {TARGET, *(name for of in known for name in of)}


@cache
def _of_group(group: str) -> tuple[Mapping[str, Setting], ...]:
    """The settings of every class of a folder of choices."""
    if not group.isidentifier():
        return ()
    return tuple(
        _of_class(f"{package}.{group}.{file.stem}", node.name)
        for package in PACKAGES
        for file in sorted((ROOT / package / group).glob("*.py"))
        for node in parsed(file).body
        if isinstance(node, ast.ClassDef)
    )


@cache
def _of_class(module: str, name: str) -> Mapping[str, Setting]:
    file = _file(module)
    if file is None:
        return {}
    tree = parsed(file)
    for node in tree.body:
        if isinstance(node, ast.ClassDef) and node.name == name:
            found: dict[str, Setting] = {}
            for base in reversed(node.bases):
                if isinstance(base, ast.Name):
                    found |= _of_class(module, base.id)
            aliases = dict(_aliases(tree))
            return found | dict(_own(node, aliases))
        if isinstance(node, ast.ImportFrom) and any(alias.name == name for alias in node.names):
            return _of_class(node.module or "", name)
    return {}


def _own(node: ast.ClassDef, aliases: Mapping[str, ast.expr]) -> Iterator[tuple[str, Setting]]:
    for field in node.body:
        if not isinstance(field, ast.AnnAssign) or not isinstance(field.target, ast.Name):
            continue
        name = field.target.id
        if name.startswith("_") or ast.unparse(field.annotation).startswith("ClassVar"):
            continue
        setting = _setting(field.annotation, aliases)
        yield name, Setting(_PROMPT, True, False) if name in PROMPTS else setting


def _setting(annotation: ast.expr, aliases: Mapping[str, ast.expr]) -> Setting:
    parts = list(_walk(annotation, aliases))
    names = {part.id for part in parts if isinstance(part, ast.Name)}
    named = [found for name in sorted(names) if (found := _kind(name))]
    kind: Kind | None
    if named:
        kind = named[0]
    elif "Path" in names:
        kind = _PATH
    elif any(isinstance(part, ast.keyword) and part.arg == "pattern" for part in parts):
        kind = _WORD
    else:
        kind = _UNKNOWN if names & _TEXTS else None
    optional = any(isinstance(part, ast.Constant) and part.value is None for part in parts)
    return Setting(kind, optional, "Mapping" in names)


def _kind(name: str) -> Kind | None:
    """The kind that a name of `rerender.kinds` stands for."""
    value = getattr(kinds, name, None)
    if isinstance(value, Kind):
        return value
    return next((extra for extra in get_args(value) if isinstance(extra, Kind)), None)


def _walk(node: ast.AST, aliases: Mapping[str, ast.expr]) -> Iterator[ast.AST]:
    """The parts of an annotation, without the keys of mappings and the words of a Literal."""
    yield node
    if isinstance(node, ast.Name) and node.id in aliases:
        yield from _walk(aliases[node.id], {**aliases, node.id: ast.Constant(0)})
    elif isinstance(node, ast.Subscript):
        inside: ast.AST = node.slice
        if isinstance(node.value, ast.Name):
            if node.value.id == "Literal":
                return
            if node.value.id == "Mapping" and isinstance(inside, ast.Tuple):
                inside = inside.elts[1]
        yield from _walk(node.value, aliases)
        yield from _walk(inside, aliases)
    else:
        for child in ast.iter_child_nodes(node):
            yield from _walk(child, aliases)


def _aliases(tree: ast.Module) -> Iterator[tuple[str, ast.expr]]:
    """The names on the top of a module that may stand for types."""
    for node in tree.body:
        if isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Name):
            yield node.targets[0].id, node.value


@cache
def _file(module: str) -> Path | None:
    if module.partition(".")[0] not in PACKAGES:
        return None
    path = ROOT.joinpath(*module.split("."))
    found = (path.with_suffix(".py"), path / "__init__.py")
    return next((file for file in found if file.is_file()), None)
