"""From the command line to checked configurations, one for each job of a sweep.

All jobs are composed and scanned before the first one starts, so that nothing runs and nothing is
written while any of them is wrong. Texts such as prompts are taken literally.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hydra import compose, initialize_config_dir
from hydra._internal.core_plugins.basic_sweeper import BasicSweeper
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override, Quote, QuotedString
from hydra.errors import HydraException
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from rerender.build import unknown_key
from rerender.errors import ConfigError, InputError
from rerender.prescan import CONF, LISTS, scan, scan_file

PROMPTS = ("prompt", "source_prompt", "negative_prompt")
Tree = dict[str, Any]


@dataclass(frozen=True)
class Sweep:
    """All jobs of one command.

    Attributes:
        name: the experiment or the data; what run folders are called after.
        experiment: the experiment; "" without one.
        jobs: the checked configuration of each job, resolved to plain values.
        launcher: what does the jobs, and its settings.
    """

    name: str
    experiment: str
    jobs: tuple[Tree, ...]
    launcher: Tree


def literal(arguments: Sequence[str]) -> list[str]:
    """Arguments in Hydra's grammar, with prompts taken as they were typed.

    ``prompt=a cat, sitting`` is one prompt, not two, and ``${...}`` in it means nothing. A prompt
    that begins with a quote or with ``choice(`` is left to Hydra's grammar, so that prompts can
    be swept over. ``exp=NAME`` means ``+exp=NAME``.

    Raises:
        ConfigError: an argument that is not text.
    """
    return [_literal(argument) for argument in arguments]


def _literal(argument: str) -> str:
    key, equals, value = argument.partition("=")
    try:
        argument.encode()
    except UnicodeEncodeError as error:
        raise ConfigError(key, "is not UTF-8 text", "write it as UTF-8") from error
    if key == "exp" and equals:
        return f"+{argument}"
    grammar = value == "null" or value.startswith(("'", '"', "choice("))
    if key.rpartition(".")[2] not in PROMPTS or grammar:
        return argument
    return f"{key}={QuotedString(escape(value), Quote.double).with_quotes()}"


def escape(text: str) -> str:
    """A text that OmegaConf resolves to exactly ``text``."""
    return re.sub(r"(\\*)\$\{", lambda match: match[1] * 2 + r"\${", text)


def preflight(overrides: Sequence[str], config_dir: str | None = None) -> Sweep:
    """Compose and scan every job of a command without running any.

    Args:
        overrides: arguments in Hydra's grammar.
        config_dir: a further folder of configurations (``--config-dir``).

    Raises:
        ConfigError: an unknown key, choice or class, a malformed argument, a missing value.
        InputError: the prompt file cannot be read.
    """
    given = list(overrides)
    if config_dir is not None:
        for file in sorted(Path(config_dir).rglob("*.yaml")):
            scan_file(file)
        given.append(f"hydra.searchpath=[file://{Path(config_dir).absolute()}]")
    try:
        with initialize_config_dir(str(CONF), job_name="run", version_base="1.3"):
            return _sweep(given)
    except (HydraException, OmegaConfBaseException) as error:
        raise explained(error) from error


def _sweep(given: list[str]) -> Sweep:
    parsed = [_parsed(argument) for argument in given]
    fixed = [item.input_line or "" for item in parsed if not item.is_sweep_override()]
    first = compose("config", fixed, return_hydra_config=True)
    lines = _jobs(first, parsed)
    alone = len(lines) == 1 and lines[0] == [line for line in fixed if line]
    jobs = [
        tree(first if alone else compose("config", job, return_hydra_config=True)) for job in lines
    ]
    choices = first.hydra.runtime.choices
    experiment = str(choices.get("exp") or "")
    launcher = OmegaConf.to_container(first.hydra.launcher, resolve=True)
    assert isinstance(launcher, dict)
    return Sweep(
        experiment or str(choices.data),
        experiment,
        tuple(jobs),
        {str(key): value for key, value in launcher.items()},
    )


def _parsed(argument: str) -> Override:
    try:
        override = OverridesParser.create().parse_override(argument)
    except HydraException as error:
        reason = " ".join(str(error).split()).partition(" See https")[0]
        cure = "write key=value, with quotes around values that hold other characters"
        raise ConfigError(argument, f"cannot be read ({reason})", cure) from error
    group = override.key_or_group
    choices = _choices(group)
    if choices and not override.is_delete() and not override.is_sweep_override():
        value = override.value()
        if value is None or (isinstance(value, list) and group not in LISTS):
            problem = f"needs one choice, received {argument.partition('=')[2]}"
            raise ConfigError(group, problem, f"choices: {', '.join(choices)}")
    return override


def _choices(group: str) -> list[str]:
    """The choices of a group; none if it is not one."""
    return sorted(path.stem for path in (CONF / group).glob("*.yaml"))


def _jobs(first: DictConfig, given: list[Override]) -> list[list[str]]:
    """The arguments of each job, as Hydra's sweeper will choose them."""
    params = OmegaConf.to_container(first.hydra.sweeper, resolve=False)
    swept = params.get("params") if isinstance(params, dict) else None
    lines = [f"{key}={value}" for key, value in (swept or {}).items()]
    batches = BasicSweeper.split_arguments(
        OverridesParser.create().parse_overrides(lines) + given, None
    )
    return [list(job) for batch in batches for job in batch]


def tree(composed: DictConfig) -> Tree:
    """The scanned, resolved configuration as plain values; prompts read from their file.

    Raises:
        ConfigError, InputError: as `preflight`.
    """
    raw = OmegaConf.to_container(composed, resolve=False)
    assert isinstance(raw, dict)
    scan({str(key): value for key, value in raw.items()})
    ours = OmegaConf.create({key: value for key, value in raw.items() if key != "hydra"})
    if ours.get("prompt_file") is not None:
        ours.prompt = escape(_read_prompt(ours))
    try:
        resolved = OmegaConf.to_container(ours, resolve=True)
    except OmegaConfBaseException as error:
        raise explained(error) from error
    assert isinstance(resolved, dict)
    return {str(key): value for key, value in resolved.items()}


def _read_prompt(ours: DictConfig) -> str:
    file = Path(str(ours.prompt_file))
    if ours.get("prompt") is not None:
        raise ConfigError("prompt_file", "a prompt is given too", "give one of the two")
    try:
        text = file.read_bytes().decode("utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or "is not UTF-8 text"
        raise InputError(
            file, f"cannot be read as a prompt: {reason}", "name a text file"
        ) from None
    return text.removesuffix("\n").removesuffix("\r")


def explained(error: Exception) -> ConfigError:
    """A refusal by Hydra or OmegaConf as one line with the choices or the nearest key."""
    text = re.sub(r"^In '[^']*': ", "", " ".join(str(error).split()))
    if found := re.search(r"Could not (?:find|load) '([\w./-]+)/([^'/]*)'", text):
        return _no_choice(found[1], found[2])
    if found := re.search(r"Could not (?:override|delete)[^']*'([\w./@]+)'", text):
        return _no_key(found[1])
    if found := re.search(r"already at '([\w./@]+)'", text):
        return ConfigError(found[1], "is a setting already", "write it without the +")
    if found := re.search(r"full_key: ([\w.]+)", text):
        return ConfigError(found[1], text.partition(" full_key")[0], "correct the value")
    return ConfigError("configuration", text, "see `python -m rerender.run --help`")


def _no_choice(group: str, name: str) -> ConfigError:
    choices = _choices(group)
    near = difflib.get_close_matches(name, choices, 1, 0.6)
    hint = f"did you mean {near[0]}? " if near else ""
    return ConfigError(group, f"no choice {name!r}", f"{hint}choices: {', '.join(choices)}")


def _no_key(key: str) -> ConfigError:
    """The nearest key on the level where the path leaves what there is."""
    if key.startswith("hydra."):
        return ConfigError(key, "unknown key", "see `python -m rerender.run --hydra-help`")
    node: Any = OmegaConf.to_container(_defaults(), resolve=False)
    above = ""
    for part in key.split("."):
        if not isinstance(node, dict) or part not in node:
            break
        node, above = node[part], f"{above}{part}."
    known = [f"{above}{name}" for name in node] if isinstance(node, dict) else []
    return unknown_key(key, key, known)


def _defaults() -> DictConfig:
    with initialize_config_dir(str(CONF), job_name="run", version_base="1.3"):
        composed: DictConfig = compose("config")
        return composed
