"""``python -m rerender.run``: the one command. It composes, checks and runs jobs with Hydra.

Nothing heavy is imported at the top, so that ``--help`` and ``--cfg job`` answer at once.
"""

from __future__ import annotations

import io
import os
import re
import shutil
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, redirect_stdout, suppress
from pathlib import Path
from typing import Any

from hydra._internal.utils import _run_hydra, get_args_parser
from hydra.errors import HydraException
from omegaconf import Container, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from rerender import __version__
from rerender.config.compose import Composer, Sweep, explained, literal
from rerender.config.flags import Flags, flags_of
from rerender.config.paths import CONF
from rerender.errors import ConfigError, PartialSweepError
from rerender.exits import BUG, command, failure, report
from rerender.jobs.worker import LOST, STATUS, ScheduledJob, attempt, begin, end, read

JOBS = Path("outputs/.jobs")  # the status of each job while a command runs
RESULTS = Path("results")  # tables and report of each sweep
_DEMO = "rerender/demo/weights"  # of the model of the demo world, the default
_OTHER_MODEL = (
    "model=demo was trained on drawings; model=demo_natural draws films and photos better"
)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command line.

    Args:
        arguments: as typed, without the program's name; those of this process if None.

    Returns:
        The exit code (see `rerender.exits`).
    """
    for library in ("DIFFUSERS", "TRANSFORMERS"):
        os.environ.setdefault(f"{library}_VERBOSITY", "error")
    given = list(sys.argv[1:] if arguments is None else arguments)
    if given[:1] == ["studio"]:  # a word without = is no setting
        from rerender.studio.main import main as studio

        return studio(given[1:])
    return command(_run, given)


def _run(given: list[str]) -> int:
    with _explained():
        flags = flags_of(given)
        if flags.version:
            sys.stdout.write(f"rerender {__version__}\n")
            return 0
        composer = Composer(literal(flags.overrides), flags.config_dir)
        if flags.help or flags.hydra_help or flags.cfg or flags.info:
            _show(flags, composer)
            return 0
        sweep = _check(composer.sweep())
        if flags.dry:
            from rerender.jobs.plan import plan

            sys.stdout.write(plan(sweep))
            return 0
        if sweep.repeated:
            report(f"{sweep.repeated} jobs are the same as others and are done once", "warning")
        if len(sweep.jobs) > 1:
            report(f"{len(sweep.jobs)} jobs, all checked", "sweep")
        folder = JOBS / f"{time.strftime('%Y%m%d-%H%M%S')}-{os.getpid()}"
        begin(folder)
        try:
            from rerender.jobs.progress import Progress
            from rerender.jobs.run_job import run_job
            from rerender.launcher.engine import engine_of

            jobs, engine = _scheduled(sweep, folder), engine_of(sweep.launcher)
            if engine is not None:
                engine.run(jobs)
            for job in jobs if engine is None else ():
                with attempt(job) as place:  # writes down how it ends
                    progress = Progress(label=job.label)
                    run_job(job.tree, place, job.group, keep=job.keep, progress=progress)
            code = _ended(sweep, folder, tables=not flags.no_tables)
            if code == 0 and _films_by_default_model(flags.overrides, sweep):
                report(_OTHER_MODEL, "note")
            return code
        finally:
            _clear(folder, len(sweep.jobs))


@contextmanager
def _explained() -> Iterator[None]:
    """Errors of Hydra's in our words."""
    try:
        yield
    except (HydraException, OmegaConfBaseException) as error:
        raise explained(error) from error


def _show(flags: Flags, composer: Composer) -> None:
    """Show the configuration or the help. What Hydra itself shows, it composes from arguments and
    files that were looked through before."""
    composed = composer.first()
    if flags.cfg is None:
        asked = ["--help"] if flags.help else ["--hydra-help"] if flags.hydra_help else []
        page = io.StringIO()
        try:
            with redirect_stdout(page):
                settings = [] if flags.hydra_help else composer.arguments  # it is about no setting
                _hydra([*(asked or ["--info", str(flags.info)]), *settings])
        finally:  # what several choices share begins with _ and is no choice (conf/exp/_study.yaml)
            sys.stdout.write(re.sub(r"(?<=[:,]) _\w+,", "", page.getvalue()))
        return
    composer.tree(composed)  # refused where the run would be
    shown: Any = composed.hydra if flags.cfg == "hydra" else composed
    if flags.cfg == "hydra":
        shown = OmegaConf.create({"hydra": shown})
    elif flags.cfg == "job":
        shown = OmegaConf.masked_copy(composed, [str(key) for key in composed if key != "hydra"])
    if flags.package not in (None, "_global_"):
        shown = OmegaConf.select(shown, str(flags.package))
        if shown is None:
            raise ConfigError("--package", f"there is no {flags.package}", "see --cfg job")
        if isinstance(shown, Container):
            sys.stdout.write(f"# @package {flags.package}\n")
    if not isinstance(shown, Container):
        sys.stdout.write(f"{shown}\n")
        return
    if flags.resolve:
        OmegaConf.resolve(shown)
    sys.stdout.write(OmegaConf.to_yaml(shown))


