"""Checkpoints by hub id: the cache first, then one short question to a hub; a stand-in on loopback
answers like one. Every command runs in a process of its own, since the library reads its
environment once."""

from __future__ import annotations

import hashlib
import http.server
import json
import os
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import ClassVar
from urllib.parse import unquote

import pytest

from rerender.demo.weights import FOLDER

COMMIT = "0123456789abcdef0123456789abcdef01234567"
FILES = {
    file.relative_to(FOLDER).as_posix(): file
    for file in sorted(FOLDER.rglob("*"))
    if file.is_file() and file.parent.name not in ("clip", "lpips_demo")
}
CHECK = """
import sys, json
from rerender.errors import RerenderError
from rerender.model.pretrained import Pretrained
chosen = Pretrained("owner/name", {"canny": "controlnet"}, dtype="float32", device="cpu")
if "net" in sys.argv:
    chosen = Pretrained("owner/name", {"canny": "owner/net"}, dtype="float32", device="cpu")
controls = ("canny",) if "net" in sys.argv else ()
if "ahead" in sys.argv:
    from rerender.model._places import ask_ahead
    for again in range(2):
        ask_ahead({"path": "owner/name", "vae": None, "unet": "not an id"})
try:
    chosen.check(controls)
    print("checked", chosen.fingerprint(controls) is not None)
    if "load" in sys.argv:
        print("loaded", chosen.load(controls).digest(), chosen.fingerprint(controls) is not None)
except RerenderError as error:
    print(error.exit_code, error)
"""


class Hub(http.server.BaseHTTPRequestHandler):
    """As much of a hub as a download asks for."""

    protocol_version = "HTTP/1.1"
    asked: ClassVar[list[str]] = []
    files: ClassVar[dict[str, Path]] = {}
    silent: ClassVar[bool] = False

    def do_HEAD(self) -> None:
        self._answer(body=False)

    def do_GET(self) -> None:
        self._answer(body=True)

    def _answer(self, body: bool) -> None:
        path = unquote(self.path.partition("?")[0])
        self.asked.append(path)
        if self.silent and "/resolve/" in path:
            threading.Event().wait(600)
        files = {
            "owner/name": self.files,
            "owner/net": {
                name.removeprefix("controlnet/"): file
                for name, file in self.files.items()
                if name.startswith("controlnet/")
            },
        }
        for repo, known in files.items():
            if path.startswith(f"/api/models/{repo}/tree/"):
                self._json([self._entry(name, file) for name, file in known.items()], body)
                return
            if path in (f"/api/models/{repo}", f"/api/models/{repo}/revision/main"):
                siblings = [{"rfilename": name} for name in known]
                self._json({"id": repo, "sha": COMMIT, "siblings": siblings}, body)
                return
            place = f"/{repo}/resolve/"
            name = path.removeprefix(place).partition("/")[2]
            if path.startswith(place) and name in known:
                self._file(known[name], body)
                return
        self.send_response(404)
        self.send_header("X-Error-Code", "RepoNotFound")
        self.send_header("Content-Length", "0")
        self.end_headers()

    @staticmethod
    def _entry(name: str, file: Path) -> dict[str, object]:
        data = file.read_bytes()
        oid = hashlib.sha1(b"blob %d\0" % len(data) + data).hexdigest()
        return {"type": "file", "path": name, "size": len(data), "oid": oid}

    def _json(self, value: object, body: bool) -> None:
        self._send(json.dumps(value).encode(), body, {"Content-Type": "application/json"})

    def _file(self, file: Path, body: bool) -> None:
        data = file.read_bytes()
        etag = hashlib.sha1(b"blob %d\0" % len(data) + data).hexdigest()
        self._send(data, body, {"ETag": f'"{etag}"', "X-Repo-Commit": COMMIT})

    def _send(self, data: bytes, body: bool, headers: dict[str, str]) -> None:
        self.send_response(200)
        for key, value in headers.items():
            self.send_header(key, value)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        if body:
            self.wfile.write(data)

    def log_message(self, format: str, *args: object) -> None:
        """Silent."""


@pytest.fixture
def hub() -> Iterator[str]:
    Hub.asked.clear()
    Hub.files = dict(FILES)
    Hub.silent = False
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Hub) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_address[1]}"
        server.shutdown()


