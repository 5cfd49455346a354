"""Hydra's composition: what the choices of groups give, kept, and the values that are laid over it.

Merging the files that the choices name takes a tenth of a second, laying values over the result
takes a fiftieth of that, and the jobs of a sweep differ in values more than in choices. So what the
choices give is merged once in a process, and again when a file of conf/ has changed.
"""

from __future__ import annotations

import copy
import os
import re
from collections.abc import Sequence
from contextlib import suppress
from functools import lru_cache
from pathlib import Path

from hydra import compose, initialize_config_dir
from hydra._internal.config_loader_impl import ConfigLoaderImpl
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override
from omegaconf import DictConfig

from rerender.config.paths import CONF

_KEPT = 32  # a merged configuration takes .7 MB
State = tuple[object, ...]


class Merging:
    """Composes configurations from the files of conf/ and those of a folder.

    Args:
        folder: a further folder of configurations; None for none.
        search: the setting with which Hydra looks there; none without a folder.
    """

    def __init__(self, folder: Path | None, search: Sequence[str]) -> None:
        self._folder, self._search = folder, tuple(search)
        self._files = _files(CONF)
        # Somebody's files may change within one tick of the clock: they are kept for one command.
        self._foreign: State = () if folder is None else (object(),)

    def __call__(self, lines: Sequence[str], foreign: bool = True) -> DictConfig:
        """Hydra's composition of the job that these settings describe. Of its record of them,
        ``hydra.overrides`` and ``hydra.job.override_dirname``, it holds the choices alone, by key.

        Args:
            lines: settings in Hydra's grammar, none of them a sweep.
            foreign: whether files of the further folder take part.

        Raises:
            Exception: whatever Hydra and OmegaConf raise at what they are given.
        """
        given = [_parsed(line) for line in lines]
        values = [each for each in given if self._is_value(each)]
        # Groups are merged in the order of the defaults lists, whatever the order they are said in.
        said = sorted((each for each in given if each not in values), key=Override.get_key_element)
        choices = [each.input_line or "" for each in said]
        search, files = (self._search, self._foreign) if foreign else ((), ())
        composed = copy.deepcopy(_merged((*choices, *search), (*self._files, *files)))
        ConfigLoaderImpl._apply_overrides_to_config(values, composed)
        return composed

    def _is_value(self, given: Override) -> bool:
        """Whether a setting chooses no file. Those of Hydra itself are left to it."""
        key = given.key_or_group
        if not re.fullmatch(r"\w[\w.]*", key) or re.match(r"hydra\b", key) or given.package:
            return False
        if isinstance(given.value(), dict):
            return True
        return not any((place / key).is_dir() for place in (CONF, self._folder) if place)


@lru_cache(maxsize=_KEPT)
def _merged(choices: tuple[str, ...], files: State) -> DictConfig:
    """What the choices give while the files are in this state; copied by who changes it."""
    with initialize_config_dir(str(CONF), job_name="run", version_base="1.3"):
        composed: DictConfig = compose("config", [*choices], return_hydra_config=True)
    return composed


def _files(folder: Path) -> State:
    """Names, times and sizes of all files below a folder."""
    found: list[tuple[str, int, int]] = []
    for place, _, names in os.walk(folder):
        for name in names:
            with suppress(OSError):  # a link to nothing
                now = Path(place, name).stat()
                found.append((f"{place}/{name}", now.st_mtime_ns, now.st_size))
    return tuple(sorted(found))


@lru_cache(maxsize=1024)
def _parsed(line: str) -> Override:
    return OverridesParser.create().parse_override(line)
