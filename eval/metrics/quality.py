"""Image quality without a reference, by networks of pyiqa and weights on this machine."""

from __future__ import annotations

import contextlib
import importlib.util
import io
import logging
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any, ClassVar, Literal

import torch
from torch import Tensor

from eval.contracts import Batch, Curve, Gauge, Metric, Trial, UnavailableError
from eval.metrics.weights import digest
from rerender.errors import ConfigError, WeightsError
from rerender.kinds import LocalModel

# How pyiqa builds each network without fetching anything; weights are read here, not by pyiqa,
# which would run code that a file holds.
_NETWORKS: dict[str, dict[str, Any]] = {
    "musiq": {"pretrained": False},
    "cnniqa": {"pretrained": None},
    "niqe": {},
}


@dataclass(frozen=True, kw_only=True)
class Quality(Metric):
    """Mean over frames of an image's quality as people would rate it, without any reference.

    MUSIQ (Ke et al. 2021; VBench: imaging quality, over 100) about 0..100, higher is better;
    CNNIQA (Kang et al. 2014) about 0..1, higher; NIQE (Mittal et al. 2013, FiVE) about 0..100,
    lower. It knows nothing of the source or of time: read it with a metric of content and one of
    steadiness. The name is that of the network, and so is the direction.

    Attributes:
        network: musiq, cnniqa or niqe.
        weights: the network's file on this machine, as pyiqa publishes it: .pth, or .mat for niqe.
    """

    version: ClassVar[str] = "1"
    direction: ClassVar[Literal["lower", "higher"]] = "higher"

    network: Literal["musiq", "cnniqa", "niqe"] = "musiq"
    weights: LocalModel = ""

    def __post_init__(self) -> None:
        if self.network not in _NETWORKS:
            where, known = "metrics.quality_musiq.network", ", ".join(_NETWORKS)
            problem = f"must be one of {known}, received {self.network!r}"
            raise ConfigError(where, problem, "name one of them")
        if self.network == "niqe":
            object.__setattr__(self, "direction", "lower")

    @property
    def name(self) -> str:
        """quality_ and the network."""
        return f"{super().name}_{self.network}"

    def check(self, trial: Trial) -> None:
        if importlib.util.find_spec("pyiqa") is None:
            cure = "pip install -c constraints.txt -e '.[quality]'"
            raise UnavailableError(f"needs pyiqa, which is missing ({cure})")
        if not self.weights or not Path(self.weights).is_file():
            cure = f"get pyiqa's file of {self.network} and give weights=FILE"
            raise UnavailableError(f"weights not found ({self.weights or 'none given'}; {cure})")

    def note(self) -> str:
        return f"{self.network} {Path(self.weights).name} sha256:{digest(Path(self.weights))[:12]}"

    def open(self, trial: Trial) -> Gauge:
        network = load(self.network, Path(self.weights), trial.device)

        def gauge(batch: Batch) -> Curve:
            frames = batch.results.clamp(0, 1).to(trial.device)
            return [_rated(network, frame[None]) for frame in frames]

        return gauge


def _rated(network: Any, frame: Tensor) -> float | None:
    """One frame ``[1,3,H,W]`` at a time: networks of several scales take no batch of others."""
    return float(network(frame).flatten()[0].cpu())


@lru_cache(maxsize=1)
def load(name: str, weights: Path, device: str) -> Any:
    """A network of pyiqa with weights from a file, none of which is run.

    Raises:
        WeightsError: the file is not the network's.
    """
    pyiqa: Any = importlib.import_module("pyiqa")
    logging.getLogger("pyiqa").setLevel(logging.WARNING)
    settings = dict(_NETWORKS[name])
    if name == "niqe":
        settings["pretrained_model_path"] = str(weights)
    cure = f"give the file that pyiqa publishes for {name}"
    try:
        with contextlib.redirect_stdout(io.StringIO()):  # it prints what it loads
            metric = pyiqa.create_metric(name, device=torch.device(device), **settings)
        if name != "niqe":
            state = torch.load(weights, map_location="cpu", weights_only=True)
            state = state.get("params", state)
            bare = {key.removeprefix("module."): value for key, value in state.items()}
            metric.net.load_state_dict(bare, strict=True)
    except Exception as error:  # of several libraries, none of which names the file
        reason = " ".join(str(error).split())[:200] or type(error).__name__
        raise WeightsError(weights, f"cannot be read ({reason})", cure) from error
    return metric.eval()
