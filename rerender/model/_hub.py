"""Checkpoints by hub id: taken from the cache; what is not there is asked for once, briefly.

Proxies, mirrors and tokens are those of huggingface_hub (``HTTPS_PROXY``, ``HF_ENDPOINT``,
``HF_TOKEN``), and so is ``HF_HUB_OFFLINE=1``, under which nothing is asked at all.
"""

from __future__ import annotations

import os
import re
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path
from typing import Any, Literal, NamedTuple

from rerender.errors import WeightsError
from rerender.model._files import (
    CONFIG,
    EXTRA,
    INDEX,
    SCHEDULER,
    SECOND,
    TOKENIZER,
    Layout,
    chosen,
    read,
    stem,
    weights_of,
)
from rerender.network import PATIENCE, Question, within

Fetching = Literal["nothing", "small", "all"]
"""Which files that the cache lacks to fetch: none, all but the weights, or all."""

AUTOENCODER = Layout(False, {"vae": ""})
UNET = Layout(False, {"unet": ""})
CONTROLNET = Layout(False, {"controlnet": ""})
_ABSENT = "no such folder, and not in the cache of Hugging Face"
_SLOWEST = 20e3  # bytes per second, below which a host that sends is given up
_WITHIN = 9.0  # seconds in which a hub must have answered for its list and for a first file
_ASKED: dict[str, Question[_Listing]] = {}


class _Listing(NamedTuple):
    """What a hub says of an id.

    Attributes:
        sizes: bytes of its files by name.
        first: whether it answers for one of them too; asked at once, while libraries load.
        patience: seconds that this answer may take.
    """

    sizes: dict[str, int]
    first: Question[None]
    patience: float


def whole(own_vae: bool, own_unet: bool = True) -> Layout:
    """What is read of a pipeline's folder, with its own autoencoder and UNet or without."""
    own = {"text_encoder": True, "vae": own_vae, "unet": own_unet}
    return Layout(True, {role: role for role, needed in own.items() if needed})


def place(name: str, layout: Layout, fetching: Fetching) -> Path:
    """The folder of a hub id in the cache, with what it lacked and was asked for.

    Args:
        name: the hub id.
        layout: what is read of it.
        fetching: which of the files that the cache lacks to fetch.

    Raises:
        WeightsError: it is no hub id, the hub cannot be reached within seconds, or lacks a file.
    """
    folder = cached(name)
    lacking = lacks(folder, layout) if folder else []
    if fetching == "nothing" or (folder and not lacking):
        return folder or Path(name)
    problem = f"its copy in the cache lacks {', '.join(lacking)}" if lacking else _ABSENT
    sizes = listed(name, problem)
    wanted = _wanted(name, list(sizes), layout)
    if fetching == "small":
        small = {file: sizes[file] for file in wanted if file.endswith((".json", ".txt"))}
        return _fetched_small(name, small, problem)
    return _fetched(name, wanted, problem)


def on_its_way(folder: Path, network: str) -> bool:
    """Whether the weights of a network are still on the hub: only folders of its cache may lack
    any."""
    from huggingface_hub import constants

    if folder.is_absolute() and folder.is_relative_to(constants.HF_HUB_CACHE):
        return bool(_lacked_weights(folder, network))
    return not folder.is_dir()


def revision(path: str) -> str | None:
    """The commit of a hub id that lies in the cache; None for anything else."""
    try:
        folder = cached(path)
    except WeightsError:
        return None
    return folder.name if folder else None


def lacks(folder: Path, layout: Layout) -> list[str]:
    """Names of the files that a folder lacks."""
    found = []
    if layout.whole:
        layout = _complete(layout, _has_second(folder))
        needed = [INDEX, SCHEDULER]
        for tokenizer in _tokenizers(layout):
            words = ["tokenizer.json"] if (folder / tokenizer / "tokenizer.json").exists() else []
            words = words or ["vocab.json", "merges.txt"]
            needed += [f"{tokenizer}/{name}" for name in (TOKENIZER[0], *words)]
        found += [name for name in needed if not (folder / name).exists()]
    for network, place in layout.networks.items():
        inside = f"{place}/" if place else ""
        if not (folder / place / CONFIG).exists():
            found.append(f"{inside}{CONFIG}")
        found += [f"{inside}{name}" for name in _lacked_weights(folder / place, network)]
    return found


