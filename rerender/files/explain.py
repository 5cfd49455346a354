"""What the operating system says about a file, as one line with the file and the cure."""

from __future__ import annotations

import errno
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from rerender.errors import ConfigError, RerenderError, ResourceError

_CURES = {
    errno.ENOSPC: "free some space or write somewhere else",
    errno.EDQUOT: "free some of your quota or write somewhere else",
    errno.EFBIG: "raise the file size limit (ulimit -f) or write somewhere else",
    errno.EROFS: "write to a folder that is not read-only",
    errno.EACCES: "make the folder writable or write somewhere else",
    errno.EPERM: "make the folder writable or write somewhere else",
    errno.EIO: "check the disk, then run the same command again",
    errno.ENAMETOOLONG: "choose a shorter name",
}
_IN_THE_WAY = (errno.ENOTDIR, errno.EEXIST, errno.EISDIR, errno.ENOTEMPTY)


@contextmanager
def explained(path: Path, only: tuple[int, ...] | None = None) -> Iterator[None]:
    """Turn an error of the operating system into one line that names the file and the cure."""
    try:
        yield
    except OSError as error:
        if only is not None and error.errno not in only:
            raise
        raise _explain(path, error) from error


def _explain(path: Path, error: OSError) -> RerenderError:
    reason = (error.strerror or str(error)).lower()
    if error.errno in _IN_THE_WAY:
        blocker = next((p for p in (path, *path.parents) if p.exists() and not p.is_dir()), path)
        kind = "folder" if blocker.is_dir() else "file"
        return ConfigError(blocker, f"a {kind} has this name already", "choose another output path")
    if error.errno in (errno.ELOOP, errno.ENXIO):
        kind = "link" if error.errno == errno.ELOOP else "pipe"
        return ConfigError(path, f"is a {kind}, and nothing is written through it", "remove it")
    cure = _CURES.get(error.errno or 0, "write somewhere else")
    return ResourceError(path, f"cannot be written ({reason})", cure)
