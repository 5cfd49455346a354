"""Kinds of text that the settings of a part hold, written in the annotation of its field.

What a text can do decides who may say it. A file of ``--config-dir`` may come from a stranger, so
it says nothing that runs, connects or writes: of the fields that hold text it sets those whose
kind is ``shared``, and no field whose kind is unknown. `rerender.config.settings` reads annotations
without importing their modules, so a kind is used by its name in this file.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated


@dataclass(frozen=True)
class Kind:
    """What a text is.

    Attributes:
        name: what tells it from others that are treated alike.
        literal: a name or path, taken on the command line as it is typed, a leading ``~`` expanded;
            otherwise it is in Hydra's grammar, and a comma makes a sweep.
        shared: a file of ``--config-dir`` may say it, besides the command line.
        fetched: where it is the id of a model on the hub, files are fetched for it; then the
            command line alone may say it.
    """

    name: str
    literal: bool
    shared: bool
    fetched: bool = False

    @property
    def names_file(self) -> bool:
        """Whether it is taken as it is typed because it is the name of a file or folder."""
        return self.literal and self.name not in ("prompt", "label", "address")


Word = Annotated[str, Kind("word", literal=False, shared=True)]
"""One of the words that a part knows, or a number with letters in it; nothing is opened by it."""

Label = Annotated[str, Kind("label", literal=True, shared=True)]
"""A name that is shown; nothing is opened by it."""

Device = Annotated[str, Kind("device", literal=False, shared=True)]
"""What computes: auto, cpu, cuda, cuda:1, mps."""

LocalModel = Annotated[str, Kind("localmodel", literal=True, shared=True)]
"""Weights on this machine: a folder or file, or the hub id of what was downloaded before."""

HubModel = Annotated[str, Kind("hubmodel", literal=True, shared=True, fetched=True)]
"""Weights: a folder, or a hub id whose files are fetched where they are not here."""

Folder = Annotated[str, Kind("folder", literal=True, shared=True)]
"""A folder or file that is read."""


Told = Annotated[Path, Kind("told", literal=True, shared=False)]
"""A file whose text is repeated in the results, whatever it holds."""

Output = Annotated[Path, Kind("output", literal=True, shared=False)]
"""A folder that is written to."""

Program = Annotated[str, Kind("program", literal=True, shared=False)]
"""A program that is run."""

Code = Annotated[Path, Kind("code", literal=True, shared=False)]
"""A folder whose code is run."""

Address = Annotated[str, Kind("address", literal=True, shared=False)]
"""A machine that is connected to."""

CONNECTS = Kind("connects", literal=False, shared=False)
"""Put beside the type of a field some of whose values connect to other machines."""


def expanded(path: Path | str) -> Path:
    """A path with ``~`` or ``~user`` at its front written out, as a shell does it: where there is
    no such user or no home, it is a name like any other."""
    try:
        return Path(path).expanduser()
    except RuntimeError:
        return Path(path)