def _complete(layout: Layout, second: bool) -> Layout:
    """The layout of a pipeline with its second text encoder, where it has one."""
    more = {SECOND: SECOND} if second else {}
    return Layout(layout.whole, {**layout.networks, **more})


def _tokenizers(layout: Layout) -> list[str]:
    encoders = [name for name in layout.networks if name.startswith("text_encoder")]
    return [name.replace("text_encoder", "tokenizer") for name in encoders]


def _has_second(folder: Path) -> bool:
    """Whether a pipeline's index names a second text encoder."""
    if (folder / SECOND / CONFIG).exists() or not (folder / INDEX).exists():
        return (folder / SECOND / CONFIG).exists()
    entry = read(folder / INDEX).get(SECOND)
    return isinstance(entry, list) and any(entry)


def _lacked_weights(folder: Path, network: str) -> list[str]:
    try:
        weights = weights_of(folder, stem(network))
    except WeightsError as error:
        inside = Path(error.where).parent == folder
        return [Path(error.where).name if inside else f"{stem(network)}.safetensors"]
    return [name for name in weights.files if not (folder / name).exists()]


def _wanted(name: str, names: Sequence[str], layout: Layout) -> list[str]:
    """Those files of a hub id that are read."""
    wanted = []
    if layout.whole:
        if not any(file.startswith("unet/") for file in names):
            return [INDEX]  # it says what this is, which is enough to refuse it
        layout = _complete(layout, f"{SECOND}/{CONFIG}" in names)
        wanted += [INDEX, SCHEDULER]
        wanted += [f"{t}/{each}" for t in _tokenizers(layout) for each in (*TOKENIZER, *EXTRA)]
    for network, place in layout.networks.items():
        inside = f"{place}/" if place else ""
        beside = [file.removeprefix(inside) for file in names if file.startswith(inside)]
        variant, first = chosen(beside, stem(network), f"{name}/{place}".rstrip("/"))
        files = [CONFIG, first]
        if first.endswith(".json"):
            parts = re.escape(f"{stem(network)}{f'.{variant}' if variant else ''}")
            files += [file for file in beside if re.fullmatch(rf"{parts}-\d+-of-.*", file)]
        wanted += [f"{inside}{file}" for file in files]
    return [file for file in wanted if file in names]


def cached(name: str) -> Path | None:
    """The folder of a hub id in the cache, complete or not; None where there is none.

    Raises:
        WeightsError: it is no hub id.
    """
    from huggingface_hub import constants
    from huggingface_hub.errors import HFValidationError
    from huggingface_hub.file_download import repo_folder_name
    from huggingface_hub.utils._validators import validate_repo_id

    try:
        validate_repo_id(name)
    except HFValidationError as error:
        raise WeightsError(
            name,
            "is neither a folder nor a hub id",
            "give a folder in diffusers layout, or a hub id such as owner/name",
        ) from error
    place = Path(constants.HF_HUB_CACHE, repo_folder_name(repo_id=name, repo_type="model"))
    snapshots = place / "snapshots"
    try:
        commit = (place / "refs" / "main").read_text(encoding="utf-8").strip()
    except (OSError, UnicodeDecodeError):
        with suppress(OSError):
            several = list(snapshots.iterdir())
            return several[0] if len(several) == 1 else None
        return None
    found = snapshots / commit
    return found if commit and found.is_dir() else None


def ask_ahead(name: str) -> None:
    """Begin to ask the hub for a hub id whose files the cache lacks, while libraries load: `place`
    waits for this answer."""
    from huggingface_hub import constants

    with suppress(WeightsError):
        if not constants.HF_HUB_OFFLINE and cached(name) is None and name not in _ASKED:
            _ASKED[name] = Question(partial(_list, name))


