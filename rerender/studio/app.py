"""The web application of the studio, as an ASGI application: which address is answered by what."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from threading import Thread

from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.routing import Route

from rerender.errors import RerenderError
from rerender.studio.answers import Studio
from rerender.studio.endpoints import explained, plain_endpoint, settings_endpoint
from rerender.studio.warm import WarmWorker


def application(
    root: Path, told: Sequence[str], largest: int, warm: WarmWorker | None = None
) -> Starlette:
    """The application.

    Args:
        root: folder of clips and runs, made when something is put there.
        told: settings of every run, in the grammar of the run command.
        largest: bytes of an upload.
        warm: as of `Studio`.
    """
    studio = Studio(root, told, largest, warm)

    @asynccontextmanager
    async def lifespan(app: Starlette) -> AsyncIterator[None]:
        Thread(target=studio.warm_up, daemon=True).start()
        yield
        await run_in_threadpool(studio.close)

    clip, run, preview = "/api/clips/{clip}", "/api/runs/{run}", "/api/previews/{preview}"
    routes = [
        Route("/", studio.page),
        Route("/static/{name}", studio.page),
        Route("/api/about", plain_endpoint(studio.about)),
        Route("/api/clips", plain_endpoint(studio.listed)),
        Route("/api/clips", studio.upload, methods=["POST"]),
        Route(clip, plain_endpoint(studio.clip)),
        Route(clip + "/frames/{number:int}", plain_endpoint(studio.frame)),
        Route(clip + "/masks", studio.mask, methods=["POST"]),
        Route(clip + "/masks/{mask}", plain_endpoint(studio.mask_file)),
        Route("/api/command", settings_endpoint(studio.command), methods=["POST"]),
        Route("/api/plan", settings_endpoint(studio.plan, asking=True), methods=["POST"]),
        Route("/api/previews", settings_endpoint(studio.preview, asking=True), methods=["POST"]),
        Route(preview, plain_endpoint(studio.preview_state)),
        Route(preview + "/frames/{number:int}", plain_endpoint(studio.preview_frame)),
        Route("/api/runs", plain_endpoint(studio.history)),
        Route("/api/runs", settings_endpoint(studio.start), methods=["POST"]),
        Route(run, plain_endpoint(studio.state)),
        Route(run, plain_endpoint(studio.forget), methods=["DELETE"]),
        Route(run + "/cancel", plain_endpoint(studio.cancel), methods=["POST"]),
        Route(run + "/keys/{number:int}", plain_endpoint(studio.key)),
        Route(run + "/keys/{number:int}", studio.mend, methods=["POST"]),
        Route(run + "/frames/{number:int}", plain_endpoint(studio.result_frame)),
        Route(run + "/suggestions", plain_endpoint(studio.suggestions)),
        Route(run + "/video.mp4", plain_endpoint(studio.result)),
        Route(run + "/sheet.png", plain_endpoint(studio.sheet)),
    ]
    app = Starlette(
        routes=routes,
        lifespan=lifespan,
        exception_handlers={RerenderError: explained, OSError: explained},
    )
    app.state.studio = studio
    return app
