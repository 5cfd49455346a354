"""A loopback server that speaks just enough of the W&B protocol for one run: not the vendor's
server, but the unmodified client believes it."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any


class Handler(BaseHTTPRequestHandler):
    """Answers every request and keeps what was streamed."""

    protocol_version = "HTTP/1.1"

    def do_POST(self) -> None:
        if self.server.dead.is_set():  # type: ignore[attr-defined]
            time.sleep(600)
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        if self.path.endswith("/file_stream"):
            self.server.rows.append(json.loads(body))  # type: ignore[attr-defined]
            self._answer({})
        elif self.path.endswith("/graphql"):
            self._answer({"data": self._graphql(json.loads(body))})
        else:
            self._answer({})

    def do_PUT(self) -> None:
        self.rfile.read(int(self.headers.get("Content-Length") or 0))
        self._answer({})

    def do_GET(self) -> None:
        self._answer({})

    def log_message(self, format: str, *args: Any) -> None:
        """Keep the terminal quiet."""

    def _graphql(self, query: dict[str, Any]) -> dict[str, Any]:
        text, variables = query["query"], query.get("variables") or {}
        if "upsertBucket" in text:
            kept = ("config", "name", "groupName", "displayName")
            said = {key: variables.get(key) for key in kept}
            self.server.rows.append(said)  # type: ignore[attr-defined]
            project = {"name": variables.get("project"), "entity": {"name": "me"}}
            bucket = {
                "id": "1",
                "name": variables.get("name") or "run",
                "displayName": variables.get("displayName"),
                "config": None,
                "sweepName": None,
                "historyLineCount": 0,
                "project": project,
            }
            return {"upsertBucket": {"bucket": bucket, "inserted": True}}
        if "RunResumeStatus" in text:
            return {"model": None}
        if "createRunFiles" in text:
            base = f"http://{self.headers['Host']}/upload"
            files = [{"name": name, "uploadUrl": base} for name in variables.get("files", [])]
            return {"createRunFiles": {"runID": "1", "uploadHeaders": [], "files": files}}
        if "createArtifact(" in text:
            sequence = {"id": "1", "latestArtifact": {"id": "1", "versionIndex": 0}}
            artifact = {"id": "1", "state": "COMMITTED", "artifactSequence": sequence}
            return {"createArtifact": {"artifact": artifact}}
        if "artifactType" in text.replace("ArtifactType", "artifactType"):
            return {"project": None}
        return {"viewer": {"id": "1", "entity": "me", "username": "me", "flags": "{}"}}

    def _answer(self, value: dict[str, Any]) -> None:
        data = json.dumps(value).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)


@contextmanager
def wandb_server(
    dead: threading.Event | None = None,
) -> Iterator[tuple[str, list[dict[str, Any]]]]:
    """(address, everything that was streamed) of a running server.

    Args:
        dead: once it is set, requests are taken and never answered.
    """
    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    rows: list[dict[str, Any]] = []
    server.rows = rows  # type: ignore[attr-defined]
    server.dead = dead or threading.Event()  # type: ignore[attr-defined]
    server.daemon_threads, server.block_on_close = True, False
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}", rows
    finally:
        server.shutdown()
        server.server_close()
