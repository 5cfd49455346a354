"""The only writer: every file appears whole under its name, or not at all.

A file is written beside its place as ``.tmp-<host>-<pid>-<uuid>``, synced, renamed, and the folder
is synced too. What libraries would write by themselves (videos, pictures, tensors) is written
through here, because several of them do not notice a full disk.

Nothing is written through a link that somebody has put there: a file in place of which there is a
link is replaced, or refused where it is added to; and below a folder that this process has locked,
every folder on the way is looked at first (`unlinked`). The folder itself, and those above it, may
be links: the user named them.
"""

from rerender.files.explain import explained
from rerender.files.folders import check_writable, children, folder, unlinked
from rerender.files.locks import LOCK, is_still, lock, owner, vacate
from rerender.files.moves import move, remove, sweep, touch
from rerender.files.pictures import levels, png
from rerender.files.scratch import Scratch, scratch_folder
from rerender.files.temporaries import TEMPORARIES, TEMPORARY, dead, host, temporary_name
from rerender.files.write import append, append_line, copy, put, put_json, writing

__all__ = [
    "LOCK",
    "TEMPORARIES",
    "TEMPORARY",
    "Scratch",
    "append",
    "append_line",
    "check_writable",
    "children",
    "copy",
    "dead",
    "explained",
    "folder",
    "host",
    "is_still",
    "levels",
    "lock",
    "move",
    "owner",
    "png",
    "put",
    "put_json",
    "remove",
    "scratch_folder",
    "sweep",
    "temporary_name",
    "touch",
    "unlinked",
    "vacate",
    "writing",
]
