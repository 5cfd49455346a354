"""Pictures with the statistics of natural ones, and what a style is on any picture.

Dead leaves (Lee, Mumford and Huang 2001): shapes that occlude each other, their sizes by a power
law; textures whose amplitude spectrum is 1/f; soft shading. Nothing in them has a name.
"""

# mypy: disable-error-code="no-any-return"
# (numpy types most arithmetic of float32 arrays and numbers as Any)

from __future__ import annotations

from functools import cache

import cv2
import numpy as np

from rerender.demo.sprites import Array
from rerender.demo.styles import Surface
from training.variation import PLAIN, StyleVariation

BLUR, LOW, HIGH = 1.2, 25, 60  # the demo model's Canny: sigma in pixels, thresholds of cv2.Canny
_FAR, _FARTHEST = 1e6, 900.0  # depth of a background, and the most of what is in front
_FIELDS, _FIELD = 24, 512  # how many textures a process keeps, and their side in pixels
# How much of a picture is painted as sprites are; the rest as backgrounds are. Without a word that
# says which is which, gold is gold everywhere and tints are between those of the two.
_FRONT = {"gold statue": 1.0, "mosaic": 0.4, "pixel art": 0.4}


def edge_map(picture: Array) -> Array:
    """Canny edges ``[H,W]``, 0 or 255, of a picture ``[H,W,3]`` in 0..1."""
    pixels = (np.clip(picture, 0, 1) * 255).round().astype(np.uint8)
    grey = cv2.GaussianBlur(cv2.cvtColor(pixels, cv2.COLOR_RGB2GRAY), (0, 0), BLUR)
    return cv2.Canny(grey, LOW, HIGH)


def restyled(picture: Array, style: str, variation: StyleVariation = PLAIN) -> Array:
    """A picture in a style of the demo world.

    The styles are functions of a surface (``rerender/demo/styles.py``). Here the surface is the
    whole picture: own coordinates are pixels from its centre, depth is twice the distance to the
    nearest edge (an edge has two sides, an outline one), and the colours are the picture's, a
    little smoothed.

    Args:
        picture: ``[H,W,3]`` float32 RGB in 0..1.
        style: one of the eight; "photo" is the picture itself.
        variation: hue, angle and phase of the whole picture.

    Returns:
        ``[H,W,3]`` in 0..1.
    """
    if style == "photo":
        return variation.tinted(picture)
    height, width = picture.shape[:2]
    y, x = np.mgrid[:height, :width].astype(np.float32)
    u, v = x - np.float32((width - 1) / 2), y - np.float32((height - 1) / 2)
    smooth = cv2.bilateralFilter(picture, 5, 0.12, 2.0)

    def albedo(u: Array, v: Array) -> Array:
        across = (u + np.float32((width - 1) / 2)).astype(np.float32)
        along = (v + np.float32((height - 1) / 2)).astype(np.float32)
        return cv2.remap(smooth, across, along, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REFLECT_101)

    near = cv2.distanceTransform(255 - edge_map(picture), cv2.DIST_L2, 5)
    near = np.minimum(near, _FARTHEST / 2)  # without an edge it is the largest of all numbers
    painter = variation.painter
    front = painter(style, Surface(u, v, 2 * near, albedo))
    part = np.float32(_FRONT.get(style, 1.0))
    if part < 1:
        behind = painter(style, Surface(u, v, np.full_like(u, _FAR), albedo))
        front = behind + part * (front - behind)
    return variation.tinted(front)


def drawn(rng: np.random.Generator, side: int) -> Array:
    """A picture ``[side,side,3]`` in 0..1 with the statistics of a natural one.

    Shapes with a power law of radii, p(r) ~ r^-a, cover each other from back to front; each has a
    colour, a slope or a roundness of its shading and a texture. Their outlines are bent together.
    What is far behind may be out of focus, and one light falls on all of it.
    """
    labels, table = _leaves(rng, side)
    y, x = (np.mgrid[:side, :side] / np.float32(side)).astype(np.float32)
    bend = rng.uniform(0, 0.05) * side
    labels = cv2.remap(
        labels,
        (x * side + bend * _field(rng, side)).astype(np.float32),
        (y * side + bend * _field(rng, side)).astype(np.float32),
        cv2.INTER_NEAREST,
        borderMode=cv2.BORDER_REFLECT_101,
    ).astype(np.int64)
    own = table[labels]  # red, green, blue, centre, radius, slopes, roundness, texture
    dx, dy = (x - own[..., 3]) / own[..., 5], (y - own[..., 4]) / own[..., 5]
    shade = own[..., 6] * dx + own[..., 7] * dy - own[..., 8] * np.minimum(dx * dx + dy * dy, 2)
    grain = own[..., 9] * _field(rng, side)
    image = own[..., :3] * np.exp(shade + grain)[..., None]
    if rng.random() < 0.5:
        image = image * np.exp(rng.uniform(0, 0.4) * _field(rng, side))[..., None]
    if rng.random() < 0.4:
        depth = (labels < rng.integers(1, len(table) + 1)).astype(np.float32)
        far = cv2.GaussianBlur(depth, (0, 0), 1.0)[..., None]
        image += far * (cv2.GaussianBlur(image, (0, 0), rng.uniform(1.5, 6) * side / 128) - image)
    image = cv2.GaussianBlur(np.clip(image, 0, 1), (0, 0), rng.uniform(0.5, 1.1))
    return np.clip(image ** np.float32(rng.uniform(0.7, 1.4)), 0, 1).astype(np.float32)


