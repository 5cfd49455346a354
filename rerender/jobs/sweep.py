"""The jobs of a sweep, built and checked before the first one runs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

from rerender.config.allowlist import TARGET
from rerender.config.build import build
from rerender.config.compose import Sweep
from rerender.config.job import Job
from rerender.contracts import Data
from rerender.data.shard import EACH
from rerender.errors import ConfigError
from rerender.files import check_writable
from rerender.store.cache import Cache


def spread(sweep: Sweep) -> Sweep:
    """A sweep in which every job with ``data.shard=each`` is as many jobs as it has clips, each of
    which knows nothing of the others: a clip that is added or changed leaves them as they are.

    Raises:
        ConfigError: a value of the data is refused.
        InputError: its folder or its table cannot be read.
    """
    known: dict[str, Sequence[Data]] = {}
    jobs: list[dict[str, Any]] = []
    said: list[str] = []
    for tree, words in zip(sweep.jobs, sweep.said, strict=True):
        node = tree.get("data")
        if not isinstance(node, Mapping) or node.get("shard") != EACH:
            jobs.append(tree)
            said.append(words)
            continue
        if repr(node) not in known:
            data = build(node, "data")
            if not isinstance(data, Data):
                raise ConfigError("data", "is no source of clips", "choose one of conf/data")
            known[repr(node)] = data.each()
        for one in known[repr(node)]:
            jobs.append({**tree, "data": _node(one)})
            said.append(f"{words} {getattr(one, 'name', '')}".strip())
    return replace(sweep, jobs=tuple(jobs), said=tuple(said))


def _node(data: Data) -> dict[str, Any]:
    """The part of a configuration that stands for some data."""
    kind = type(data)
    values = {field.name: getattr(data, field.name) for field in fields(data)}  # type: ignore[arg-type]
    return {TARGET: f"{kind.__module__}.{kind.__qualname__}", **_plain(values)}


def _plain(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {key: _plain(item) for key, item in value.items()}
    if isinstance(value, tuple | list):
        return [_plain(item) for item in value]
    return str(value) if isinstance(value, Path) else value


def jobs_of(trees: Sequence[Mapping[str, Any]]) -> list[Job]:
    """The jobs of a sweep.

    Raises:
        ConfigError: as `Job.of`, saying which job; two of them would write to one folder; or a
            folder holds other things than a stage store.
        ResourceError: an output folder or a stage store may not be written.
    """
    jobs = [_numbered(tree, index, len(trees)) for index, tree in enumerate(trees, start=1)]
    folders = [job.out for job in jobs if job.out is not None]
    if len(set(folders)) < len(folders):
        problem = f"{len(jobs)} jobs of a sweep cannot share the folder {folders[0]}"
        raise ConfigError("out", problem, "leave it out; each job gets a folder in outputs/")
    for place in {job.store for job in jobs if job.store}:
        Cache(place).check()
    for place in set(folders):
        check_writable(place, "out")
    for job in jobs:
        if job.out and job.store and job.out.absolute() == job.store.absolute():
            raise ConfigError(
                "store", f"{job.store} is the output folder", "choose another folder: store=PATH"
            )
    return jobs


def _numbered(tree: Mapping[str, Any], index: int, total: int) -> Job:
    try:
        return Job.of(tree)
    except ConfigError as error:
        if total == 1:
            raise
        problem = f"{error.problem} (job {index} of {total})"
        raise ConfigError(error.where, problem, error.cure) from error
