"""What is known of a data set that is fetched: one yaml of conf/dataset each."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Annotated

import yaml
from pydantic import Field

from rerender.config.allowlist import scan_file
from rerender.config.build import construct
from rerender.config.paths import CONF, choices_of
from rerender.errors import ConfigError
from rerender.kinds import expanded

_HEX = r"^[0-9a-f]{64}$"


@dataclass(frozen=True, kw_only=True)
class DatasetManifest:
    """What is known of a data set.

    Attributes:
        name: what its folder is called.
        url: address of its archive; None where no program can fetch it.
        by_hand: where a person gets it then.
        sha256: of the archive; None where its makers do not say.
        bytes: size of the archive; None where unknown.
        licence, attribution: as its makers state them.
        inside: folders of the archive that hold the clips.
        count: number of clips; None where unknown.
        clips: names that must be there.
        prompts: clip -> what its result should show, and columns of `rerender.data.prompt`.
    """

    name: Annotated[str, Field(pattern=r"^[\w][\w.-]{0,60}$")]
    licence: str
    attribution: str
    url: str | None = None
    by_hand: str | None = None
    sha256: Annotated[str, Field(pattern=_HEX)] | None = None
    bytes: Annotated[int, Field(ge=1)] | None = None
    inside: tuple[str, ...] = (".",)
    count: int | None = None
    clips: tuple[str, ...] = ()
    prompts: Mapping[str, Mapping[str, str]] = field(default_factory=dict)


def manifest(name: str) -> DatasetManifest:
    """A manifest by its name in conf/dataset, or from a file that ends in .yaml.

    Raises:
        ConfigError: there is none, or it says something that cannot be.
    """
    path = expanded(name) if name.endswith(".yaml") else CONF / "dataset" / f"{name}.yaml"
    known = choices_of("dataset")
    if ("/" in name and not name.endswith(".yaml")) or not path.is_file():
        raise ConfigError("data", f"no data set {name!r}", f"choices: demo, {', '.join(known)}")
    scan_file(path)
    tree = yaml.safe_load(path.read_text(encoding="utf-8"))
    if not isinstance(tree, dict):
        raise ConfigError(path, "is not a manifest", "see those in conf/dataset")
    return construct(DatasetManifest, tree, path.stem)