def _leaves(rng: np.random.Generator, side: int) -> tuple[Array, Array]:
    """Which shape is on top ``[side,side]``, and each shape's colour and shading ``[N,10]``."""
    count = int(rng.choice([6, 16, 40, 110, 220], p=[0.15, 0.25, 0.3, 0.2, 0.1]))
    least, most = rng.uniform(0.015, 0.08), rng.uniform(0.25, 0.6)
    power = rng.uniform(1.2, 3.0) - 1
    portion = rng.random(count)
    radii = (least**-power - portion * (least**-power - most**-power)) ** (-1 / power)
    radii = -np.sort(-radii) if rng.random() < 0.5 else radii
    spread = rng.uniform(0.15, 0.5)
    centres = np.clip(0.5 + spread * rng.standard_normal((count, 2)), -0.1, 1.1)
    labels = np.zeros((side, side), np.float32)
    for number, (radius, centre) in enumerate(zip(radii, centres, strict=True), 1):
        points = _outline(rng, radius * side) + centre * side
        cv2.fillPoly(labels, [(points * 16).round().astype(np.int32)], float(number), shift=4)
    scheme = rng.uniform(0.05, 0.85, 3)  # colours of one picture are related
    near = rng.uniform(0.15, 0.6)
    hues = np.clip(scheme + near * rng.standard_normal((count + 1, 3)), 0, 1)
    grey = hues.mean(1, keepdims=True)
    colours = np.clip(grey + rng.uniform(0.15, 0.8) * (hues - grey), 0.02, 1)
    table = np.concatenate(
        [
            colours,
            np.concatenate([[[0.5, 0.5]], centres]),
            np.concatenate([[1.0], radii])[:, None],
            rng.uniform(0, 0.35) * rng.standard_normal((count + 1, 2)),
            rng.uniform(0, 0.5) * rng.random((count + 1, 1)),
            rng.uniform(0, 0.35) * rng.random((count + 1, 1)) ** 2,
        ],
        1,
    )
    return labels, table.astype(np.float32)


def _outline(rng: np.random.Generator, radius: float) -> Array:
    """Points ``[P,2]`` of an ellipse, a polygon, a rounded blob or a bar round the origin."""
    kind = rng.integers(4)
    corners = int(rng.integers(3, 7)) if kind == 1 else 28
    turn = rng.uniform(0, 2 * np.pi)
    angle = turn + np.arange(corners) * (2 * np.pi / corners)
    reach = np.full(corners, radius)
    if kind == 2:
        for wave in (2, 3, 5):
            reach = reach * (1 + 0.25 * rng.random() * np.sin(wave * angle + rng.uniform(0, 7)))
    flat = rng.uniform(0.08, 0.25) if kind == 3 else rng.uniform(0.4, 1)
    along, across = reach * np.cos(angle - turn), flat * reach * np.sin(angle - turn)
    cos, sin = np.cos(turn), np.sin(turn)
    return np.stack([along * cos - across * sin, along * sin + across * cos], 1)


def _field(rng: np.random.Generator, side: int) -> Array:
    """A part ``[side,side]`` of a texture with an amplitude spectrum of f^-a, a of 0.9 to 1.8."""
    field = _fields()[int(rng.integers(_FIELDS))]
    top, left = rng.integers(0, _FIELD - side + 1, 2)
    part = field[top : top + side, left : left + side]
    return part[:: rng.choice([-1, 1])].T if rng.random() < 0.5 else part


@cache
def _fields() -> Array:
    """The textures ``[N,S,S]``, of unit deviation."""
    rng = np.random.default_rng(0)
    f = np.hypot(np.fft.fftfreq(_FIELD)[:, None], np.fft.rfftfreq(_FIELD)[None])
    f[0, 0] = np.inf
    made = []
    for _ in range(_FIELDS):
        white = np.fft.rfft2(rng.standard_normal((_FIELD, _FIELD)))
        field = np.fft.irfft2(white * f ** -rng.uniform(0.9, 1.8), (_FIELD, _FIELD))
        made.append(field / field.std())
    return np.stack(made).astype(np.float32)
