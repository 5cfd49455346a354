"""From the command line to checked configurations, one for each job of a sweep.

All jobs are composed and scanned before the first one starts, so that nothing runs and nothing is
written while any of them is wrong. Texts such as prompts and paths are taken literally.
"""

from __future__ import annotations

import difflib
import itertools
import logging
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from hydra.core.override_parser.types import Glob, Override, Quote, QuotedString
from hydra.core.utils import filter_overrides
from omegaconf import DictConfig, OmegaConf

from rerender.config.allowlist import TARGET, scan
from rerender.config.build import unknown_key
from rerender.config.foreign import OPTION, check_hydra, check_tree, remember, scan_folder
from rerender.config.judges import judged
from rerender.config.merged import Merging
from rerender.config.overrides import elements, escape, literal, parsed
from rerender.config.paths import choices_of
from rerender.config.table import KEY, TableSpec
from rerender.errors import ConfigError, InputError, RerenderError
from rerender.kinds import expanded

__all__ = ["Composer", "Sweep", "explained", "literal", "preflight"]

log = logging.getLogger(__name__)

Tree = dict[str, Any]
GROUPS_BY_NAME = ("constraint", "control", "metrics")  # several choices at once, each by its name
_MOST_JOBS, _LONGEST_PROMPT = 10_000, 1_000_000


@dataclass(frozen=True)
class Sweep:
    """All jobs of one command.

    Attributes:
        name: the experiment or the data; what run folders are called after.
        experiment: the experiment; "" without one.
        jobs: the checked configuration of each job, resolved to plain values; no two are equal.
        launcher: what does the jobs, and its settings.
        said: what sets each job apart, for the terminal.
        repeated: how many more jobs were asked for that equal one of these.
        table: what the experiment says of its table; None where it says nothing.
    """

    name: str
    experiment: str
    jobs: tuple[Tree, ...]
    launcher: Tree
    said: tuple[str, ...]
    repeated: int = 0
    table: TableSpec | None = None


def preflight(overrides: Sequence[str], config_dir: str | None = None) -> Sweep:
    """Compose and scan every job of a command without running any.

    Args:
        overrides: arguments in Hydra's grammar.
        config_dir: a further folder of configurations (``--config-dir``).

    Raises:
        ConfigError: an unknown key, choice or class, a malformed argument, a missing value, or a
            file of ``config_dir`` that says what only the command line may say.
        InputError: the prompt file cannot be read.
    """
    return Composer(overrides, config_dir).sweep()


