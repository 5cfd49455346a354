"""Who may come in: every request passes here before anything of it is read.

A page of somebody else must neither read ours nor do anything in our user's name. A name of theirs
that leads to this machine (DNS rebinding) is told by the Host header; a form or script of theirs
(CSRF) by Origin, and by a header that they cannot set without asking first, which nobody grants.
"""

from __future__ import annotations

import ipaddress
import secrets
import socket
from http.cookies import CookieError, SimpleCookie
from urllib.parse import parse_qs, urlsplit

from starlette.datastructures import Headers
from starlette.responses import JSONResponse, RedirectResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

HEADER = "x-rerender-studio"  # of every request that changes something
COOKIE = "rerender_studio"
_READS = ("GET", "HEAD")
_HEADERS = {
    "content-security-policy": "default-src 'none'; script-src 'self'; style-src 'self'; "
    "img-src 'self' blob: data:; media-src 'self'; connect-src 'self'; form-action 'none'; "
    "base-uri 'none'; frame-ancestors 'none'",
    "x-content-type-options": "nosniff",
    "referrer-policy": "no-referrer",
    "cross-origin-resource-policy": "same-origin",
    "cross-origin-opener-policy": "same-origin",
}


class Guard:
    """An ASGI application before another one.

    Args:
        app: what is guarded.
        host: the address that is listened on.
        port: of it.
        token: what a browser must know; None asks for nothing. It comes once in the address, and
            then as a cookie that no script reads and no other site sends.
    """

    def __init__(self, app: ASGIApp, host: str, port: int, token: str | None) -> None:
        self._app, self._host, self._port, self._token = app, host, port, token

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":  # lifespan
            await self._app(scope, receive, send)
            return
        headers = Headers(scope=scope)
        refused = self._refused(scope["method"], headers)
        given = self._given(scope)
        if refused:
            answer: Response = JSONResponse({"error": refused}, 403)
        elif self._token is not None and given is not None and self._is(given):
            answer = RedirectResponse("/", 303)
            answer.set_cookie(self._cookie, given, httponly=True, samesite="strict", path="/")
        elif self._token is not None and not self._is(self._kept(headers)):
            answer = JSONResponse(
                {"error": "token: missing or wrong; open the address that the command has printed"},
                401,
            )
        else:
            await self._app(scope, receive, _adding(send))
            return
        await answer(scope, receive, _adding(send))

    @property
    def _cookie(self) -> str:
        return f"{COOKIE}_{self._port}"  # cookies do not know ports

    def _refused(self, method: str, headers: Headers) -> str:
        host = headers.get("host", "")
        cure = "open the address that the command has printed"
        if not self._ours(host):
            return f"host: this page is not {host[:80]!r}; {cure}"
        origin = headers.get("origin")
        if origin is not None and origin.lower() != f"http://{host.lower()}":
            return f"origin: {origin[:80]!r} is another site; use the page itself"
        if headers.get("sec-fetch-site") == "cross-site" and method not in _READS:
            return "origin: another site; use the page itself"
        if method not in _READS and headers.get(HEADER) != "1":
            return f"{HEADER}: missing; use the page itself"
        return ""

    def _ours(self, host: str) -> bool:
        try:
            found = urlsplit(f"http://{host}")
            name, port = found.hostname or "", found.port or 80
        except ValueError:
            return False
        if found.netloc.lower() != host.lower() or "@" in host or port != self._port:
            return False
        return name in self._names() or (self._everywhere and _is_address(name))

    @property
    def _everywhere(self) -> bool:
        return _is_address(self._host) and ipaddress.ip_address(self._host).is_unspecified

    def _names(self) -> set[str]:
        """Names under which the page is opened. An address cannot be rebound, others' names can."""
        names = {self._host.lower(), "localhost", "127.0.0.1", "::1"}
        return names | ({socket.gethostname().lower()} if self._everywhere else set())

    def _given(self, scope: Scope) -> str | None:
        if scope["path"] != "/" or scope["method"] != "GET":
            return None
        found = parse_qs(scope["query_string"].decode("latin-1")).get("token")
        return found[0] if found else None

    def _kept(self, headers: Headers) -> str:
        scheme, _, value = headers.get("authorization", "").partition(" ")
        if scheme.lower() == "bearer":
            return value
        cookies: SimpleCookie = SimpleCookie()
        try:
            cookies.load(headers.get("cookie", ""))
        except CookieError:
            return ""
        found = cookies.get(self._cookie)
        return str(found.value) if found else ""

    def _is(self, given: str) -> bool:
        return secrets.compare_digest(given.encode(), (self._token or "").encode())


def _is_address(name: str) -> bool:
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return False
    return True


def _adding(send: Send) -> Send:
    """Answers with the headers that tell a browser to load nothing from elsewhere."""

    async def sending(message: Message) -> None:
        if message["type"] == "http.response.start":
            known = {name for name, _ in message["headers"]}
            more = [
                (k.encode(), v.encode()) for k, v in _HEADERS.items() if k.encode() not in known
            ]
            message["headers"] = [*message["headers"], *more]
        await send(message)

    return sending
