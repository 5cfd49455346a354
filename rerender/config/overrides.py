"""The command line's settings in Hydra's grammar: what is literal, what may be said at all."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Sequence
from typing import Any

from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import ChoiceSweep, Glob, Override, Quote, QuotedString
from hydra.errors import HydraException

from rerender.config.allowlist import LISTS, no_resolver
from rerender.config.paths import choices_of
from rerender.config.renamed import check_renamed
from rerender.config.settings import is_setting, literal_at
from rerender.errors import ConfigError

OPTIONAL = ("preset", "exp", "method")  # groups of which nothing need be chosen
_CHOICE = re.compile(r"[\w-]+(?:/[\w-]+)*")


def literal(arguments: Sequence[str]) -> list[str]:
    """Arguments in Hydra's grammar, with prompts, paths and names taken as they were typed.

    ``prompt=a cat, sitting`` is one prompt, not two, and ``${...}`` in it means nothing. Only where
    all of a value is one or several quoted texts do the quotes belong to the grammar, so that
    ``prompt='a cat','a dog'`` is a sweep. Which keys hold such texts is said by the fields of the
    parts (see `rerender.config.settings`). Names of files may be any bytes that the file system
    allows; they stand in a text as `os.fsdecode` puts them there.

    Raises:
        ConfigError: an argument that is neither text nor the name of a file.
    """
    return [_literal(argument) for argument in arguments]


def _literal(argument: str) -> str:
    key, equals, value = argument.partition("=")
    setting = literal_at(key) if equals and not key.startswith("~") else None
    if not (setting and setting.kind and setting.kind.names_file):
        try:
            if re.search(
                "[\udc80-\udcff]", argument
            ):  # bytes: the locale is not UTF-8, they may be
                argument = os.fsencode(argument).decode()
                key, _, value = argument.partition("=")
            argument.encode()
        except UnicodeError as error:
            where = key.encode(errors="replace").decode()
            raise ConfigError(where, "is not UTF-8 text", "write it as UTF-8") from error
    if setting is None or (value == "null" and setting.optional):
        return argument
    if setting.mapping and value.startswith("{"):  # {name: text}, in Hydra's grammar
        return argument
    return f"{key}={','.join(map(quoted, texts_of(value)))}"


def texts_of(value: str) -> list[str]:
    """The texts that the value of a literal key stands for: several in a sweep."""
    if found := re.fullmatch(r"choice\((.*)\)", value, re.DOTALL):
        return _in_quotes(found[1]) or [value]
    return _in_quotes(value) or [value]


def _in_quotes(value: str) -> list[str]:
    """The texts of a list of quoted texts; none where it is anything else."""
    if not value.startswith(("'", '"')):
        return []
    try:
        parsed = OverridesParser.create().parse_override(f"key={value}")._value
    except (HydraException, RecursionError, ValueError):
        return []
    items = parsed.list if isinstance(parsed, ChoiceSweep) else [parsed]
    quoted = [item.text for item in items if isinstance(item, QuotedString)]
    return quoted if len(quoted) == len(items) else []


def quoted(text: str) -> str:
    """A text in Hydra's grammar that arrives as exactly this text."""
    return str(QuotedString(escape(text), Quote.double).with_quotes())


def escape(text: str) -> str:
    """A text that OmegaConf resolves to exactly ``text``."""
    return re.sub(r"(\\*)\$\{", lambda match: match[1] * 2 + r"\${", text)


def elements(override: Override) -> Iterator[Any]:
    """The values that a setting says, each as it arrives."""
    value = override._value
    swept = value.list if isinstance(value, ChoiceSweep) else [value]
    for item in swept:
        plain = Override._convert_value(item)
        yield plain
        if isinstance(plain, str) and "${" in plain:
            yield re.sub(r"(\\*)\\\$\{", lambda match: match[1][::2] + "${", plain)


def parsed(argument: str) -> Override:
    """A setting in Hydra's grammar.

    All groups are in the defaults list, so that a ``+`` before one, as in ``+exp=NAME``, says
    nothing and is dropped.

    Raises:
        ConfigError: it cannot be read, refers to what is not in the configuration, or is about what
            is fixed or has another name now.
    """
    if argument.startswith("+") and choices_of(argument[1:].partition("=")[0]):
        argument = argument[1:]
    try:
        override = OverridesParser.create().parse_override(argument)
    except (HydraException, RecursionError, ValueError) as error:
        reason = " ".join(str(error).split()).partition(" See https")[0][:200]
        cure = "write key=value, with quotes around values that hold other characters"
        where = argument[:100] or "an empty argument"
        raise ConfigError(where, f"cannot be read ({reason})", cure) from error
    group = override.key_or_group
    if not group:
        raise ConfigError(argument, "names no key", "write key=value")
    no_resolver(group, argument)
    if override.package is not None:
        raise ConfigError(argument, "names a package", "write key=value or group=choice")
    if re.match(r"hydra\b", group):
        _check_hydra_key(override)
    check_renamed(group, [] if override.is_delete() else list(elements(override)))
    known = choices_of(group)
    if override.is_delete():
        _check_removal(group, known)
    elif known:
        _check_choices(override, known)
    return override


def _check_removal(key: str, choices: Sequence[str]) -> None:
    """``~KEY`` takes out one of several choices (``~constraint.shape``), or what is none by itself
    (``~exp``). Without anything else a run cannot be composed, or goes on with a value that no file
    says; the messages of what refers to it would speak of keys that nobody wrote."""
    if key in LISTS:
        cure = f"{key}=[] chooses none, ~{key}.NAME takes out one"
    elif choices:
        if key in OPTIONAL:
            return
        cure = f"choose another one: {key}=NAME; choices: {', '.join(choices)}"
    elif not is_setting(key):
        return  # refused where it is found to be none, with the nearest key
    elif key == "sampling":
        cure = "change its settings: sampling.KEY=VALUE"
    else:
        cure = f"give one: {key}=VALUE"
    raise ConfigError(key, "cannot be taken out of a run", cure)


def _check_hydra_key(override: Override) -> None:
    """Of Hydra's own settings, what runs the jobs can be chosen; all else is fixed."""
    key = override.key_or_group
    free = key in ("hydra/launcher", "hydra.mode") or key.startswith("hydra.launcher.")
    if not free or override.is_delete():
        cure = "remove it; hydra/launcher=NAME and hydra.launcher.KEY=VALUE can be said"
        raise ConfigError(key, "is fixed", cure)
    if override.is_sweep_override():
        raise ConfigError(key, "is one for all jobs of a command", "give one value, or quote it")


def _check_choices(override: Override, choices: Sequence[str]) -> None:
    group, said = override.key_or_group, (override.input_line or "").partition("=")[2]
    listed = f"choices: {', '.join(choices)}"
    if isinstance(override._value, Glob):
        raise ConfigError(group, f"takes names, received {said}", f"{listed}; separate by commas")
    if override.is_sweep_override():
        if not isinstance(override._value, ChoiceSweep):
            raise ConfigError(group, f"takes names, received {said}", listed)
        values = [Override._convert_value(item) for item in override._value.list]
    else:
        values = [override.value()]
    for value in values:
        names = value if isinstance(value, list) and group in LISTS else [value]
        if not all(isinstance(name, (str, int, float)) for name in names):
            raise ConfigError(group, f"needs one choice, received {said}", listed)
        for name in names:
            if not _CHOICE.fullmatch(str(name)) or str(name).startswith("_"):
                raise ConfigError(group, f"no choice {name!r}", listed)
