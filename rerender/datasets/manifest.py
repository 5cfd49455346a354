"""What is known of a data set that is fetched: one yaml of conf/dataset each."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Annotated, Any, Literal

import yaml
from pydantic import Field

from rerender.config.allowlist import scan_file
from rerender.config.build import construct
from rerender.config.paths import CONF, choices_of
from rerender.errors import ConfigError
from rerender.kinds import expanded

_HEX = r"^[0-9a-f]{64}$"
_OF_VIDEO = ("url", "sha256", "bytes", "source_prompt", "licence", "attribution", "edits")


@dataclass(frozen=True, kw_only=True)
class DatasetManifest:
    """What is known of a data set.

    Attributes:
        name: what its folder is called.
        layout: how it lies in its archive (`rerender.datasets.layouts`); "videos" has none: its
            clips are files with addresses of their own.
        url: address of its archive; None where no program can fetch it.
        by_hand: where a person gets it then.
        sha256: of the archive; None where its makers do not say.
        bytes: size of the archive; None where unknown.
        licence, attribution: as its makers state them.
        terms: where the licence's full text stands.
        inside: folders of the archive that hold the clips.
        masks: folder of the archive with a folder of edit masks for each clip; "" for none.
        count: number of clips; None where unknown.
        pairs: number of pairs of clip and prompt that its makers state; None where unknown.
        clips: names that must be there.
        prompts: clip -> what its result should show, and its source_prompt and negative_prompt.
        videos: clip -> url, sha256, bytes, source_prompt, licence, attribution and edits, each a
            prompt with its kind.
    """

    name: Annotated[str, Field(pattern=r"^[\w][\w.-]{0,60}$")]
    licence: str
    attribution: str
    layout: Literal["folders", "tgve", "v2vbench", "five", "videos"] = "folders"
    url: str | None = None
    by_hand: str | None = None
    sha256: Annotated[str, Field(pattern=_HEX)] | None = None
    bytes: Annotated[int, Field(ge=1)] | None = None
    terms: str = ""
    inside: tuple[str, ...] = (".",)
    masks: str = ""
    count: int | None = None
    pairs: int | None = None
    clips: tuple[str, ...] = ()
    prompts: Mapping[str, Mapping[str, str]] = field(default_factory=dict)
    videos: Mapping[Annotated[str, Field(pattern=r"^\w[\w.-]{0,80}$")], Mapping[str, Any]] = field(
        default_factory=dict
    )

    def __post_init__(self) -> None:
        if (self.layout == "videos") != bool(self.videos):
            raise ConfigError("videos", "go with layout: videos, and no other", "give both or none")
        for name, said in self.videos.items():
            for key in said:
                if key not in _OF_VIDEO:
                    known = f"known are {', '.join(_OF_VIDEO)}"
                    raise ConfigError(f"videos.{name}", f"says {key!r}", known)
            if not isinstance(said.get("url"), str):
                raise ConfigError(f"videos.{name}.url", "is missing", "give the video's address")


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
