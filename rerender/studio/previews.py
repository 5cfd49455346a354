"""The previews of a studio: what was asked for, and the frames that are there."""

from __future__ import annotations

import hashlib
import json
import os
import socket
import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from multiprocessing.connection import Connection
from typing import Any

from rerender.errors import InputError, LockedError

_KEPT = 24  # previews whose frames are kept
LOST = "the process that makes previews was lost; change anything, or ask again"


@dataclass
class Preview:
    """One of them.

    Attributes:
        frames: JPEG files, from the first frame of the stretch on.
        end: None while it is made; "" when it is whole, "stopped", or why it is refused.
    """

    frames: list[bytes] = field(default_factory=list)
    end: str | None = None


class Previews:
    """Asks for previews, one at a time: the newest one ends the one before it.

    Args:
        connect: starts the process that makes them (see `rerender.studio.preview`).
    """

    def __init__(self, connect: Callable[[], Connection]) -> None:
        self._connect = connect
        self._known: OrderedDict[str, Preview] = OrderedDict()
        self._news = threading.Condition()
        self._channel: Connection | None = None
        self._made, self._number = Preview(end=""), 0  # the one under way, and its request

    def ask(self, arguments: Sequence[str], values: Mapping[str, Any], idle: bool = False) -> str:
        """Ask for a preview; what is there, or under way, is not made again.

        Args:
            arguments: of the run command.
            values: of keys that are not among them (see `rerender.studio.preview`).
            idle: only if nobody has asked for another one yet.

        Returns:
            Its name.

        Raises:
            OSError: no process can be started for it.
        """
        id = hashlib.sha256(json.dumps([list(arguments), dict(values)]).encode()).hexdigest()[:16]
        with self._news:
            if idle and self._number:
                return id
            known = self._known.get(id)
            if known is not None and known.end in (None, ""):
                self._known.move_to_end(id)
                return id
            self._put_away()
            self._known[id] = self._made = Preview()
            while len(self._known) > _KEPT:
                self._known.popitem(last=False)
            self._number += 1
            asked = {"number": self._number, "arguments": list(arguments), "values": dict(values)}
            try:
                self._send(json.dumps(asked).encode())
            except OSError as error:
                self._made.end = " ".join(str(error).split())
                raise
        return id

    def _put_away(self) -> None:
        """What is under way now is not waited for any more."""
        if self._made.end is None:
            self._made.end = "stopped"
        self._made = Preview(end="")
        self._news.notify_all()

    def _send(self, asked: bytes) -> None:
        """Send it to the process; to another one where that has died meanwhile."""
        if self._channel is not None:
            try:
                self._channel.send_bytes(asked)
                return
            except OSError:
                self._channel = None
        channel = self._connect()
        channel.send_bytes(asked)
        self._channel = channel
        threading.Thread(target=self._listen, args=(channel,), daemon=True).start()

    def stop(self) -> None:
        """End the one that is made, for a run that begins."""
        with self._news, suppress(OSError):
            self._put_away()
            self._number += 1
            if self._channel is not None:
                self._channel.send_bytes(b"{}")

    def state(self, id: str, after: int, seconds: float) -> dict[str, Any]:
        """How a preview stands, as soon as it has more frames than ``after`` or has ended, at the
        latest after some seconds.

        Returns:
            frames: how many are there; end: as `Preview`.

        Raises:
            InputError: there is none of this name.
        """
        until = time.monotonic() + seconds
        with self._news:
            found = self._found(id)
            while len(found.frames) <= after and found.end is None:
                left = until - time.monotonic()
                if left <= 0:
                    break
                self._news.wait(left)
            return {"id": id, "frames": len(found.frames), "end": found.end}

    def frame(self, id: str, number: int) -> bytes:
        """A frame as a JPEG file.

        Raises:
            InputError: it is not there.
        """
        with self._news:
            found = self._found(id).frames
            if not 0 <= number < len(found):
                raise InputError("preview", f"frame {number} is not there yet", "wait for it")
            return found[number]

    def close(self) -> None:
        """End the process."""
        with self._news:
            if self._channel is not None:
                # Closing it would leave the thread that reads from it asleep.
                with socket.socket(fileno=os.dup(self._channel.fileno())) as ours:
                    ours.shutdown(socket.SHUT_RDWR)

    def _found(self, id: str) -> Preview:
        if id not in self._known:
            raise InputError("preview", f"there is no {id[:40]!r}", "ask for it again")
        return self._known[id]

    def _listen(self, channel: Connection) -> None:
        with suppress(EOFError, OSError):
            while True:
                head, _, data = channel.recv_bytes().partition(b"\n")
                said = json.loads(head)
                with self._news:
                    if said["number"] != self._number:
                        continue
                    if "frame" in said:
                        self._made.frames.append(data)
                    else:
                        self._made.end = said["end"]
                    self._news.notify_all()
        with self._news:
            channel.close()
            if self._channel is channel:
                self._channel = None
                self._made.end = LOST if self._made.end is None else self._made.end
            self._news.notify_all()


def refuse_while(busy: bool) -> None:
    """One thing at a time.

    Raises:
        LockedError: a run is under way.
    """
    if busy:
        raise LockedError("preview", "a run is under way", "it comes when that is done")
