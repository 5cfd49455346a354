"""Relative depth by a pretrained network, near is light, as ControlNet's depth models expect."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, ClassVar

from torch import Tensor

from rerender.contracts import Control
from rerender.errors import WeightsError
from rerender.kinds import LocalModel


@dataclass(frozen=True, kw_only=True)
class Depth(Control):
    """Inverse depth, scaled to 0..1 within the frame.

    Attributes:
        weight: strength of the ControlNet's residuals.
        start: first moment it acts, as a share of the steps.
        stop: first moment it does not act any more.
        path: local folder of a depth-estimation model in transformers layout (DPT, Depth Anything).
    """

    costly: ClassVar[bool] = True

    path: LocalModel

    def __post_init__(self) -> None:
        super().__post_init__()
        if not (Path(self.path).expanduser() / "config.json").is_file():
            raise WeightsError(
                self.path or "control.depth.path",
                "no such folder of depth weights",
                "give a local folder of a depth-estimation model in transformers layout",
            )

    @property
    def on_device(self) -> bool:
        return True

    @cached_property
    def _network(self) -> Any:
        from rerender.model._depth import DepthNetwork

        return DepthNetwork(Path(self.path).expanduser())

    def map(self, image: Tensor) -> Tensor:
        depth: Tensor = self._network(image)
        low, high = depth.min(), depth.max()
        scaled = (depth - low) / (high - low).clamp_min(1e-12)
        return scaled.expand(3, -1, -1).clone()
