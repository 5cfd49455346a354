"""What a decoder says of the pictures that it decodes, which it hands out all the same."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from threading import Lock
from typing import Any

import av
import av.logging

_ONE = Lock()  # level and skipping belong to the process


@contextmanager
def decoder_log() -> Iterator[list[tuple[int, str, str]]]:
    """The lines (level, name, text) that FFmpeg writes in this thread meanwhile, at level INFO and
    above, as they come. Lines that repeat the one before are not left out, as they are by default:
    the one before may be of another look at the same file."""
    with _ONE:
        level, skipping = av.logging.get_level(), av.logging.get_skip_repeated()
        av.logging.set_level(av.logging.INFO)
        av.logging.set_skip_repeated(False)
        try:
            with av.logging.Capture() as said:
                found: Any = said
                yield found
        finally:
            av.logging.set_skip_repeated(skipping)
            av.logging.set_level(level)
