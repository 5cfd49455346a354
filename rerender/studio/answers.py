"""What the studio answers its page: clips, commands, previews and runs."""

from __future__ import annotations

import re
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from starlette.concurrency import run_in_threadpool
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, Response

from rerender.data import picture
from rerender.errors import ConfigError, InputError
from rerender.run_folder import KEYS, SHEET
from rerender.studio.clips import ClipFolder
from rerender.studio.endpoints import (
    FOREVER,
    NOW,
    StoredFile,
    body,
)
from rerender.studio.frames import SHOWN, JpegFrames, frame_of
from rerender.studio.plan import model_of, planned, strength_of
from rerender.studio.previews import Previews, refuse_while
from rerender.studio.runs import StudioRuns
from rerender.studio.settings import (
    VALUES,
    StudioSettings,
    arguments_of,
    command_of,
    keep_table,
    keys_of,
    offered,
    preview_of,
    yaml_of,
)
from rerender.studio.suggest import frames_to_paint
from rerender.studio.warm import WarmWorker

PAGE = Path(__file__).with_name("page")
_KINDS = {"html": "text/html", "css": "text/css", "js": "text/javascript", "svg": "image/svg+xml"}
_SMALL = 320  # pixels of the longer side of a thumbnail
_NUMBER = re.compile(r"[0-9]{1,18}")  # digits of other scripts and thousands of them are none
_WAITING = 2.0  # seconds after which a page that waits for frames is answered anyway


