"""What every address of the studio has in common: plain values as JSON, settings of the page,
limits of what is sent, files that vanish, and errors as their one line."""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import FileResponse, JSONResponse, Response
from starlette.types import Receive, Scope, Send

from rerender.errors import ConfigError, InputError, LockedError, RerenderError, ResourceError
from rerender.exits import failure
from rerender.studio.clips import TooLargeError
from rerender.studio.settings import StudioSettings

FOREVER = {"cache-control": "private, max-age=31536000, immutable"}
"""Headers of what is named after its content."""

NOW = {"cache-control": "no-store"}
"""Headers of what may be another thing the next time."""

_JSON_BYTES = 2**20

Endpoint = Callable[[Request], Awaitable[Response]]


class StoredFile(FileResponse):
    """A file that the page asked for; one that a run, or another page, takes away before it is sent
    is as if it had not been there."""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            await super().__call__(scope, receive, send)
        except (RuntimeError, FileNotFoundError) as error:  # how Starlette says it
            if Path(self.path).is_file():
                raise
            raise InputError("file", "is gone since it was asked for", "ask again") from error


def plain_endpoint(answer: Callable[[Request], Any]) -> Endpoint:
    """An endpoint that is worked on beside others, and whose plain values become JSON."""

    async def endpoint(request: Request) -> Response:
        found = await run_in_threadpool(answer, request)
        return found if isinstance(found, Response) else JSONResponse(found, headers=NOW)

    return endpoint


def settings_endpoint(answer: Callable[[StudioSettings], Any], asking: bool = False) -> Endpoint:
    """An endpoint that is sent the settings of the page.

    Args:
        answer: what it does with them.
        asking: the page asks whether they are refused: a refusal is an answer, and no error.
    """

    async def endpoint(request: Request) -> Response:
        data = await body(request, _JSON_BYTES, "settings")
        try:
            given = json.loads(data)
        except (ValueError, RecursionError) as error:
            raise ConfigError("settings", "are no JSON", "use the page itself") from error
        try:
            found = await run_in_threadpool(lambda: answer(StudioSettings.of(given)))
        except RerenderError as error:
            if not asking:
                raise
            found = {"refused": str(error)}
        return JSONResponse(found, headers=NOW)

    return endpoint


async def body(request: Request, most: int, what: str) -> bytes:
    """What was sent, refused as soon as it is too much."""
    data = bytearray()
    async for block in request.stream():
        data += block
        if len(data) > most:
            raise TooLargeError(what, f"more than {most / 2**20:.0f} MiB", "send less")
    return bytes(data)


async def explained(request: Request, error: Exception) -> Response:
    """An error as its one line."""
    status = next(
        (
            code
            for kind, code in {
                TooLargeError: 413,
                LockedError: 409,
                ResourceError: 507,
                OSError: 507,
            }.items()
            if isinstance(error, kind)
        ),
        400,
    )
    return JSONResponse({"error": failure(error).message}, status, headers=NOW)
