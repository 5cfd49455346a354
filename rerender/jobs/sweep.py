"""The jobs of a sweep, built and checked before the first one runs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from rerender.config.job import Job
from rerender.errors import ConfigError
from rerender.files import check_writable
from rerender.store.cache import Cache


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