class Composer:
    """Composes configurations from the files of conf/, those of a folder and the command line.

    Args:
        overrides: arguments in Hydra's grammar.
        config_dir: a further folder of configurations.

    Raises:
        ConfigError: an argument or a file that is refused before anything is composed.
    """

    def __init__(self, overrides: Sequence[str], config_dir: str | None = None) -> None:
        self._folder = None if config_dir is None else expanded(config_dir).absolute()
        search: list[str] = []
        if self._folder is not None:
            scan_folder(self._folder)
            place = QuotedString(f"file://{self._folder}", Quote.double).with_quotes()
            search = [f"hydra.searchpath=[{place}]"]
        self._merging = Merging(self._folder, search)
        self._given = [parsed(argument) for argument in overrides]

    @property
    def arguments(self) -> list[str]:
        """Arguments with which Hydra composes what `first` gives; only after `first`. Its own flag
        looks in the folder before conf/, which is the same: no file there has the name of ours."""
        flag = [] if self._folder is None else [OPTION, str(self._folder)]
        return [*flag, *self._fixed]

    @property
    def _fixed(self) -> list[str]:
        return [o.input_line or "" for o in self._given if not o.is_sweep_override()]

    def first(self) -> DictConfig:
        """The configuration that no sweep has touched, scanned.

        Raises:
            ConfigError: as `preflight`.
        """
        composed = self._composed(self._fixed)
        hydra = _plain(composed)
        scan(hydra)
        if self._folder is not None:
            said = [line for line in self._fixed if line.lstrip("+").startswith("hydra")]
            check_hydra(hydra["hydra"], _plain(self._composed(said, foreign=False))["hydra"])
        return composed

    def sweep(self) -> Sweep:
        """All jobs; see `preflight`."""
        first = self.first()
        params = _params(first)
        lines = _jobs(params, self._given)
        once = list(dict.fromkeys(tuple(line) for line in lines))
        jobs: list[Tree] = []
        said: list[str] = []
        for line in once:
            alone = list(line) == self._fixed
            composed = first if alone else self._composed(line)
            if _params(composed) != params:
                problem = "sweeps by itself, so that it is no value of a sweep"
                raise ConfigError("exp", problem, "run one experiment at a time")
            job = self.tree(composed)
            if job not in jobs:
                jobs.append(job)
                said.append(" ".join(filter_overrides(line)))
        choices = first.hydra.runtime.choices
        experiment = str(choices.get("exp") or "")
        launcher = OmegaConf.to_container(first.hydra.launcher, resolve=True)
        assert isinstance(launcher, dict)
        if len(lines) > 1 and str(first.hydra.mode).rpartition(".")[2] == "RUN":
            raise ConfigError("hydra.mode", "RUN takes no sweep", "leave it out")
        return Sweep(
            experiment or str(choices.data),
            experiment,
            tuple(jobs),
            {str(key): value for key, value in launcher.items()},
            tuple(said),
            len(lines) - len(jobs),
            None if KEY not in first else TableSpec.of(_resolved(_ours(_plain(first)))[KEY]),
        )

    def tree(self, composed: DictConfig) -> Tree:
        """The scanned, resolved configuration as plain values; prompts read from their file.

        Raises:
            ConfigError, InputError: as `preflight`.
        """
        raw = _without_unchosen(_plain(composed))
        scan(raw)
        ours = {key: value for key, value in _ours(raw).items() if key != KEY}
        resolved = _resolved(ours)
        if self._folder is not None:
            check_tree(resolved, self._values())
        remember(resolved)
        if resolved.get("prompt_file") is None:
            return resolved
        return _resolved({**ours, "prompt": escape(_read_prompt(resolved))})

    def _composed(self, lines: Sequence[str], foreign: bool = True) -> DictConfig:
        """Hydra's composition, with ``${choice.GROUP}`` in the name written out."""
        try:
            return judged(_named(self._merging(lines, foreign)), lines)
        except RerenderError:
            raise
        except Exception as error:  # whatever stops Hydra and OmegaConf lies in what they are given
            raise explained(error) from error

    def _values(self) -> Mapping[str, Sequence[Any]]:
        """The values that the command line says for each key."""
        found: dict[str, list[Any]] = {}
        for override in self._given:
            if not override.is_delete():
                found.setdefault(override.key_or_group, []).extend(elements(override))
        return found


def _named(composed: DictConfig) -> DictConfig:
    """A configuration whose name may speak of choices: ``${choice.propagation}`` is "warp"."""
    name = _plain(OmegaConf.masked_copy(composed, ["name"])).get("name")
    choices = composed.hydra.runtime.choices
    if isinstance(name, str):
        composed.name = re.sub(
            r"(?<!\\)\$\{choice\.([\w/]+)\}", lambda m: str(choices.get(m[1])), name
        )
    return composed


def _plain(composed: DictConfig) -> Tree:
    raw = OmegaConf.to_container(composed, resolve=False)
    assert isinstance(raw, dict)
    return {str(key): value for key, value in raw.items()}


def _without_unchosen(tree: Tree) -> Tree:
    """The configuration without what a preset says of constraints, controls or metrics that are not
    chosen: a preset is laid over many rows, and some leave one out."""
    for group in GROUPS_BY_NAME:
        chosen = tree.get(group)
        if not isinstance(chosen, dict):
            continue
        for name in list(chosen):
            if not isinstance(chosen[name], dict) or TARGET in chosen[name]:
                continue
            if name not in choices_of(group):
                raise _no_choice(group, str(name), choices_of(group))
            keys = ", ".join(map(str, chosen.pop(name)))
            log.warning("%s.%s: not chosen; its settings (%s) act on nothing", group, name, keys)
        if not chosen:  # as where nobody says anything of the group
            del tree[group]
    return tree


def _ours(raw: Tree) -> Tree:
    return {key: value for key, value in raw.items() if key != "hydra"}


def _resolved(tree: Tree) -> Tree:
    try:
        resolved = OmegaConf.to_container(OmegaConf.create(tree), resolve=True)
    except Exception as error:  # a reference to nothing, to itself, or to what is no value
        raise explained(error) from error
    assert isinstance(resolved, dict)
    return {str(key): value for key, value in resolved.items()}


def _params(composed: DictConfig) -> list[str]:
    """What an experiment sweeps over, as arguments."""
    sweeper = OmegaConf.to_container(composed.hydra.sweeper, resolve=False)
    params = sweeper.get("params") if isinstance(sweeper, dict) else None
    return [f"{key}={value}" for key, value in (params or {}).items()]


