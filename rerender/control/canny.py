"""Edges by Canny's detector (Canny 1986), as ControlNet's canny models expect them."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import torch
from torch import Tensor

from rerender.contracts import Control
from rerender.errors import ConfigError


@dataclass(frozen=True, kw_only=True)
class Canny(Control):
    """Binary edges of the 8-bit image.

    Attributes:
        weight: strength of the ControlNet's residuals.
        start: first moment it acts, as a share of the steps.
        stop: first moment it does not act any more.
        low: gradient below which there is no edge, 0..255 scale.
        high: gradient above which there is always an edge.
        blur: standard deviation in pixels of a Gaussian applied first; 0 for none.
    """

    low: float = 100.0
    high: float = 200.0
    blur: float = 0.0

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 0 <= self.low <= self.high or self.blur < 0:
            raise ConfigError(
                "control.canny",
                f"needs 0 <= low <= high and blur >= 0, received {self.low}, {self.high}, "
                f"{self.blur}",
                "50 and 100, or 100 and 200, are usual",
            )

    def map(self, image: Tensor) -> Tensor:
        pixels = image.clamp(0, 1).mul_(255).round_().to(torch.uint8).permute(1, 2, 0)
        gray = cv2.cvtColor(pixels.contiguous().cpu().numpy(), cv2.COLOR_RGB2GRAY)
        if self.blur:
            gray = cv2.GaussianBlur(gray, (0, 0), self.blur)
        edges = torch.from_numpy(cv2.Canny(gray, self.low, self.high)).float() / 255
        return edges.expand(3, -1, -1).clone()
