"""Weights & Biases: offline by default, online only when asked, never in the way."""

from __future__ import annotations

import hashlib
import json
import logging
import os
import re
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from configparser import ConfigParser
from configparser import Error as ParserError
from dataclasses import dataclass, field
from pathlib import Path, PurePath
from typing import Annotated, Any, Literal

from pydantic import Field

from rerender.contracts import Cell, Tracker
from rerender.errors import ConfigError, InputError
from rerender.kinds import CONNECTS, Label
from rerender.run_folder import read_text

log = logging.getLogger(__name__)

# Seconds for what stays on this machine: nobody else is waited for, but it may be a busy one.
_LOCAL = 120.0
_HASH = re.compile(r"-[0-9a-f]{8}$")  # at the end of the name of a run folder
# Where W&B keeps its log and what it is to send, unless these say it; by default below the home.
_PLACES = {"WANDB_CACHE_DIR": "cache", "WANDB_DATA_DIR": "data"}
_ASIDE = ("tracker", "debug", "pictures", "store")  # settings of a job that do not make it another
_MOVED: set[str] = set()  # of these variables, those that are set here


@dataclass(frozen=True)
class WandB(Tracker):
    """One W&B run for each job, in its folder; upload an offline one with ``wandb sync``.

    A job that is started again goes on in the same W&B run, whose id comes from its configuration.

    Neither the command line, the environment, the machine nor the source is recorded: only the
    configuration, the values and the files given. Where runs are sent is said by the environment or
    by W&B's own file in the home folder; a ``wandb/settings`` of the working folder, which says
    that too, is refused online and warned of offline.

    Attributes:
        mode: "offline" writes to the run folder; "online" sends, and falls back to offline with
            one warning where the server does not answer.
        project: project that the runs belong to.
        init_timeout: seconds to wait for the server at the beginning.
        finish_timeout: seconds to wait at the end for what is not sent yet; it stays on disk. An
            offline run, which no server keeps waiting, is always written to its end.
    """

    mode: Annotated[Literal["offline", "online"], CONNECTS] = "offline"
    project: Annotated[Label, Field(min_length=1)] = "rerender"
    init_timeout: Annotated[float, Field(gt=0, le=600)] = 15.0
    finish_timeout: Annotated[float, Field(gt=0, le=600)] = 6.0
    _open: list[Any] = field(default_factory=list, init=False, repr=False, compare=False)

    def start(self, folder: Path, config: Mapping[str, Any], name: str, group: str) -> None:
        if str(folder.absolute()) != _printed(str(folder.absolute())):
            raise ValueError("W&B takes no folder whose name is no UTF-8")
        options: dict[str, Any] = {
            "dir": folder,
            "project": self.project,
            "name": _printed(name),
            "group": group or None,
            "id": _identity(config, name, group),
            "config": _printed(dict(config)),
            "job_type": "run",
            "tags": _tags(config, name),
        }
        run = self._begin(options)
        run.define_metric("frame", hidden=True)
        run.define_metric("*", step_metric="frame", step_sync=False)
        self._open.append(run)

    def log(self, values: Mapping[str, float | int | str | None], step: int | None = None) -> None:
        # W&B's own steps only ever grow: it would drop the curves of a second clip or attempt.
        own = {} if step is None else {"frame": step}
        self._run.log({**own, **{key: v for key, v in values.items() if v is not None}})

    def summary(self, values: Mapping[str, float | int | str | None]) -> None:
        self._run.summary.update(dict(values))

    def file(self, name: str, path: Path) -> None:
        self._run.log({name: _media(path)})

    def table(self, name: str, columns: Sequence[str], rows: Sequence[Sequence[Cell]]) -> None:
        import wandb

        # A column that may hold anything would show a picture as its name.
        mixed = not any(isinstance(cell, Path) for row in rows for cell in row)
        table = wandb.Table(columns=list(columns), allow_mixed_types=mixed)
        for row in rows:
            table.add_data(*(_media(cell) if isinstance(cell, Path) else cell for cell in row))
        self._patiently(lambda: self._run.log({name: table}))

    def results(self, folder: Path, name: str, group: str, files: Sequence[Path]) -> None:
        import wandb

        options = {"dir": folder, "project": self.project, "name": name, "group": group or None}
        made = _identity({"results": folder.name}, name, group)
        self._open.append(self._begin({**options, "id": made, "job_type": "summary", "config": {}}))
        artifact = wandb.Artifact(f"results-{made}", type="results")
        for path in files:
            if path.is_dir():
                artifact.add_dir(str(path), name=path.name, policy="immutable", skip_cache=True)
            else:
                artifact.add_file(str(path), policy="immutable", skip_cache=True)
        self._patiently(lambda: self._run.log_artifact(artifact))
        self.finish(0)

    def finish(self, exit_code: int) -> None:
        import wandb

        while self._open:
            run = self._open.pop()
            place = str(run.dir).removesuffix("/files")
            try:
                run.finish(exit_code=exit_code)
            except TimeoutError:
                log.warning(
                    "tracker: W&B stopped answering; send the rest with `wandb sync %s`", place
                )
                wandb.teardown(exit_code=exit_code)

    def _patiently(self, ask: Callable[[], None]) -> None:
        """Do what may ask the server, and wait no longer for it than at the end."""
        errors: list[Exception] = []

        def work() -> None:
            try:
                ask()
            except Exception as error:  # of any library in between
                errors.append(error)

        thread = threading.Thread(target=work, daemon=True)
        thread.start()
        thread.join(_LOCAL if self._run.offline else self.finish_timeout)
        if thread.is_alive():
            raise TimeoutError("W&B does not answer")
        for error in errors:
            raise error

    @property
    def _run(self) -> Any:
        return self._open[-1]

    def _begin(self, options: Mapping[str, Any]) -> Any:
        import wandb

        _housed(Path(options["dir"]).absolute() / "wandb")
        for file, said in _workspace():
            problem = f"says {', '.join(said)}, and W&B would send runs where it says"
            if self.mode == "online":
                cure = "remove it; WANDB_BASE_URL and WANDB_ENTITY say it for this command"
                raise ConfigError(file, problem, cure)
            log.warning("tracker: %s %s; look at it before `wandb sync`", file, problem)
        if self.mode == "online":
            try:
                settings = self._settings(self.init_timeout, self.finish_timeout)
                return wandb.init(mode="online", resume="allow", settings=settings, **options)
            except Exception as error:  # whatever keeps it from answering
                reason = " ".join(str(error).split())
                log.warning("tracker: W&B did not answer (%s); recording offline", reason[:200])
                wandb.teardown(exit_code=0)
        return wandb.init(mode="offline", settings=self._settings(_LOCAL, _LOCAL), **options)

    def _settings(self, init_timeout: float, finish_timeout: float) -> Any:
        import wandb

        return wandb.Settings(
            init_timeout=init_timeout,
            finish_timeout=finish_timeout,
            finish_timeout_raises=True,
            console="off",
            silent=True,
            save_code=False,
            disable_git=True,
            disable_code=True,
            x_disable_meta=True,
            x_disable_machine_info=True,
            x_disable_stats=True,
            program="rerender.run",
            host="-",
        )