def listed(name: str, problem: str) -> dict[str, int]:
    """Names and sizes in bytes of all files that the hub has of a hub id.

    Args:
        name: the hub id.
        problem: what the cache lacks of it, for messages.

    Raises:
        WeightsError: the hub cannot be reached within seconds, or has no such checkpoint.
    """
    from huggingface_hub import constants

    if constants.HF_HUB_OFFLINE:
        said = " and ".join(
            f"{key}={value}"
            for key in ("HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE")
            if (value := os.environ.get(key))
        )
        raise _unavailable(name, problem, f"{said or 'HF_HUB_OFFLINE'} keeps the network out")
    question = _ASKED.pop(name, None) or Question(partial(_list, name))
    try:
        listing = question.answer(PATIENCE)
        listing.first.answer(listing.patience)
        return listing.sizes
    except Exception as error:  # of several libraries and the network
        raise _unavailable(name, problem, _reason(error)) from error


def _list(name: str) -> _Listing:
    from huggingface_hub import HfApi

    begun = time.monotonic()
    info = HfApi().model_info(name, timeout=PATIENCE, files_metadata=True)
    found = {str(file.rfilename): file.size or 0 for file in info.siblings or ()}
    left = min(PATIENCE, begun + _WITHIN - time.monotonic())
    return _Listing(dict(sorted(found.items())), Question(partial(_hear, name, [*found])), left)


def _hear(name: str, files: Sequence[str]) -> None:
    """Whether anything answers where files are, whatever it says, without the library's retries: a
    hub may list what its store of files, another host, does not give."""
    from huggingface_hub import get_session, hf_hub_url

    for file in files[:1]:
        get_session().head(hf_hub_url(name, file), timeout=PATIENCE)


def _fetched_small(name: str, sizes: Mapping[str, int], problem: str) -> Path:
    """Have some small files of a hub id in the cache; returns its folder there. A host that falls
    silent on the way is given up as one that never answered, without the library's retries."""
    from huggingface_hub import hf_hub_download

    folder = Path(name)
    with _unheard():
        for file, size in sizes.items():
            ask = partial(hf_hub_download, name, file, etag_timeout=PATIENCE, tqdm_class=_no_bar())
            try:
                found = Path(str(within(PATIENCE + size / _SLOWEST, ask)))
            except Exception as error:  # of several libraries and the network
                raise _unavailable(name, problem, _reason(error)) from error
            folder = found.parents[file.count("/")]
    return folder


@contextmanager
def _unheard() -> Iterator[None]:
    """What the library logs of each retry is not shown; how it ends is one line of ours."""
    from logging import ERROR

    from huggingface_hub.utils import logging

    before = logging.get_verbosity()
    logging.set_verbosity(ERROR)
    try:
        yield
    finally:
        logging.set_verbosity(before)


def _no_bar() -> Any:
    """A progress bar that is not shown."""
    from tqdm import tqdm

    return partial(tqdm, disable=True)


def _fetched(name: str, files: Sequence[str], problem: str) -> Path:
    """Have some files of a hub id in the cache; returns its folder there."""
    from huggingface_hub import snapshot_download

    try:
        return Path(snapshot_download(name, allow_patterns=list(files), etag_timeout=PATIENCE))
    except Exception as error:  # of several libraries and the network
        raise _unavailable(name, problem, _reason(error)) from error


def _reason(error: Exception) -> str:
    """Why the hub gave nothing, in a few words."""
    from huggingface_hub import errors

    if isinstance(error, errors.GatedRepoError):
        return "its licence must be accepted on the hub, and HF_TOKEN set"
    if isinstance(error, errors.RepositoryNotFoundError):
        return "there is no such model, or it is private"
    response: Any = getattr(error, "response", None)
    if response is not None:
        return f"the hub answers {response.status_code}"
    words = " ".join(str(error).split()) or type(error).__name__
    return f"the hub cannot be reached: {words[:120]}"


def _unavailable(name: str, problem: str, reason: str) -> WeightsError:
    return WeightsError(
        name,
        f"{problem} ({reason})",
        f"run once with a network: hf download {name}, or give a local folder",
    )
