"""Requests that the studio's end interrupts."""

from __future__ import annotations

import asyncio

from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send


class Ending:
    """An ASGI application around another one, for a server that ends while it answers.

    The server waits a few seconds for what is under way and then cancels it. Who still waits is
    told (503); an answer that has begun is broken off, which the browser sees. Neither is an error
    of ours that a terminal must show.
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        begun = False

        async def sending(message: Message) -> None:
            nonlocal begun
            begun = True
            await send(message)

        try:
            await self._app(scope, receive, sending)
        except asyncio.CancelledError:
            if scope["type"] != "http":
                raise
            if not begun:
                text = "studio: was stopped while it answered; start it again"
                await JSONResponse({"error": text}, 503)(scope, receive, send)
