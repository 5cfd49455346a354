"""LPIPS through the lpips package, on backbones whose hash has been checked."""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any, ClassVar, Literal

import torch
from torch import Tensor

from eval.contracts import UnavailableError
from eval.metrics.perceptual import Maps, Perceptual
from eval.metrics.weights import digest
from rerender.errors import ConfigError

_FILES = {
    "alex": "alexnet-owt-7be5be79.pth",
    "vgg": "vgg16-397923af.pth",
    "squeeze": "squeezenet1_1-b8a52dc0.pth",
}


@dataclass(frozen=True, kw_only=True)
class Lpips(Perceptual):
    """Learned perceptual distance (Zhang et al. 2018), version 0.1 of its linear heads, from 0 up.

    ``d_l(p) = sum_c w_lc (a_lc(p) - b_lc(p))^2`` on features of unit length. The package takes any
    file for its backbone; ours must have the SHA-256 that its name promises, and is never random.

    Attributes:
        net: backbone: alex (the authors' choice for comparing), vgg or squeeze.
    """

    version: ClassVar[str] = "2"

    net: Literal["alex", "vgg", "squeeze"] = "alex"

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.net not in _FILES:
            raise ConfigError(
                "metrics.lpips.net",
                f"must be one of {', '.join(_FILES)}, received {self.net!r}",
                "name one of them",
            )

    def find(self) -> None:
        file = self._file()
        if not file.is_file():
            url = f"https://download.pytorch.org/models/{file.name}"
            raise UnavailableError(f"weights not found ({file}; download {url} to there)")
        wanted, found = file.stem.rpartition("-")[2], digest(file)
        if not found.startswith(wanted):
            raise UnavailableError(
                f"weights damaged ({file}: sha256 {found[:8]} instead of {wanted}; remove it and"
                " download it again)"
            )

    def note(self) -> str:
        return f"lpips {self.net} sha256:{digest(self._file())[:12]}"

    def maps(self, device: str) -> Maps:
        network = load(self.net, device)
        return lambda a, b: difference_maps(network, a, b)

    def _file(self) -> Path:
        return Path(torch.hub.get_dir(), "checkpoints", _FILES[self.net])


@lru_cache(maxsize=1)
def load(net: str, device: str) -> Any:
    """The package's network; its backbone's file has been checked before."""
    import lpips

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # it asks torchvision in a way that is going out
        return lpips.LPIPS(net=net, verbose=False).eval().to(device)


def difference_maps(network: Any, a: Tensor, b: Tensor) -> list[Tensor]:
    """``[B,1,h,w]`` for each layer: the package's distance before it averages over pixels."""
    from lpips import normalize_tensor

    there, here = (network.net(network.scaling_layer(image * 2 - 1)) for image in (a, b))
    return [
        network.lins[layer].model((normalize_tensor(x) - normalize_tensor(y)).square())
        for layer, (x, y) in enumerate(zip(there, here, strict=True))
    ]
