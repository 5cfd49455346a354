"""Networks whose features say how alike two pictures look: VGG-19, and the demo world's own."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from functools import cache, lru_cache, partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from rerender.errors import ConfigError, WeightsError
from rerender.flow._weights import State, digest, load

Features = Callable[[Tensor], Sequence[Tensor]]
"""``features(image [1,3,H,W] in 0..1)`` -> ``[1,C,h,w]`` for each layer asked for."""

DEMO = ("stage1", "stage2", "stage3", "stage4")
"""Stages of the demo network; a cell is 4, 8, 16 and 32 pixels wide."""

_CONVOLUTIONS = (2, 2, 4, 4, 4)
VGG19 = tuple(
    f"relu{block}_{number}"
    for block, count in enumerate(_CONVOLUTIONS, start=1)
    for number in range(1, count + 1)
)
"""Activations of VGG-19 (Simonyan & Zisserman 2015, arXiv 1409.1556), as they are usually called; a
cell of block b is 2^(b-1) pixels wide."""

_MEAN, _STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)  # of the pictures it was trained on
CURE = (
    "give torchvision's vgg19-dcbb9e9d.pth "
    "(curl -LO https://download.pytorch.org/models/vgg19-dcbb9e9d.pth), or "
    "constraint.feature.weights=demo for clips of the demo world"
)


def check_vgg19(path: Path, sha256: str | None, key: str) -> None:
    """Refuse a file that is not the one whose digest is known.

    Args:
        path: the file.
        sha256: its digest or the beginning of it; None takes it from the file's name.
        key: of the digest in the configuration, for messages.

    Raises:
        ConfigError: ``sha256`` is not a digest, or nothing says one.
        WeightsError: the file is missing or another one.
    """
    named = re.search(r"-([0-9a-f]{8,64})\.\w+$", path.name)
    wanted = (sha256 or (named[1] if named else "")).lower()
    if not re.fullmatch(r"[0-9a-f]{8,64}", wanted):
        problem = f"needs 8 to 64 hex digits, received {sha256!r}"
        raise ConfigError(key, problem, f"say the sha256 of {path.name}")
    if not path.is_file():
        raise WeightsError(path, "there is no such file of VGG-19 weights", CURE)
    state = path.stat()
    found = _digest(path, state.st_mtime_ns, state.st_size)
    if not found.startswith(wanted):
        raise WeightsError(path, f"its sha256 is {found[:16]}, not {wanted[:16]}", CURE)


@cache
def _digest(path: Path, changed: int, size: int) -> str:
    return digest(path)


@lru_cache(maxsize=2)
def vgg19(path: Path, layers: tuple[str, ...], device: torch.device) -> Features:
    """Activations of VGG-19, computed no further than the last one asked for.

    Args:
        path: torchvision's file, or one with the same names.
        layers: of ``VGG19``.
        device: where to compute.

    Raises:
        WeightsError: the file is damaged or belongs to another network.
    """
    network = load(nn.ModuleList(_convolutions()), path, CURE, _convolutional).to(device)
    convolutions = dict(zip(VGG19, network, strict=True))
    mean, std = (torch.tensor(x, device=device).view(1, 3, 1, 1) for x in (_MEAN, _STD))
    last = max(VGG19.index(layer) for layer in layers)

    def features(image: Tensor) -> list[Tensor]:
        hidden, found = (image - mean) / std, dict[str, Tensor]()
        for name in VGG19[: last + 1]:
            if name.endswith("_1") and name != "relu1_1":
                hidden = nn.functional.max_pool2d(hidden, 2)
            hidden = found[name] = convolutions[name](hidden).relu()
        return [found[layer] for layer in layers]

    return features


def _convolutions() -> list[nn.Module]:
    widths = (64, 128, 256, 512, 512)
    made: list[nn.Module] = []
    inputs = 3
    for count, width in zip(_CONVOLUTIONS, widths, strict=True):
        for _ in range(count):
            made.append(nn.Conv2d(inputs, width, 3, padding=1))
            inputs = width
    return made


def _convolutional(state: State) -> Mapping[str, Tensor]:
    """The convolutions of torchvision's VGG-19, numbered from 0; its classifier is left out."""
    kept = {name: value for name, value in state.items() if name.startswith("features.")}
    places = list(dict.fromkeys(name.split(".")[1] for name in kept))
    return {
        f"{places.index(name.split('.')[1])}.{name.split('.')[2]}": value.float()
        for name, value in kept.items()
    }


@lru_cache(maxsize=2)
def demo(layers: tuple[str, ...], device: torch.device) -> Features:
    """Stages of the small network that names the words of demo frames."""
    from rerender.demo import perceptual  # it takes seconds to import

    network = perceptual.load().requires_grad_(False).to(device)
    return partial(_stages, network, tuple(DEMO.index(layer) for layer in layers))


def _stages(network: Any, places: Sequence[int], image: Tensor) -> list[Tensor]:
    states = network.resnet(image * 2 - 1, output_hidden_states=True).hidden_states
    return [states[1 + place] for place in places]
