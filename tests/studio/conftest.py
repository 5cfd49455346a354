"""A studio in a folder of its own, and a clip for it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.codec.making import make, pictures

HOST = "127.0.0.1:7860"
OURS = {"host": HOST, "x-rerender-studio": "1"}


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder in which the studio was started."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def film(tmp_path: Path) -> bytes:
    """An mp4 of 21 frames of 64x48 pixels."""
    return make(tmp_path / "made.mp4", pictures(21)).read_bytes()


@pytest.fixture
def client(place: Path) -> Iterator[Any]:
    """The guarded application, spoken to without a network."""
    with serving() as found:
        yield found


def serving(token: str | None = None, host: str = "127.0.0.1", upload: int = 2**20) -> Any:
    """A client of a studio."""
    pytest.importorskip("starlette", reason="the studio's libraries are not installed")
    from starlette.testclient import TestClient

    from rerender.studio.app import application
    from rerender.studio.guard import Guard

    app = application(Path("outputs/studio"), (), upload)
    guarded = Guard(app, host, 7860, token)
    return TestClient(guarded, f"http://{HOST}", headers=OURS, follow_redirects=False)


def added(client: Any, data: bytes, name: str = "cat.mp4") -> str:
    """Upload a clip; returns its name at the studio."""
    answer = client.post("/api/clips", params={"name": name}, content=data)
    assert answer.status_code == 201, answer.text
    return str(answer.json()["id"])
