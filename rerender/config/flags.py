"""What begins with a dash on the command line: a short list, and one line about all the rest.

Hydra has more flags, among them one that unpickles a file; none is handed on that is not here.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from rerender.config.paths import CONF
from rerender.config.settings import JOB, settings_of
from rerender.errors import ConfigError

SHORT = {"-h": "--help", "-c": "--cfg", "-p": "--package", "-i": "--info", "-cd": "--config-dir"}
SHORT |= {"-m": "--multirun"}
PLAIN = {
    "--help": "help",
    "--hydra-help": "hydra_help",
    "--version": "version",
    "--resolve": "resolve",
    "--dry": "dry",
    "--no-tables": "no_tables",
    "--multirun": "",  # what every command does
}
WORDS = {
    "--cfg": ("job", "hydra", "all"),
    "--info": ("all", "config", "defaults", "defaults-tree", "plugins", "searchpath"),
}
VALUES = ("--package", "--config-dir")
FIXED = ("--config-name", "-cn", "--config-path", "-cp")


@dataclass(frozen=True)
class Flags:
    """A command line, taken apart.

    Attributes:
        overrides: what is no flag, as typed.
        help, hydra_help, version: whether help or the version is asked for.
        cfg: which part of the composed configuration is shown; None for none.
        resolve: whether its references are resolved.
        package: the key below which it is shown.
        info: what Hydra tells about how it was composed; None for nothing.
        config_dir: a further folder of configurations.
        dry: show the plan instead of running.
        no_tables: leave out the tables at a sweep's end.
    """

    overrides: tuple[str, ...] = ()
    help: bool = False
    hydra_help: bool = False
    version: bool = False
    cfg: str | None = None
    resolve: bool = False
    package: str | None = None
    info: str | None = None
    config_dir: str | None = None
    dry: bool = False
    no_tables: bool = False


def flags_of(arguments: Sequence[str]) -> Flags:
    """The flags and settings of a command line, in any order.

    Raises:
        ConfigError: an unknown flag, one without its value, or two that do not go together.
    """
    found: dict[str, Any] = {}
    overrides: list[str] = []
    waiting = list(arguments)
    while waiting:
        argument = waiting.pop(0)
        if not argument.startswith("-"):
            overrides.append(argument)
            continue
        name, equals, value = argument.partition("=")
        name = SHORT.get(name, name)
        if name in PLAIN and not equals:
            found |= {PLAIN[name]: True} if PLAIN[name] else {}
        elif name in WORDS or name in VALUES:
            if not equals:
                value = _following(name, waiting)
            if name in VALUES and not value:
                raise ConfigError(name, "needs a value", f"write {name} VALUE")
            if name in WORDS and value not in WORDS[name]:
                raise ConfigError(name, f"received {value!r}", f"choices: {', '.join(WORDS[name])}")
            key = name.lstrip("-").replace("-", "_")
            if key in found:
                raise ConfigError(name, "is given twice", "give one")
            found[key] = value
        else:
            raise _unknown(name, value if equals else "VALUE")
    flags = Flags(tuple(overrides), **found)
    _together(flags)
    return flags


def _following(name: str, waiting: list[str]) -> str:
    if name == "--info" and (not waiting or waiting[0] not in WORDS[name]):
        return "all"
    if not waiting or waiting[0].startswith("-"):
        raise ConfigError(name, "needs a value", f"write {name} VALUE")
    return waiting.pop(0)


def _together(found: Flags) -> None:
    if found.resolve and found.cfg is None:
        raise ConfigError("--resolve", "shows a configuration", "use it with --cfg job")
    if found.package is not None and found.cfg is None:
        raise ConfigError("--package", "shows part of a configuration", "use it with --cfg job")
    if found.cfg is not None and found.info is not None:
        raise ConfigError("--info", "does not go with --cfg", "give one of the two")


def _unknown(name: str, value: str) -> ConfigError:
    if name in FIXED:
        return ConfigError(name, "is fixed", "use +exp=NAME or --config-dir DIR")
    key = name.lstrip("-").replace("-", "_")
    known = {*settings_of(JOB), *(path.name for path in CONF.iterdir()), "sampling"}
    if re.fullmatch(r"[\w./]+", key) and re.split(r"[./]", key)[0] in known:
        return ConfigError(name, "is not an option", f"write {key}={value}")
    options = [*PLAIN, *WORDS, *VALUES]
    near = difflib.get_close_matches(name, options, 1, 0.6)
    hint = f"did you mean {near[0]}? " if near else ""
    cure = f"{hint}options: {', '.join(sorted(options))}; settings are written key=value"
    return ConfigError(name, "is not an option", cure)
