"""The files of a checkpoint: which ones are read, and what they say without being loaded."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from rerender.errors import WeightsError

INDEX = "model_index.json"
SCHEDULER = "scheduler/scheduler_config.json"
CONFIG = "config.json"
TOKENIZER = ("tokenizer_config.json", "tokenizer.json", "vocab.json", "merges.txt")
EXTRA = ("special_tokens_map.json", "added_tokens.json")
_AGAIN = "download or copy the folder again, complete"
_LONGEST_JSON = 256 << 20
_LONGEST_HEADER = 100_000_000  # the limit of the safetensors format


class Layout(NamedTuple):
    """What is read of a folder.

    Attributes:
        whole: whether it is a pipeline, with tokenizer and scheduler.
        networks: the networks and the folder of each in it.
    """

    whole: bool
    networks: dict[str, str]


SECOND = "text_encoder_2"  # of Stable Diffusion XL, with a tokenizer_2


class Weights(NamedTuple):
    """The weights of one network.

    Attributes:
        variant: what stands in their names between the stem and ``.safetensors``, such as "fp16";
            None for the plain ones.
        files: their names; for weights in several files the index and all of its shards.
    """

    variant: str | None
    files: tuple[str, ...]


def stem(network: str) -> str:
    """How the weights of a network are called: transformers and diffusers differ."""
    return "model" if network.startswith("text_encoder") else "diffusion_pytorch_model"


def weights_of(folder: Path, stem: str) -> Weights:
    """Which files hold a network's weights: the plain ones, or those of the only variant.

    Args:
        folder: of the network.
        stem: how they are called.

    Raises:
        WeightsError: there is none, or a shard is missing.
    """
    names = [path.name for path in sorted(folder.iterdir())] if folder.is_dir() else []
    variant, first = chosen(names, stem, folder)
    if not first.endswith(".json"):
        return Weights(variant, (first,))
    index = read(folder / first)
    shards = index.get("weight_map")
    if not isinstance(shards, dict) or not shards:
        raise WeightsError(folder / first, "lists no tensors (weight_map)", _AGAIN)
    files = sorted({str(name) for name in shards.values()})
    for name in files:
        if Path(name).name != name or not name.endswith(".safetensors"):
            raise WeightsError(folder / first, f"names no safetensors file: {name[:80]!r}", _AGAIN)
        need(folder, [name])
    return Weights(variant, (first, *files))


def chosen(names: Iterable[str], stem: str, folder: object) -> tuple[str | None, str]:
    """The variant that is read, and the file or index of its weights.

    Args:
        names: of all files beside the weights.
        stem: how they are called.
        folder: for messages.

    Raises:
        WeightsError: there is none, or no telling which.
    """
    found: dict[str | None, str] = {}
    for name in names:
        whole = name.endswith(".safetensors") and "-of-" not in name
        if name.startswith(f"{stem}.safetensors.") and name.endswith(".json"):
            # Both x.safetensors.index.fp16.json and x.safetensors.fp16.index.json are in use.
            parts = name.removeprefix(f"{stem}.safetensors.").split(".")[:-1]
            named = ".".join(part for part in parts if part != "index")
            found.setdefault(named or None, name)
        elif name.startswith(f"{stem}.") and whole:
            named = name.removeprefix(f"{stem}.").removesuffix("safetensors")
            found[named.strip(".") or None] = name
    for variant in (None, "fp16"):
        if variant in found:
            return variant, found[variant]
    if len(found) == 1:
        return next(iter(found.items()))
    if found:
        listed = ", ".join(sorted(found.values()))
        problem = f"holds several variants and no plain {stem}.safetensors: {listed}"
        raise WeightsError(folder, problem, "remove all but one")
    others = [name for name in names if name.endswith((".bin", ".ckpt", ".pt", ".pth", ".msgpack"))]
    pickled = f", only {others[0]} (pickled weights are not opened)" if others else ""
    raise WeightsError(
        folder,
        f"holds no {stem}.safetensors{pickled}",
        "convert the weights to safetensors" if others else _AGAIN,
    )


def need(folder: Path, names: Sequence[str]) -> None:
    """Refuse a folder that lacks a file.

    Raises:
        WeightsError: naming the first file that is missing.
    """
    for name in names:
        if not (folder / name).is_file():  # a pipe would be waited for
            raise WeightsError(folder / name, "is missing from the checkpoint", _AGAIN)


def read(file: Path) -> dict[str, Any]:
    """What a configuration file says.

    Raises:
        WeightsError: it is missing, is not JSON, or is no JSON object.
    """
    need(file.parent, [file.name])
    try:
        if file.stat().st_size > _LONGEST_JSON:
            raise ValueError(f"{file.stat().st_size} bytes are too many for a configuration")
        found = json.loads(file.read_text(encoding="utf-8-sig"))
    except (OSError, ValueError, RecursionError) as error:
        reason = " ".join(str(error).split())[:200] or type(error).__name__
        raise WeightsError(file, f"cannot be read as JSON ({reason})", _AGAIN) from error
    if not isinstance(found, dict):
        problem = f"must be a JSON object, received a {type(found).__name__}"
        raise WeightsError(file, problem, _AGAIN)
    return found


class StoredTensor(NamedTuple):
    """One tensor of a safetensors file.

    Attributes:
        dtype: as the format spells it, such as "F16".
        shape: its sizes.
        begin, end: its bytes, counted from the start of the file.
    """

    dtype: str
    shape: tuple[int, ...]
    begin: int
    end: int


class Header(NamedTuple):
    """What a safetensors file says of itself.

    Attributes:
        tensors: by name.
        metadata: free texts by name.
    """

    tensors: dict[str, StoredTensor]
    metadata: dict[str, str]


def header(file: Path) -> Header:
    """Read what a safetensors file says of itself, compared with its length; no weight is read.

    Raises:
        WeightsError: it is another kind of file, damaged or cut off.
    """
    try:
        if not file.is_file():
            raise WeightsError(file, "is not a plain file", _AGAIN)
        size = file.stat().st_size
        with file.open("rb") as opened:
            start = opened.read(8)
            length = int.from_bytes(start, "little")
            if len(start) < 8 or not 2 <= length <= min(size - 8, _LONGEST_HEADER):
                shown = start.decode("ascii", "replace") if start.isascii() else start.hex()
                problem = f"is not a whole safetensors file ({size} bytes, begins with {shown!r})"
                raise WeightsError(file, problem, "restore the file")
            said = json.loads(opened.read(length))
        metadata = {str(k): str(v) for k, v in (said.pop("__metadata__", None) or {}).items()}
        tensors = {name: _entry(value, 8 + length) for name, value in said.items()}
        end = max((each.end for each in tensors.values()), default=8 + length)
    except (OSError, ValueError, TypeError, KeyError, IndexError, AttributeError, RecursionError):
        raise WeightsError(file, "has a damaged safetensors header", "restore the file") from None
    if end != size:
        problem = f"is cut off or damaged: {size} bytes instead of {end}"
        raise WeightsError(file, problem, "restore the file")
    return Header(tensors, metadata)


def _entry(value: Any, data: int) -> StoredTensor:
    begin, end = (int(each) for each in value["data_offsets"])
    if not 0 <= begin <= end:
        raise ValueError("offsets run backwards")
    return StoredTensor(
        str(value["dtype"]), tuple(map(int, value["shape"])), data + begin, data + end
    )


def vocabulary(folder: Path) -> tuple[Mapping[str, int], Path]:
    """The numbers of a tokenizer's words, and the file that says them.

    Raises:
        WeightsError: a file is missing or damaged.
    """
    whole = folder / "tokenizer.json"
    if whole.is_file():
        content = read(whole)
        model, added = content.get("model"), content.get("added_tokens") or []
        said = model.get("vocab") if isinstance(model, dict) else None
        words = dict(said) if isinstance(said, dict) else {}
        tables = [each for each in added if isinstance(each, dict)]
        words |= {str(each.get("content")): each.get("id") for each in tables}
        file = whole
    else:
        file = folder / "vocab.json"
        need(folder, ["vocab.json", "merges.txt"])
        words = dict(read(file))
    if (folder / "added_tokens.json").is_file():
        words |= read(folder / "added_tokens.json")
    if not words or not all(type(number) is int and number >= 0 for number in words.values()):
        raise WeightsError(file, "holds no vocabulary (words with their numbers)", _AGAIN)
    return words, file
