"""What no word names and all surfaces of one scene share: hue, angle and phase of a style."""

# mypy: disable-error-code="no-any-return"
# (numpy types most arithmetic of float32 arrays and numbers as Any)

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from rerender.demo.sprites import Array
from rerender.demo.styles import Surface, paint

# RGB to luminance and two chroma axes (YIQ), and back.
_TO_CHROMA = np.array(
    [[0.299, 0.587, 0.114], [0.5959, -0.2746, -0.3213], [0.2115, -0.5227, 0.3112]], np.float32
)
_TO_RGB = np.linalg.inv(_TO_CHROMA).astype(np.float32)


@dataclass(frozen=True)
class StyleVariation:
    """How a style is meant in one scene.

    Attributes:
        hue: turn of every colour round the grey axis, radians.
        angle: turn of a style's texture on its surface, radians.
        phase: shift of the texture along both axes, reference pixels.
    """

    hue: float = 0.0
    angle: float = 0.0
    phase: tuple[float, float] = (0.0, 0.0)

    @classmethod
    def drawn(cls, rng: np.random.Generator) -> StyleVariation:
        """Any angle and phase, and a hue up to a sixth of a turn away."""
        hue, angle = rng.uniform(-np.pi / 3, np.pi / 3), rng.uniform(-np.pi / 2, np.pi / 2)
        shift = rng.uniform(0, 64, 2)
        return cls(float(hue), float(angle), (float(shift[0]), float(shift[1])))

    def painter(self, style: str, surface: Surface) -> Array:
        """``paint`` with the texture turned and shifted; the colours stay where they are."""
        if not (self.angle or any(self.phase)):
            return paint(style, surface)
        cos, sin = np.float32(np.cos(self.angle)), np.float32(np.sin(self.angle))
        across, along = np.float32(self.phase[0]), np.float32(self.phase[1])
        u = surface.u * cos + surface.v * sin + across
        v = surface.v * cos - surface.u * sin + along

        def albedo(u: Array, v: Array) -> Array:
            a, b = u - across, v - along
            return surface.albedo(a * cos - b * sin, b * cos + a * sin)

        return paint(style, Surface(u, v, surface.depth, albedo))

    def tinted(self, image: Array) -> Array:
        """An image ``[...,3]`` with its hues turned, in 0..1."""
        if self.hue == 0:
            return image
        cos, sin = np.cos(self.hue), np.sin(self.hue)
        turn = np.array([[1, 0, 0], [0, cos, -sin], [0, sin, cos]], np.float32)
        matrix = (_TO_RGB @ turn @ _TO_CHROMA).astype(np.float32)
        return np.clip(image @ matrix.T, 0, 1).astype(np.float32)


PLAIN = StyleVariation()