def _jobs(params: Sequence[str], given: Sequence[Override]) -> list[list[str]]:
    """The arguments of each job, as Hydra's own sweeper would choose them."""
    values: dict[str, list[str]] = {}
    for override in [*map(_swept, params), *given]:
        key, line = override.get_key_element(), override.input_line or ""
        if not override.is_sweep_override():
            values[key] = [line]
            continue
        if not override.is_discrete_sweep() or isinstance(override._value, Glob):
            raise ConfigError(key, f"no sweep over {line.partition('=')[2]}", "list the values")
        found = itertools.islice(override.sweep_string_iterator(), _MOST_JOBS + 1)
        values[key] = [f"{key}={value}" for value in found]
        if not values[key]:
            raise ConfigError(key, f"{line.partition('=')[2]} holds no value", "list the values")
    if math.prod(map(len, values.values())) > _MOST_JOBS:
        raise ConfigError("sweep", f"is more than {_MOST_JOBS} jobs", "sweep over fewer values")
    return [list(line) for line in itertools.product(*values.values())]


def _swept(line: str) -> Override:
    """A line of ``hydra.sweeper.params``."""
    override = parsed(line)
    if re.match(r"hydra\b", override.key_or_group):
        cure = "remove it; say it on the command line"
        raise ConfigError(f"hydra.sweeper.params.{override.key_or_group}", "is fixed", cure)
    return override


def _read_prompt(ours: Mapping[str, Any]) -> str:
    file = expanded(str(ours["prompt_file"]))
    if ours.get("prompt") is not None:
        raise ConfigError("prompt_file", "a prompt is given too", "give one of the two")
    try:
        if file.exists() and not file.is_file():
            raise InputError(file, "cannot be read as a prompt: is no file", "name a text file")
        with file.open("rb") as opened:
            content = opened.read(_LONGEST_PROMPT + 1)
        text = content.decode("utf-8-sig")
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or "is not UTF-8 text"
        raise InputError(
            file, f"cannot be read as a prompt: {reason}", "name a text file"
        ) from None
    if len(content) > _LONGEST_PROMPT:
        raise InputError(file, f"holds more than {_LONGEST_PROMPT} bytes", "name a text file")
    return text.removesuffix("\n").removesuffix("\r")


def explained(error: Exception) -> ConfigError:
    """A refusal by Hydra or OmegaConf as one line with the choices or the nearest key."""
    text = re.sub(r"^In '[^']*': ", "", " ".join(str(error).split()))
    if found := re.search(r"Could not (?:find|load) '([\w./-]+)/([^'/]*)'", text):
        listed = re.search(r"Available options in '[^']*': (.*?)(?: Config search path|$)", text)
        choices = re.findall(r"\s([^_\s]\S*)", f" {listed[1]}") if listed else choices_of(found[1])
        return _no_choice(found[1], found[2], choices)
    if found := re.search(r"Could not (?:override|delete)[^']*'([\w./@]+)'", text):
        return _no_key(found[1])
    if found := re.search(r"already at '([\w./@]+)'", text):
        return ConfigError(found[1], "is a setting already", "write it without the +")
    if found := re.search(r"full_key: ([\w.]+)", text):
        return ConfigError(found[1], text.partition(" full_key")[0], "correct the value")
    text = text[:300] or type(error).__name__
    return ConfigError("configuration", text, "see `python -m rerender.run --help`")


def _no_choice(group: str, name: str, choices: Sequence[str]) -> ConfigError:
    near = difflib.get_close_matches(name, choices, 1, 0.6)
    hint = f"did you mean {near[0]}? " if near else ""
    return ConfigError(group, f"no choice {name!r}", f"{hint}choices: {', '.join(choices)}")


def _no_key(key: str) -> ConfigError:
    """The nearest key on the level where the path leaves what there is."""
    if key.startswith("hydra."):
        return ConfigError(key, "unknown key", "see `python -m rerender.run --hydra-help`")
    node: Any = _ours(_plain(Merging(None, ())(())))  # what conf/ says and no experiment
    above = ""
    for part in key.split("."):
        if not isinstance(node, dict) or part not in node:
            break
        node, above = node[part], f"{above}{part}."
    else:
        return ConfigError(key, "is not there with these choices", "leave it out")
    known = [f"{above}{name}" for name in node] if isinstance(node, dict) else []
    return unknown_key(key, key, known)
