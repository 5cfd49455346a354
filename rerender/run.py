"""``python -m rerender.run``: the one command. It composes, checks and runs jobs with Hydra.

Nothing heavy is imported at the top, so that ``--help`` and ``--cfg job`` answer at once.
"""

from __future__ import annotations

import os
import shutil
import sys
import time
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import hydra
from hydra._internal.utils import get_args_parser
from hydra.core.hydra_config import HydraConfig
from hydra.errors import HydraException
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from rerender.config import Sweep, explained, literal, preflight
from rerender.errors import ConfigError, PartialSweepError
from rerender.exits import BUG, command, failure, report
from rerender.prescan import CONF
from rerender.work import LOST, STATUS, SWEEP, Call, begin, do, end, read

JOBS = Path("outputs/.jobs")  # Hydra's own folders while a command runs
RESULTS = Path("results")  # tables and report of each sweep
DRY, NO_TABLES = "--dry", "--no-tables"


@hydra.main(version_base="1.3", config_path=str(CONF), config_name="config")  # type: ignore[untyped-decorator]
def task(config: DictConfig) -> None:
    """One job in this process. It never raises what is its own failure, so that a sweep goes on
    with the others."""
    settings = HydraConfig.get()
    ours = Path(settings.runtime.output_dir)
    number = OmegaConf.select(settings, "job.num", throw_on_missing=False) or 0
    said, sweep = " ".join(settings.overrides.task), read(ours.parent / SWEEP)
    tree = sweep["trees"][number]
    keep = len(sweep["trees"]) > 1
    do(Call(number, tree, sweep["name"], sweep["group"], said, ours, Path.cwd(), keep))


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command line.

    Args:
        arguments: as typed, without the program's name; those of this process if None.

    Returns:
        The exit code (see `rerender.exits`).
    """
    for library in ("DIFFUSERS", "TRANSFORMERS"):
        os.environ.setdefault(f"{library}_VERBOSITY", "error")
    return command(_explained, arguments)


def _explained(given: list[str]) -> int:
    """The command, with errors of Hydra's in our words."""
    try:
        return _run(given)
    except (HydraException, OmegaConfBaseException) as error:
        raise explained(error) from error


def _run(given: list[str]) -> int:
    ready = literal([argument for argument in given if argument not in (DRY, NO_TABLES)])
    options = get_args_parser().parse_args(ready)
    if any((options.help, options.hydra_help, options.cfg, options.info, options.shell_completion)):
        _hydra(ready)
        return 0
    if options.resolve:
        raise ConfigError("--resolve", "shows a configuration", "use it with --cfg job")
    if options.config_name or options.config_path:
        raise ConfigError("--config-name", "is fixed", "use +exp=NAME or --config-dir DIR")
    sweep = preflight(options.overrides, options.config_dir)
    _check(sweep)
    if DRY in given:
        from rerender.plan import plan

        sys.stdout.write(plan(sweep))
        return 0
    if len(sweep.jobs) > 1:
        report(f"{len(sweep.jobs)} jobs, all checked", "sweep")
    folder = JOBS / f"{time.strftime('%Y%m%d-%H%M%S')}-{os.getpid()}"
    from rerender import store

    begin(folder)
    try:
        facts = {"name": sweep.name, "group": sweep.experiment, "trees": list(sweep.jobs)}
        store.put_json(folder / SWEEP, facts)
        _hydra([*ready, f"hydra.sweep.dir={folder}", f"hydra.run.dir={folder}/0"])
        return _ended(sweep, folder, tables=NO_TABLES not in given)
    finally:
        _clear(folder, len(sweep.jobs))


def _check(sweep: Sweep) -> None:
    """Build the parts of every job, so that a wrong value is refused before the first one runs."""
    from rerender.job import jobs_of
    from rerender.launcher.engine import engine_of

    engine_of(sweep.launcher)
    jobs_of(sweep.jobs)


def _hydra(arguments: list[str]) -> None:
    """Hand over to Hydra, whose errors are to reach us instead of the terminal."""
    before, full = sys.argv, os.environ.get("HYDRA_FULL_ERROR")
    sys.argv = [before[0], *arguments]
    os.environ["HYDRA_FULL_ERROR"] = "1"
    try:
        task()
    finally:
        sys.argv = before
        os.environ.pop("HYDRA_FULL_ERROR")
        if full is not None:
            os.environ["HYDRA_FULL_ERROR"] = full


def _ended(sweep: Sweep, folder: Path, tables: bool) -> int:
    """The exit code of all jobs together, by what each one left; a sweep ends with its tables."""
    statuses = [_status(folder / str(index)) for index in range(len(sweep.jobs))]
    failed = [index for index, status in enumerate(statuses) if status["code"] != 0]
    if len(statuses) == 1:
        return int(statuses[0]["code"])
    folders = [Path(status["folder"]) for status in statuses if status["folder"]]
    code = _tabled(sweep, folders) if tables else 0
    if not failed:
        return code
    for index in failed:
        report(f"job {index + 1}: {statuses[index]['message']}", "failed")
    raise PartialSweepError(
        sweep.name,
        f"{len(failed)} of {len(statuses)} jobs failed",
        "mend the cause named above, then run the same command",
    )


def _tabled(sweep: Sweep, folders: Sequence[Path]) -> int:
    """Make tables, figures and report of a sweep; what is wrong with them hides no other error."""
    from experiments.collect import collect

    try:
        for path in collect(RESULTS / sweep.name, folders):
            sys.stdout.write(f"{path}\n")
    except Exception as error:
        code, message = failure(error)
        report(message, "no tables")
        return code
    return 0


def _status(folder: Path) -> dict[str, Any]:
    return {"code": BUG, "message": LOST, "folder": "", **read(folder / STATUS)}


def _clear(folder: Path, jobs: int) -> None:
    """Take away Hydra's folders of this command; results lie elsewhere. Logs that an engine kept
    stay where a job failed."""
    end()
    if all(_status(folder / str(index))["code"] == 0 for index in range(jobs)) or not any(
        folder.glob(".submitit")
    ):
        shutil.rmtree(folder, ignore_errors=True)
    for empty in (JOBS, JOBS.parent):
        with suppress(OSError):
            empty.rmdir()


if __name__ == "__main__":
    sys.exit(main())
