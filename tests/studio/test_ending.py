"""A studio that is stopped while it answers: whoever waits is told, and no traceback is shown."""

from __future__ import annotations

import asyncio
import socket
import threading
from collections.abc import Iterator

import pytest

pytest.importorskip("uvicorn", reason="the studio's libraries are not installed")


@pytest.fixture
def address() -> Iterator[socket.socket]:
    with socket.create_server(("127.0.0.1", 0)) as listening:
        yield listening


@pytest.mark.parametrize("begun", [False, True])
def test_a_request_that_the_end_interrupts_is_answered(
    address: socket.socket, begun: bool, caplog: pytest.LogCaptureFixture
) -> None:
    import uvicorn
    from starlette.types import Receive, Scope, Send

    from rerender.studio.ending import Ending

    asked = threading.Event()

    async def slow(scope: Scope, receive: Receive, send: Send) -> None:
        if begun:
            head = {"type": "http.response.start", "status": 200, "headers": []}
            await send(head)
            await send({"type": "http.response.body", "body": b"half", "more_body": True})
        asked.set()
        await asyncio.sleep(3600)

    config = uvicorn.Config(
        Ending(slow), lifespan="off", log_config=None, timeout_graceful_shutdown=1
    )
    server = uvicorn.Server(config)
    serving = threading.Thread(target=server.run, kwargs={"sockets": [address]})
    serving.start()
    with socket.create_connection(address.getsockname()) as client:
        client.sendall(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
        assert asked.wait(60)
        server.should_exit = True
        answer = b""
        while block := client.recv(4096):
            answer += block
        serving.join(60)
    if begun:
        assert b" 200 " in answer and b"half" in answer
    else:
        assert b" 503 " in answer and b"start it again" in answer
    assert not [record for record in caplog.records if record.exc_info]