class Studio:
    """What answers the page.

    Args:
        root: folder of its clips and runs.
        told: settings of every run, from the command line.
        largest: bytes of an upload.
        warm: what starts runs at once, and makes previews; None starts each as a program of its
            own, and makes none.
    """

    def __init__(
        self, root: Path, told: Sequence[str], largest: int, warm: WarmWorker | None = None
    ) -> None:
        self.clips = ClipFolder(root / "clips", largest)
        self.runs = StudioRuns(root / "runs", warm)
        self.previews = None if warm is None else Previews(warm.preview)
        self._told, self._largest, self._pictures = tuple(told), largest, JpegFrames()

    # -- the page -----------------------------------------------------------------------------

    async def page(self, request: Request) -> Response:
        name = request.path_params.get("name", "index.html")
        path = PAGE / name
        if name not in {each.name for each in PAGE.iterdir()} or path.suffix[1:] not in _KINDS:
            raise InputError("page", f"there is no {name[:40]!r}", "open /")
        kind = f"{_KINDS[path.suffix[1:]]}; charset=utf-8"
        return Response(path.read_bytes(), media_type=kind, headers={"cache-control": "no-cache"})

    def about(self, request: Request) -> Any:
        more = {"largest": self._largest, "preview": self.previews is not None}
        return {**offered(), **model_of(self._told), "told": list(self._told), **more}

    # -- clips --------------------------------------------------------------------------------

    async def upload(self, request: Request) -> Response:
        size = request.headers.get("content-length", "")
        announced = int(size) if _NUMBER.fullmatch(size) else None
        name = request.query_params.get("name", "")
        try:
            clip = await self.clips.add(name, announced, request.stream())
        except ClientDisconnect:
            return JSONResponse({"error": "upload: it was broken off; send it again"}, 400)
        return JSONResponse({"id": clip.id, **clip.facts}, 201)

    def listed(self, request: Request) -> Any:
        return [{"id": clip.id, **clip.facts} for clip in self.clips.all()]

    def clip(self, request: Request) -> Any:
        clip = self.clips.clip(request.path_params["clip"])
        return {"id": clip.id, **clip.facts}

    def frame(self, request: Request) -> Response:
        path = self.clips.clip(request.path_params["clip"]).path
        return self._jpeg(request, path)

    async def mask(self, request: Request) -> Response:
        data = await body(request, 16 * 2**20, "mask")
        name = await run_in_threadpool(self.clips.add_mask, request.path_params["clip"], data)
        return JSONResponse({"mask": name}, 201)

    def mask_file(self, request: Request) -> Response:
        path = self.clips.mask(request.path_params["clip"], request.path_params["mask"])
        return StoredFile(path, headers=FOREVER)

    # -- runs ---------------------------------------------------------------------------------

    def command(self, asked: StudioSettings) -> Any:
        """The command line of what is asked, and the same as yaml."""
        keys, arguments = self._arguments(asked)
        full = self.runs.full(arguments)
        out = full[-1].partition("=")[2]
        id = out.rpartition("/")[2]
        name = f"studio_{id[:8]}"
        text = yaml_of({**keys, "out": out}, self._told, name)
        return {
            "command": command_of(full),
            "arguments": full,
            "id": id,
            "name": name,
            "yaml": text,
        }

    def plan(self, asked: StudioSettings) -> Any:
        """The shots and key frames of what is asked, and its command."""
        command = self.command(asked)
        return {**planned(command["arguments"], self.clips.clip(asked.clip).path), **command}

    def start(self, asked: StudioSettings) -> Any:
        """Start a run, or find the one that is there."""
        _, arguments = self._arguments(asked)
        planned(
            self.runs.full(arguments), self.clips.clip(asked.clip).path
        )  # refused now, not later
        if self.previews is not None:
            self.previews.stop()  # one thing at a time
        shown = asked.model_dump(exclude_defaults=True)
        return self.runs.state(self.runs.start(asked.clip, shown, arguments))

    def _arguments(self, asked: StudioSettings) -> tuple[dict[str, Any], list[str]]:
        keys = self._keys(asked)
        return keys, arguments_of(keys, self._told)

    def _keys(self, asked: StudioSettings) -> dict[str, Any]:
        clip = self.clips.clip(asked.clip)
        mask = self.clips.mask(asked.clip, asked.mask) if asked.mask else None
        table = keep_table(clip.path.parent / "prompts", asked)
        mended = self.clips.keys(asked.clip, asked.keys) if asked.keys else None
        return keys_of(asked, clip.path, mask, table, mended)

    # -- previews -----------------------------------------------------------------------------

    def preview(self, asked: StudioSettings) -> Any:
        """Ask for the first frames of what is asked, small and in few steps."""
        refuse_while(self.runs.busy)
        if self.previews is None or asked.keys:
            raise ConfigError("preview", "there is none of this", "press Restyle")
        strength = strength_of(self._told, asked.preset)
        small, more = preview_of(asked, strength, model_of(self._told)["small"])
        id = self._asked({**self._keys(small), **more})
        return {"id": id, "first": small.start, "frames": small.frames}

    def _asked(self, keys: dict[str, Any], idle: bool = False) -> str:
        values = {key: keys.pop(key) for key in VALUES if key in keys}
        return self._previews.ask(arguments_of(keys, self._told), values, idle)

    def warm_up(self) -> None:
        """Have what makes previews read its loops and fill its pools before somebody waits for it:
        a few frames of a drawn clip, for nobody."""
        if self.previews is None:
            return
        model_of(self._told)
        for preset in offered()["presets"]:
            strength_of(self._told, preset)
        few = preview_of(StudioSettings(clip="0" * 16, prompt="oil"), 0.75, small=256)[1]
        few |= {"data": "demo", "data.frames": 5, "preset": "turbo", "keyframes.interval": 2}
        with suppress(OSError):
            self._asked({**few, "prompt": "oil", "metrics": [], "tracker": "none"}, idle=True)

    def preview_state(self, request: Request) -> Any:
        after = request.query_params.get("after", "")
        number = int(after) if _NUMBER.fullmatch(after) else 0
        return self._previews.state(request.path_params["preview"], number, _WAITING)

    def preview_frame(self, request: Request) -> Response:
        data = self._previews.frame(request.path_params["preview"], request.path_params["number"])
        return Response(data, media_type="image/jpeg", headers=NOW)

    @property
    def _previews(self) -> Previews:
        if self.previews is None:
            raise InputError("preview", "there are none", "start the studio without --no-warm")
        return self.previews

    def close(self) -> None:
        """End what is under way."""
        self.runs.close()
        if self.previews is not None:
            self.previews.close()

    def history(self, request: Request) -> Any:
        return self.runs.all(request.query_params.get("clip"))

    def state(self, request: Request) -> Any:
        state = self.runs.state(request.path_params["run"])
        return {**state, "line": command_of(state["command"])}

    def cancel(self, request: Request) -> Any:
        self.runs.cancel(request.path_params["run"])
        return self.runs.state(request.path_params["run"])

    def forget(self, request: Request) -> Any:
        self.runs.forget(request.path_params["run"])
        return {}

    def key(self, request: Request) -> Response:
        run = request.path_params["run"]
        path = self.runs.file(run, f"{KEYS}/{request.path_params['number']:06d}.png")
        if "whole" not in request.query_params:
            return StoredFile(path, headers=NOW)
        shaped = self.clips.shaped(self.runs.state(run)["clip"], picture.read(path).image)
        return Response(shaped, media_type="image/png", headers=NOW)

    async def mend(self, request: Request) -> Response:
        """Put another picture in the place of a frame; the settings that carry it on."""
        data = await body(request, 64 * 2**20, "key frame")
        run, number = request.path_params["run"], request.path_params["number"]
        state = self.runs.state(run)
        paths = {key: self.runs.file(run, f"{KEYS}/{key:06d}.png") for key in state["keys"]}
        asked = StudioSettings.of(state["settings"])
        most = self.clips.clip(asked.clip).facts["frames"] - asked.start
        if number >= min(most, asked.frames or most):
            raise InputError("key frame", f"{number} is no frame of the run", "choose another")
        name = await run_in_threadpool(self.clips.add_keys, state["clip"], paths, number, data)
        return JSONResponse({**state["settings"], "keys": name}, 201)

    def suggestions(self, request: Request) -> Any:
        """Which frames to paint next."""
        run = request.path_params["run"]
        state = self.runs.state(run)
        keys = [self.runs.file(run, f"{KEYS}/{key:06d}.png") for key in state["keys"]]
        if not keys:
            raise InputError("run", "has no key frames yet", "wait for them")
        asked = StudioSettings.of(state["settings"])
        path = self.clips.clip(asked.clip).path
        return frames_to_paint(path, keys, asked.start, asked.frames, self._told)

    def result(self, request: Request) -> Response:
        path = self.runs.video(request.path_params["run"])
        if "download" not in request.query_params:
            return StoredFile(path, media_type="video/mp4", headers=NOW)
        name = self.clips.clip(self.runs.state(request.path_params["run"])["clip"]).path.stem
        filename = f"{name}-{request.path_params['run'][:6]}.mp4"
        return StoredFile(path, media_type="video/mp4", filename=filename, headers=NOW)

    def sheet(self, request: Request) -> Response:
        return StoredFile(self.runs.file(request.path_params["run"], SHEET), headers=NOW)

    def result_frame(self, request: Request) -> Response:
        run = request.path_params["run"]
        path = self.runs.video(run)
        if "whole" not in request.query_params:
            return self._jpeg(request, path)
        image = frame_of(path, request.path_params["number"])
        shaped = self.clips.shaped(self.runs.state(run)["clip"], image)
        return Response(shaped, media_type="image/png", headers=NOW)

    def _jpeg(self, request: Request, path: Path) -> Response:
        longest = _SMALL if "small" in request.query_params else SHOWN
        data = self._pictures.frame(path, request.path_params["number"], longest)
        # A run that is made again has another address: the page adds when it was finished.
        return Response(data, media_type="image/jpeg", headers=FOREVER)
