"""``rerender studio``: the command line of the studio. Where it listens, who may come in and what
every run is told are said here alone; the page can change none of it."""

from __future__ import annotations

import ipaddress
import secrets
import socket
import sys
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

from rerender.config.compose import Composer, literal
from rerender.errors import ConfigError, ResourceError
from rerender.exits import Parser, command
from rerender.files import check_writable
from rerender.studio.settings import CHOSEN, key_of_argument
from rerender.studio.warm import WarmWorker

LOOPBACK = "127.0.0.1"
MODEL = "demo_natural"  # of the two that are shipped the one for clips of one's own
_SHORTEST = 16  # characters of a token that is given


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command line; returns its exit code (see `rerender.exits`)."""
    return command(run, arguments)


def parser() -> Parser:
    """The command line."""
    result = Parser(prog="rerender studio", description="A web page that restyles clips.")
    result.add_argument(
        "settings",
        nargs="*",
        metavar="KEY=VALUE",
        help="settings of every run, as of the run command: model=sd15 model.path=FILE",
    )
    result.add_argument("--host", default=LOOPBACK, help="address to listen on (%(default)s)")
    result.add_argument("--port", type=int, default=7860, help="0 takes a free one (%(default)s)")
    result.add_argument(
        "--token", help="what a browser must know; made, and printed once, where --host needs one"
    )
    result.add_argument(
        "--folder",
        type=Path,
        default=Path("outputs/studio"),
        help="clips and runs of the studio (%(default)s)",
    )
    result.add_argument(
        "--largest", type=int, default=2048, metavar="MIB", help="upload limit (%(default)s)"
    )
    result.add_argument(
        "--no-warm",
        action="store_true",
        help="keep no process with the model ready: less memory, no previews",
    )
    result.add_argument("--debug", action="store_true", help="show tracebacks")
    return result


def run(given: list[str]) -> int:
    """Serve until Ctrl-C.

    Raises:
        ConfigError: a setting that no run can have, or an address that is none.
        ResourceError: the address cannot be listened on, or the web libraries are missing.
    """
    asked = parser().parse_args(given)
    asked.settings = with_model(asked.settings)
    checked(asked.settings)
    check_writable(asked.folder, "--folder")
    token = token_for(asked.host, asked.token)
    if asked.largest < 1:
        raise ConfigError("--largest", f"at least 1 MiB, received {asked.largest}", "raise it")
    try:
        import uvicorn

        from rerender.studio.app import application
        from rerender.studio.ending import Ending
        from rerender.studio.guard import Guard
    except ModuleNotFoundError as error:
        if (error.name or "").partition(".")[0] not in ("starlette", "uvicorn"):
            raise
        problem = f"{error.name} is not installed"
        raise ResourceError("studio", problem, "pip install 'rerender[studio]'") from error
    with listening(asked.host, asked.port) as sockets:
        port = sockets.getsockname()[1]
        warm = None
        if not asked.no_warm and sys.platform == "linux":  # elsewhere libraries do not bear a fork
            warm = WarmWorker(asked.settings)
            warm.begin()
        app = application(asked.folder, asked.settings, asked.largest * 2**20, warm)
        guarded = Guard(Ending(app), asked.host, port, token)
        shown = f"[{asked.host}]" if ":" in asked.host else asked.host
        sys.stdout.write(f"http://{shown}:{port}/{f'?token={token}' if token else ''}\n")
        sys.stdout.write("Ctrl-C ends it, and the run under way; what is finished is kept\n")
        sys.stdout.flush()
        config = uvicorn.Config(
            guarded,
            log_level="warning",
            access_log=False,
            server_header=False,
            ws="none",
            timeout_graceful_shutdown=5,
        )
        with suppress(KeyboardInterrupt):  # how it is meant to end
            uvicorn.Server(config).run(sockets=[sockets])
    return 0


def with_model(settings: Sequence[str]) -> list[str]:
    """The settings of every run, with the model for clips of one's own where they say nothing of a
    model."""
    said = any(key_of_argument(each).partition(".")[0] == "model" for each in settings)
    return [*settings] if said else [f"model={MODEL}", *settings]


def checked(settings: Sequence[str]) -> None:
    """Refuse settings that the page chooses, and those that no run can have.

    Raises:
        ConfigError: by its name.
    """
    for argument in settings:
        key = key_of_argument(argument)
        if key in CHOSEN:
            raise ConfigError(key, "is chosen on the page", "leave it out")
    composer = Composer(literal([*settings, "data=video", "data.path=clip.mp4", "prompt=any"]))
    composer.first()
    if any(key_of_argument(each).rpartition(".")[2] in ("device", "devices") for each in settings):
        from rerender.config.device import check_devices
        from rerender.config.job import Job  # loads torch, which others need not wait for

        check_devices(Job.of(composer.sweep().jobs[0]))


def token_for(host: str, given: str | None) -> str | None:
    """The token that a browser must know: the one that is given, a fresh one where others than this
    machine can reach the page, else none.

    Raises:
        ConfigError: one that could be guessed or cannot stand in an address.
    """
    if given is not None:
        if len(given) < _SHORTEST or not all(
            c.isascii() and (c.isalnum() or c in "-_") for c in given
        ):
            rule = f"has {_SHORTEST} or more of the characters A-Z a-z 0-9 - _"
            raise ConfigError("--token", rule, "give a longer one, or leave it out")
        return given
    return None if is_loopback(host) else secrets.token_urlsafe(24)


def is_loopback(host: str) -> bool:
    """Whether only this machine reaches an address."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def listening(host: str, port: int) -> socket.socket:
    """A socket that listens.

    Raises:
        ConfigError: the address is none of this machine.
        ResourceError: it is in use.
    """
    try:
        family = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0][0]
        return socket.create_server((host, port), family=family)
    except (socket.gaierror, OverflowError, UnicodeError) as error:
        raise ConfigError("--host", f"{host}:{port} is no address", "give one") from error
    except OSError as error:
        reason = (error.strerror or str(error)).lower()
        problem = f"{host}:{port} cannot be listened on ({reason})"
        raise ResourceError(
            "--port", problem, "choose another: --port 0 takes a free one"
        ) from error
