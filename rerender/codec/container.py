"""Open a media file as what it is, and say in one line why one is refused.

Only plain files in a few container formats are opened: playlists, URLs and protocols could make a
decoder read other files or reach for the network.
"""

from __future__ import annotations

import re
import stat
from pathlib import Path
from typing import Any

import av
import av.error

from rerender.errors import InputError
from rerender.files.suffixes import CONTAINERS, VIDEOS
from rerender.peak_memory import share

FORMATS = ",".join(CONTAINERS)
SUFFIXES = VIDEOS
"""Endings of the names of video files, in small letters: any of them is opened."""
MAX_PIXELS = 7680 * 4320  # 8K
_PLAYLISTS = (b"#EXTM3U", b"ffconcat", b"[playlist]", b"#EXT-X", b"<?xml", b"<smil", b"<MPD")
_PICTURES = (b"\x89PNG", b"\xff\xd8\xff", b"BM", b"RIFF....WEBP", b"II*\x00", b"MM\x00*")
_CURE = "give an mp4, mov, mkv, webm or avi file"


def open_container(path: Path) -> Any:
    """A container opened for reading, strict about damage.

    Raises:
        InputError: there is no such plain file, or it is not a video format that is accepted.
    """
    _require_plain_file(path)
    share()  # before the first decoder starts threads
    # A decoder that explodes on the first broken bit tells us of damage instead of hiding it.
    options = {
        "protocol_whitelist": "file",
        "format_whitelist": FORMATS,
        "err_detect": "explode",
        "max_pixels": str(MAX_PIXELS),
    }
    try:
        # Titles and names in a file may be in any encoding: what is not UTF-8 is replaced.
        return av.open(f"file:{path}", "r", options=options, metadata_errors="replace")
    except av.error.FFmpegError as error:
        raise InputError(path, *_why_not(_head(path), error)) from error


def reason(error: Exception) -> str:
    """What FFmpeg says is wrong, without paths and numbers."""
    text = getattr(error, "strerror", None) or str(error)
    return str(text).split(":")[0].lower()


def _require_plain_file(path: Path) -> None:
    try:
        mode = path.stat().st_mode
    except OSError as error:
        if re.match(r"[A-Za-z][A-Za-z0-9+.-]+:", str(path)):
            problem = "addresses and protocols are not opened"
            raise InputError(path, problem, "download the video and give its path") from error
        why = (error.strerror or "cannot be read").lower()
        raise InputError(path, f"cannot be opened ({why})", "check the path") from error
    if stat.S_ISDIR(mode):
        cure = "give one file, or use data=folder"
        raise InputError(path, "is a folder, a video file is needed", cure)
    if not stat.S_ISREG(mode):
        raise InputError(path, "is a pipe or a device, not a file", _CURE)
    if not _head(path):
        raise InputError(path, "is empty (0 bytes)", "copy or download it again")


def _head(path: Path) -> bytes:
    try:
        with path.open("rb") as file:
            return file.read(64)
    except OSError as error:
        why = (error.strerror or "unknown").lower()
        raise InputError(path, f"cannot be read ({why})", "check its permissions") from error


def _why_not(head: bytes, error: Exception) -> tuple[str, str]:
    """(problem, cure) for a file that FFmpeg refused."""
    if head.startswith(_PLAYLISTS):
        return "is a playlist or a list of files, not a video", _CURE
    if any(re.match(magic, head, re.DOTALL) for magic in map(_pattern, _PICTURES)):
        return "is a picture, not a video", "give a video, or a folder of pictures to data=folder"
    if _is_text(head):
        start = head[:20].decode(errors="ignore")
        return f"is not a video (starts with {start!r})", _CURE
    if head[4:8] == b"ftyp":
        return f"is damaged or cut off ({reason(error)})", "copy or download it again"
    return f"is not a video that can be read ({reason(error)})", _CURE


def _pattern(magic: bytes) -> bytes:
    return re.escape(magic).replace(rb"\.", b".")


def _is_text(head: bytes) -> bool:
    text = head.decode(errors="ignore")  # a character may be cut in half at the end
    return len(text) >= len(head) // 2 and all(c.isprintable() or c.isspace() for c in text)