def _check(sweep: Sweep) -> Sweep:
    """Build the parts of every job, so that a wrong value is refused before the first one runs.
    What asks for a job for each clip is spread out."""
    from rerender.model._places import ask_ahead

    for tree in sweep.jobs:  # the hub answers, or does not, while libraries load
        ask_ahead(tree["model"])
    from rerender.config.device import check_devices
    from rerender.jobs.sweep import jobs_of, spread
    from rerender.launcher.engine import engine_of
    from rerender.store.run_identity import place

    sweep, engine = spread(sweep), engine_of(sweep.launcher)
    jobs = jobs_of(sweep.jobs)
    if engine is None:  # elsewhere there may be other devices
        for job in jobs:
            check_devices(job)
    taken: dict[Path, int] = {}
    for index, tree in enumerate(sweep.jobs, start=1):
        folder = place(tree, sweep.name).absolute()
        other = taken.setdefault(folder, index)
        if other != index:
            problem = f"jobs {other} and {index} of {len(jobs)} have the same result, {folder.name}"
            raise ConfigError("sweep", problem, "sweep over what changes the result")
    return sweep


def _films_by_default_model(said: Sequence[str], sweep: Sweep) -> bool:
    """Whether the model of the demo world drew clips from files, and nobody asked for it."""
    if any(line.lstrip("+~").startswith("model") for line in said):
        return False
    found = [(tree["data"], tree["model"], tree["keyframes"]) for tree in sweep.jobs]
    return any(
        "path" in data and model.get("path") == _DEMO and "path" not in keys
        for data, model, keys in found
    )


def _scheduled(sweep: Sweep, folder: Path) -> list[ScheduledJob]:
    """All jobs, as whoever runs them gets them; each leaves its status in ``folder``."""
    return [
        ScheduledJob(
            number=number,
            tree=tree,
            name=sweep.name,
            group=sweep.experiment,
            said=sweep.said[number],
            ours=(folder / str(number)).absolute(),
            place=Path.cwd(),
            keep=len(sweep.jobs) > 1,
            total=len(sweep.jobs),
        )
        for number, tree in enumerate(sweep.jobs)
    ]


def _hydra(arguments: list[str]) -> None:
    """Have Hydra show its help, with its errors reaching us instead of the terminal."""
    full = os.environ.get("HYDRA_FULL_ERROR")
    os.environ["HYDRA_FULL_ERROR"] = "1"
    parser = get_args_parser()
    try:
        _run_hydra(
            args=parser.parse_args(arguments),
            args_parser=parser,
            task_function=lambda config: None,
            config_path=str(CONF),
            config_name="config",
        )
    finally:
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
    if tables and not any(tree.get("metrics") for tree in sweep.jobs):
        report(f"{sweep.name}: metrics=[] measures nothing to compare", "no tables")
        tables = False
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
    from experiments.finish_sweep import collect

    try:
        made = collect(RESULTS / sweep.name, folders, sweep.table)
        for path in made:
            sys.stdout.write(f"{path}\n")
        _record(sweep, made)
    except Exception as error:
        code, message = failure(error)
        report(message, "no tables")
        return code
    return 0


def _record(sweep: Sweep, made: Sequence[Path]) -> None:
    """Give the tracker what a sweep ended with. A tracker never stops a run."""
    from rerender.config.job import Job

    root = made[0].parent
    whole = [path.parent if path.suffix == ".html" else path for path in made]
    try:
        Job.of(sweep.jobs[0]).tracker.results(root, f"{sweep.name} results", sweep.name, whole)
    except Exception as error:  # of any library, in any state
        report(f"{' '.join(str(error).split())[:200]}; going on without it", "tracker")


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