def _housed(room: Path) -> None:
    """Where there is no home that can be written to, W&B's folders are beside the run's own; it
    would keep no table, and say on the terminal whatever its log lacks."""
    from platformdirs import user_cache_dir, user_data_dir

    homes = {"cache": user_cache_dir("wandb"), "data": user_data_dir("wandb")}
    for variable, name in _PLACES.items():
        if variable in _MOVED or (variable not in os.environ and not _writable(Path(homes[name]))):
            os.environ[variable] = str(room / name)
            _MOVED.add(variable)
            log.info("tracker: W&B's %s lies in %s: it has no home", name, room / name)


def _writable(place: Path) -> bool:
    """Whether W&B can make its folder there, as it does."""
    try:
        place.mkdir(parents=True, exist_ok=True)
    except OSError:
        return False
    return os.access(place, os.W_OK | os.X_OK)


def _workspace() -> Iterator[tuple[Path, list[str]]]:
    """The files of settings that W&B reads from the working folder, which may have come with other
    files, and what they say besides the name of a project, which is ours."""
    for folder in ("wandb", ".wandb"):
        file, found = Path(folder, "settings"), ConfigParser(interpolation=None, strict=False)
        try:
            found.read_string(read_text(file))
            said = sorted({key for part in found.values() for key in part} - {"project"})
        except InputError:  # there is none, or nobody can read it
            continue
        except ParserError:
            said = ["what is no setting"]
        if said:
            yield file, said


def _printed(value: Any) -> Any:
    """Texts as UTF-8 knows them: bytes of names of files that are none are ``\\udce9``."""
    if isinstance(value, str):
        return value.encode(errors="backslashreplace").decode()
    if isinstance(value, Mapping):
        return {_printed(key): _printed(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_printed(item) for item in value]
    return value


def _media(path: Path) -> Any:
    """A finished file as W&B shows it."""
    import wandb

    if path.suffix == ".mp4":
        return wandb.Video(str(path), format="mp4")
    return wandb.Image(str(path))


def _tags(config: Mapping[str, Any], name: str) -> list[str]:
    """What runs are sorted by: the method, the seed and the model. A tag has 1 to 64 letters.

    A model is the end of its path or hub id, two parts of it: all checkpoints are one class.
    """
    said_of = config.get("model") or {}
    target = str(said_of.get("_target_", "")).split(".")
    made = target[-2] if len(target) > 2 else ""
    model = "/".join(PurePath(str(said_of["path"])).parts[-2:]) if said_of.get("path") else made
    method = _HASH.sub("", name)
    said = {"": method, "seed ": str(config.get("seed", "")), "model ": model}
    return [_printed(f"{kind}{value}")[:64] for kind, value in said.items() if value]


def _identity(config: Mapping[str, Any], name: str, group: str) -> str:
    """The id of a job's W&B run, the same for each attempt."""
    deciding = {key: value for key, value in config.items() if key not in _ASIDE}
    text = json.dumps([deciding, name, group], sort_keys=True, default=str)
    return hashlib.sha256(text.encode()).hexdigest()[:16]
