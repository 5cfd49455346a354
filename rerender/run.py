"""``python -m rerender.run``: the one command. It composes, checks and runs jobs with Hydra.

Nothing heavy is imported at the top, so that ``--help`` and ``--cfg job`` answer at once.
"""

from __future__ import annotations

import json
import os
import shutil
import sys
import time
import traceback
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

from rerender.config import Sweep, explained, literal, preflight, tree
from rerender.errors import ConfigError, PartialSweepError
from rerender.exits import failure, report, terminable
from rerender.prescan import CONF

JOBS = Path("outputs/.jobs")  # Hydra's own folders while a command runs
STATUS, SWEEP = "status.json", "sweep.json"
RESULTS = Path("results")  # tables and report of each sweep
DRY, NO_TABLES = "--dry", "--no-tables"


@hydra.main(version_base="1.3", config_path=str(CONF), config_name="config")  # type: ignore[untyped-decorator]
def task(config: DictConfig) -> None:
    """One job. It never raises what is its own failure, so that a sweep goes on with the others."""
    from rerender import store
    from rerender.identity import place
    from rerender.perform import perform

    settings = HydraConfig.get()
    ours = Path(settings.runtime.output_dir)
    status: dict[str, Any] = {"code": 0, "message": "", "folder": ""}
    try:
        job = tree(config)
        group = str(settings.runtime.choices.get("exp") or "")
        number = OmegaConf.select(settings, "job.num", throw_on_missing=False)
        if number:
            report(f"{number + 1}: {' '.join(settings.overrides.task)}", "job")
        folder = place(job, group or str(settings.runtime.choices.data))
        status["folder"] = str(folder)
        perform(job, folder, group, keep=_read(ours.parent / SWEEP).get("jobs", 1) > 1)
    except Exception as error:
        status["code"], status["message"] = failure(error)
        report(status["message"])
        _trace(bool(config.get("debug")))
    store.put_json(ours / STATUS, status)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command line.

    Args:
        arguments: as typed, without the program's name; those of this process if None.

    Returns:
        The exit code (see `rerender.exits`).
    """
    given = list(sys.argv[1:] if arguments is None else arguments)
    for library in ("DIFFUSERS", "TRANSFORMERS"):
        os.environ.setdefault(f"{library}_VERBOSITY", "error")
    try:
        with terminable():
            return _run(given)
    except SystemExit as end:  # argparse, --help
        return end.code if isinstance(end.code, int) else 2
    except (HydraException, OmegaConfBaseException) as error:
        code, message = failure(explained(error))
    except BaseException as error:
        code, message = failure(error)
    report(message)
    _trace("debug=true" in given)
    return code


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

    try:
        store.put_json(folder / SWEEP, {"jobs": len(sweep.jobs)})
        _hydra([*ready, f"hydra.sweep.dir={folder}", f"hydra.run.dir={folder}/0"])
        return _ended(sweep, folder, tables=NO_TABLES not in given)
    finally:
        _clear(folder)


def _check(sweep: Sweep) -> None:
    """Build the parts of every job, so that a wrong value is refused before the first one runs."""
    from rerender.job import jobs_of

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
    message = "ended without a word; see the log of its launcher"
    return {"code": 70, "message": message, "folder": "", **_read(folder / STATUS)}


def _read(path: Path) -> dict[str, Any]:
    """A small file of ours; empty where there is none."""
    try:
        found: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return found


def _clear(folder: Path) -> None:
    """Take away Hydra's folders of this command; results lie elsewhere. Launchers keep logs."""
    if not any(folder.glob(".submitit")):
        shutil.rmtree(folder, ignore_errors=True)
    for empty in (JOBS, JOBS.parent):
        with suppress(OSError):
            empty.rmdir()


def _trace(wanted: bool) -> None:
    if wanted or os.environ.get("RERENDER_DEBUG") == "1":
        traceback.print_exc()


if __name__ == "__main__":
    sys.exit(main())
