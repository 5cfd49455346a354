"""Control maps of a picture that the model samples from the prompt, not of the source."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

from rerender.contracts import Control
from rerender.errors import ConfigError


@dataclass(frozen=True, kw_only=True)
class Imagined(Control):
    """The prompt is sampled once from pure noise, without any control; the map of that picture
    guides all key frames. So layout comes from the text, and what is kept of the source comes from
    where denoising starts (``sampling.strength``).

    Attributes:
        weight: strength of the ControlNet's residuals.
        start: first moment it acts, as a share of the steps.
        stop: first moment it does not act any more.
        detector: makes the map; its ControlNet is taken.
    """

    imagines: ClassVar[bool] = True

    detector: Control

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.detector.given:
            problem = "makes maps of pictures, received maps from a file"
            raise ConfigError("control.imagined.detector", problem, "name canny, hed or depth")
        if self.detector.imagines:
            problem = "makes maps of pictures, received another control that imagines"
            raise ConfigError("control.imagined.detector", problem, "name canny, hed or depth")

    @property
    def network(self) -> str:
        """The detector's."""
        return self.detector.network

    @property
    def on_device(self) -> bool:
        return self.detector.on_device

    def map(self, image: Tensor) -> Tensor:
        return self.detector.map(image)