def said(cache: Path, *arguments: str, **environment: str) -> str:
    """What a process prints that asks for owner/name."""
    keep = {key: value for key, value in os.environ.items() if "HF_" not in key}
    settings = {**keep, "HF_HOME": str(cache), "HF_HUB_DISABLE_XET": "1", **environment}
    done = subprocess.run(
        [sys.executable, "-c", CHECK, *arguments],
        env=settings,
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def cached(cache: Path, files: dict[str, Path], repo: str = "owner--name") -> Path:
    """Lay a model down as the library's cache does."""
    place = cache / "hub" / f"models--{repo}"
    for name, file in files.items():
        target = place / "snapshots" / COMMIT / name
        target.parent.mkdir(parents=True, exist_ok=True)
        target.symlink_to(file)
    (place / "refs").mkdir(parents=True, exist_ok=True)
    (place / "refs" / "main").write_text(COMMIT)
    return place


DEAD = {
    "a proxy that is dead": {"HTTPS_PROXY": "http://127.0.0.1:9"},
    "a hub that is dead": {"HF_ENDPOINT": "http://127.0.0.1:9"},
    "no name server": {"HF_ENDPOINT": "http://nowhere.invalid"},
}


@pytest.mark.parametrize(
    "environment",
    [
        pytest.param(each, marks=[pytest.mark.slow] if number else [])
        for number, each in enumerate(DEAD.values())
    ],
    ids=list(DEAD),
)
def test_a_dead_network_is_one_line_within_seconds(
    tmp_path: Path, environment: dict[str, str]
) -> None:
    line = said(tmp_path, **environment)
    assert line.count("\n") == 1
    assert line.startswith("4 owner/name: no such folder, and not in the cache of Hugging Face (")
    assert "hf download owner/name, or give a local folder" in line


@pytest.mark.slow
def test_a_hub_that_never_answers_is_given_up(tmp_path: Path) -> None:
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        silent.listen(16)
        before = time.monotonic()
        line = said(tmp_path, HF_ENDPOINT=f"http://127.0.0.1:{silent.getsockname()[1]}")
        # Patience is 6 s; the rest is Python starting on a machine that may be busy.
        assert time.monotonic() - before < 60
    assert line.startswith("4 owner/name: no such folder")


def test_a_hub_that_falls_silent_after_its_first_answer_is_given_up(
    tmp_path: Path, hub: str
) -> None:
    """The library itself would try again for minutes, with a line for each time."""
    Hub.silent = True
    line = said(tmp_path, HF_ENDPOINT=hub)
    assert line.count("\n") == 1
    assert line.startswith("4 owner/name: no such folder") and "cannot be reached" in line
    assert len([path for path in Hub.asked if "/resolve/" in path]) == 1


def test_whether_a_hub_gives_files_is_asked_ahead(tmp_path: Path, hub: str) -> None:
    """The answer is waited for while libraries load, not after them."""
    code = CHECK.partition("try:")[0] + "import time; time.sleep(3)\n"
    Hub.silent = True
    environment = {"HF_HOME": str(tmp_path), "HF_ENDPOINT": hub}
    keep = {key: value for key, value in os.environ.items() if "HF_" not in key}
    asking = [sys.executable, "-c", code, "ahead"]
    with subprocess.Popen(asking, env={**keep, **environment}) as process:
        try:
            end = time.monotonic() + 60
            while not any("/resolve/" in path for path in Hub.asked):
                assert time.monotonic() < end and process.poll() is None
                time.sleep(0.05)
        finally:
            process.kill()


def test_what_is_asked_ahead_is_the_answer_and_asked_once(tmp_path: Path, hub: str) -> None:
    line = said(tmp_path, "ahead", HF_ENDPOINT=hub)
    assert line == "checked False\n"
    assert Hub.asked.count("/api/models/owner/name") == 1


@pytest.mark.slow
def test_offline_asks_nobody(tmp_path: Path, hub: str) -> None:
    line = said(tmp_path, HF_HUB_OFFLINE="1", HF_ENDPOINT=hub)
    assert "HF_HUB_OFFLINE=1 keeps the network out" in line
    assert Hub.asked == []


def test_half_a_cache_names_what_is_missing(tmp_path: Path) -> None:
    half = {k: v for k, v in FILES.items() if not k.startswith(("unet/diff", "vae/", "scheduler"))}
    cached(tmp_path, half)
    line = said(tmp_path, HF_HUB_OFFLINE="1")
    assert (
        "its copy in the cache lacks scheduler/scheduler_config.json, vae/config.json, "
        "vae/diffusion_pytorch_model.safetensors, unet/diffusion_pytorch_model.safetensors ("
    ) in line


@pytest.mark.slow
def test_a_whole_cache_asks_nobody(tmp_path: Path, hub: str) -> None:
    cached(tmp_path, FILES)
    cached(
        tmp_path,
        {k.removeprefix("controlnet/"): v for k, v in FILES.items() if k.startswith("controlnet/")},
        "owner--net",
    )
    assert said(tmp_path, "load", "net", HF_ENDPOINT=hub).startswith("checked True\nloaded ")
    assert Hub.asked == []


@pytest.mark.slow
def test_a_model_of_the_hub_is_checked_by_its_small_files_then_loaded(
    tmp_path: Path, hub: str
) -> None:
    line = said(tmp_path, "net", HF_ENDPOINT=hub)
    assert line == "checked False\n"
    assert not any("safetensors" in path for path in Hub.asked)
    loaded = said(tmp_path, "load", "net", HF_ENDPOINT=hub).splitlines()
    assert loaded[0] == "checked False" and loaded[1].endswith("True")
    assert not any("clip/" in path or path.endswith(".md") for path in Hub.asked)


def test_a_model_of_another_kind_is_refused_before_its_weights_come(
    tmp_path: Path, hub: str
) -> None:
    other = tmp_path / "config.json"
    other.write_text(
        json.dumps({**json.loads(FILES["unet/config.json"].read_text()), "in_channels": 7})
    )
    Hub.files["unet/config.json"] = other
    line = said(tmp_path / "cache", "load", HF_ENDPOINT=hub)
    assert line.startswith("4 ") and "an upscaler" in line
    assert not any("safetensors" in path for path in Hub.asked)


@pytest.mark.slow
def test_a_model_that_the_hub_has_not(tmp_path: Path, hub: str) -> None:
    Hub.files.clear()
    line = said(tmp_path, HF_ENDPOINT=f"{hub}/elsewhere")
    assert "there is no such model, or it is private" in line
