"""Files from the net, fetched in pieces that survive an interruption."""

from __future__ import annotations

import hashlib
import http.client
import shutil
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from rerender import files
from rerender.datasets.archive import ArchiveError
from rerender.errors import ConfigError, ResourceError
from rerender.network import PATIENCE, within

TRIES, TIMEOUT = 5, 20.0
_AGENT = {"User-Agent": "rerender"}
_BLOCK = 4 << 20
_BY_HAND = "get it by hand and give archive=PATH"
Tell = Callable[[int, int | None], None]


def reach(url: str) -> None:
    """See whether a host answers at all, before anything is made for what it would send.

    Raises:
        ArchiveError: it does not, within seconds. What it answers is not looked at.
    """
    request = urllib.request.Request(url, headers=_AGENT, method="HEAD")

    def ask() -> None:
        with urllib.request.urlopen(request, timeout=PATIENCE):
            pass

    try:
        within(PATIENCE, ask)
    except urllib.error.HTTPError as error:
        error.close()  # it is an answer, with a connection of its own
    except (OSError, http.client.HTTPException) as error:
        cure = f"run it again with a network, or {_BY_HAND}"
        raise ArchiveError(url, f"cannot be reached ({_reason(error)})", cure) from error


def _reason(error: Exception) -> str:
    return " ".join(str(getattr(error, "reason", error)).split()) or "no answer"


def download(url: str, target: Path, size: int | None, tell: Tell, pause: float = 1.0) -> Path:
    """Fetch a file; what an earlier call got of it is kept as ``.part`` and continued.

    Args:
        url: http or https.
        target: the finished file.
        size: its length in bytes, if known.
        tell: called with bytes so far and all bytes, None where unknown.
        pause: seconds before the second try; doubled for each further one.

    Raises:
        ConfigError: another kind of address.
        ArchiveError: the host cannot be reached or refuses, or sends another number of bytes.
        ResourceError: the disk is too small.
    """
    if urlsplit(url).scheme not in ("http", "https"):
        raise ConfigError("url", f"is neither http nor https, received {url!r}", _BY_HAND)
    part = target.with_name(target.name + ".part")
    reason = ""
    for number in range(TRIES):
        if number:
            time.sleep(pause * 2 ** (number - 1))
        try:
            _continued(url, part, size, tell)
            part.replace(target)
            return target
        except urllib.error.HTTPError as error:
            error.close()
            reason = f"{error.code} {error.reason}"
            if error.code == 416:  # more is there than the host has: not the same file any more
                part.unlink(missing_ok=True)
            elif error.code < 500 and error.code not in (408, 429):
                break
        except (OSError, http.client.HTTPException) as error:
            reason = _reason(error)
    cure = f"run it again to go on where it stopped, or {_BY_HAND}"
    raise ArchiveError(url, f"cannot be fetched ({reason})", cure)


def _continued(url: str, part: Path, size: int | None, tell: Tell) -> None:
    have = part.stat().st_size if part.is_file() else 0
    if size is not None and have == size:
        return
    request = urllib.request.Request(url, headers=_AGENT)
    if have:
        request.add_header("Range", f"bytes={have}-")
    with urllib.request.urlopen(request, timeout=TIMEOUT) as answer:
        if have and answer.status != 206:  # the host starts from the beginning
            part.unlink()
            have = 0
        length = answer.headers.get("Content-Length")
        total = have + int(length) if length and length.isdecimal() else size
        _check(url, part, total, size)
        _receive(answer, part, (have, total), tell)


def _check(url: str, part: Path, total: int | None, size: int | None) -> None:
    if size is not None and total != size:
        problem = f"has {total} bytes, the manifest says {size}"
        raise ArchiveError(url, problem, f"it may have changed; {_BY_HAND}")
    free = shutil.disk_usage(files.folder(part.parent)).free
    if total is not None and total > free:
        problem = f"needs {total} bytes, {free} are free"
        raise ResourceError(part.parent, problem, "free some space or choose another out=")


def _receive(answer: Any, part: Path, amounts: tuple[int, int | None], tell: Tell) -> None:
    have, total = amounts
    while block := answer.read(_BLOCK):
        files.append(part, block)
        have += len(block)
        tell(have, total)
        if total is not None and have > total:
            raise ArchiveError(part, f"grew beyond {total} bytes", "run it again")
    if total is not None and have < total:
        raise http.client.IncompleteRead(b"", total - have)


def sha256(path: Path) -> str:
    """SHA-256 of a file's content, in hexadecimal."""
    total = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(_BLOCK):
            total.update(block)
    return total.hexdigest()
