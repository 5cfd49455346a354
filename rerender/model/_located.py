"""The parts of a checkpoint and where each lies: in folders of diffusers, or in single files."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from rerender.model._files import (
    CONFIG,
    EXTRA,
    INDEX,
    SCHEDULER,
    SECOND,
    TOKENIZER,
    read,
    stem,
    weights_of,
)


@dataclass(frozen=True)
class NetworkFiles:
    """One network of a checkpoint.

    Attributes:
        role: unet, vae, text_encoder, text_encoder_2 or controlnet.
        folder: where its config.json lies.
        single: a safetensors file that holds its weights, in the names of diffusers or of the
            original programs; None where they lie beside config.json.
        derived: its configuration, where a single file is all there is; None reads config.json.
        control: of a ControlNet, the name of its control.
    """

    role: str
    folder: Path
    single: Path | None = None
    derived: Mapping[str, Any] | None = None
    control: str = ""

    @property
    def file(self) -> Path:
        """Where its configuration stands, for messages."""
        return self.single if self.single and self.derived is not None else self.folder / CONFIG

    def config(self) -> Mapping[str, Any]:
        """Its configuration.

        Raises:
            WeightsError: its file is missing or damaged.
        """
        return read(self.folder / CONFIG) if self.derived is None else self.derived

    def files(self) -> list[Path]:
        """The safetensors files of its weights, and their index where they are in shards.

        Raises:
            WeightsError: one of them is missing.
        """
        if self.single is not None:
            return [self.single]
        return [self.folder / name for name in weights_of(self.folder, stem(self.role)).files]


class TokenizerFiles(NamedTuple):
    """A tokenizer: the folder of its settings and that of its words, which are usually one."""

    folder: Path
    words: Path


@dataclass(frozen=True)
class Located:
    """A whole checkpoint.

    Attributes:
        base: the folder of model_index.json and the scheduler.
        changes: of the scheduler's configuration, key by key.
        tokenizers: one for each text encoder.
        text_encoders: one, or two in Stable Diffusion XL.
        vae: the autoencoder.
        unet: the denoising network.
        controlnets: one for each control.
        own_vae: whether the autoencoder is the checkpoint's own.
    """

    base: Path
    changes: Mapping[str, Any]
    tokenizers: tuple[TokenizerFiles, ...]
    text_encoders: tuple[NetworkFiles, ...]
    vae: NetworkFiles
    unet: NetworkFiles
    controlnets: tuple[NetworkFiles, ...] = ()
    own_vae: bool = True

    @property
    def scheduler_file(self) -> Path:
        """Where the scheduler's configuration stands."""
        return self.base / SCHEDULER

    def scheduler(self) -> dict[str, Any]:
        """The scheduler's configuration with the changes."""
        return {**read(self.scheduler_file), **self.changes}

    def networks(self) -> Iterator[NetworkFiles]:
        """Every network, one after the other."""
        yield from (*self.text_encoders, self.vae, self.unet)
        yield from (n for i, n in enumerate(self.controlnets) if n not in self.controlnets[:i])

    def files(self) -> list[Path]:
        """All files that decide what the checkpoint computes, in order.

        Raises:
            WeightsError: weights are missing.
        """
        found = [self.base / INDEX, self.scheduler_file]
        for tokenizer in self.tokenizers:
            places = dict.fromkeys(tokenizer)
            found += [folder / name for folder in places for name in (*TOKENIZER, *EXTRA)]
        for network in self.networks():
            if network.derived is None:
                found.append(network.folder / CONFIG)
            found += network.files()
        return list(dict.fromkeys(path for path in found if path.is_file()))


def in_folder(base: Path, single: Path | None = None, words: Path | None = None) -> Located:
    """The parts of a folder in diffusers layout, without ControlNets.

    Args:
        base: the folder.
        single: a file that holds all weights, for which the folder only says how it is built.
        words: where the words of all tokenizers lie, if not in the folder.
    """
    second = (base / SECOND / CONFIG).is_file()
    roles = ("text_encoder", SECOND) if second else ("text_encoder",)
    folders = [base / role.replace("text_encoder", "tokenizer") for role in roles]
    return Located(
        base=base,
        changes={},
        tokenizers=tuple(TokenizerFiles(folder, words or folder) for folder in folders),
        text_encoders=tuple(NetworkFiles(role, base / role, single) for role in roles),
        vae=NetworkFiles("vae", base / "vae", single),
        unet=NetworkFiles("unet", base / "unet", single),
    )
