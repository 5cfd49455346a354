"""The clips and looks that propagation is measured on: one interval of K = 10 each.

"Truth" is a per-frame filter: every frame of the source gets its look on its own, so that what a
propagation makes of the two key frames can be compared with it. The looks are rough stand-ins for
diffusion: key frames agree with each other far better than diffusion's do, which flatters plain
warping. `disagreeing` is the other extreme.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
from numpy.typing import NDArray

from rerender.video import Frame, MemoryVideo, Segment

Picture = NDArray[np.uint8]
"""``[H,W,3]``, BGR, 8 bit."""

INTERVAL = 10


@dataclass(frozen=True)
class Source:
    """Where one interval of frames comes from.

    Attributes:
        start: first frame, of 11.
        size: (width, height) it is resized to.
        stride: every so-manieth frame of the file.
    """

    pattern: str
    start: int
    size: tuple[int, int]
    stride: int = 1


SOURCES: Mapping[str, Source] = {
    "kool": Source("*koolshooters*.mp4", 100, (384, 288)),
    "kool@3": Source("*koolshooters*.mp4", 100, (384, 288), stride=3),
    "kool@5": Source("*koolshooters*.mp4", 60, (384, 288), stride=5),
    "antoni": Source("*antoni*.mp4", 40, (288, 512)),
    "antoni@3": Source("*antoni*.mp4", 20, (288, 512), stride=3),
    "cotton": Source("*cottonbro*.mp4", 0, (512, 272)),
    "cotton@3": Source("*cottonbro*.mp4", 0, (512, 272), stride=3),
}


def read(folder: Path, source: Source) -> list[Picture]:
    """The frames of one interval, its two key frames included."""
    path = next(iter(sorted(folder.glob(source.pattern))), None)
    if path is None:
        raise SystemExit(f"{folder}: has no clip {source.pattern}; give the folder of the clips")
    capture, pictures = cv2.VideoCapture(str(path)), []
    for index in range(source.start + INTERVAL * source.stride + 1):
        found, picture = capture.read()
        if not found:
            raise SystemExit(f"{path}: ends at frame {index}; give the whole clip")
        if index >= source.start and (index - source.start) % source.stride == 0:
            pictures.append(cv2.resize(picture, source.size, interpolation=cv2.INTER_AREA))
    return pictures


def paint(picture: Picture) -> Picture:
    """Flat areas with thick edges, other colours, lighter: edges jump in time."""
    flat = cv2.stylization(picture, sigma_s=60, sigma_r=0.45).astype(np.float32) / 255
    mix = np.array([[0.65, 0.1, 0.15], [0.2, 0.6, 0.15], [0.4, 0.15, 0.6]], np.float32)
    return eight_bit(255 * np.clip(flat @ mix.T, 0, 1) ** np.float32(0.8))


def sketch(picture: Picture) -> Picture:
    """Coloured pencil strokes that change with every frame: chaotic."""
    _, coloured = cv2.pencilSketch(picture, sigma_s=60, sigma_r=0.07, shade_factor=0.05)
    return eight_bit(coloured)


LOOKS: Mapping[str, Callable[[Picture], Picture]] = {
    "ident": lambda picture: picture,
    "paint": paint,
    "sketch": sketch,
}


def eight_bit(values: NDArray[np.floating]) -> Picture:
    """Values in 0..255, rounded."""
    whole: Picture = np.clip(np.rint(values), 0, 255).astype(np.uint8)
    return whole


@dataclass(frozen=True)
class Case:
    """One interval to propagate over.

    Attributes:
        source: the source frames, 11 of them.
        truth: the same frames in their look; not always of whole levels.
        keys: the translated first and last frame.
    """

    name: str
    source: Sequence[Picture]
    truth: Sequence[NDArray[Any]]
    keys: tuple[Picture, Picture]

    def segment(self, left: bool = True, right: bool = True) -> Segment:
        """The nine frames between the key frames, filled from one or both."""
        video = MemoryVideo([tensor(picture) for picture in self.source])
        first = Frame(0, tensor(self.keys[0])) if left else None
        last = Frame(INTERVAL, tensor(self.keys[1])) if right else None
        return Segment(video, 1, INTERVAL, first, last)


def case(clip: str, look: str, folder: Path) -> Case:
    """A clip whose key frames agree."""
    source = read(folder, SOURCES[clip])
    truth = [LOOKS[look](picture) for picture in source]
    return Case(f"{clip} {look}", source, truth, (truth[0], truth[-1]))


def disagreeing(clip: str, folder: Path, look: str = "paint") -> Case:
    """A clip whose last key frame has a colour cast, and each key frame a texture of its own.

    Truth is the cross-fade of the two looks without texture: it can only be compared after a blur.
    It is not rounded: whole levels of a cast that grows by 0.6 to 1.4 levels a frame come in steps
    that are 0.4 off at the mean, which is what even a perfect propagation would be charged with.
    """
    plain = case(clip, look, folder)
    cast = np.array([14, -6, -12], np.float32)
    truth = [
        picture + (eight_bit(picture + cast).astype(np.float32) - picture) * (index / INTERVAL)
        for index, picture in enumerate(plain.truth)
    ]
    keys = (
        eight_bit(plain.truth[0] + grain(plain.truth[0].shape, seed=0)),
        eight_bit(plain.truth[-1] + cast + grain(plain.truth[-1].shape, seed=1)),
    )
    return Case(f"{clip} disagreeing", plain.source, truth, keys)


def grain(shape: tuple[int, ...], seed: int) -> NDArray[np.float32]:
    """A fine texture, the same in all channels, 10 levels of standard deviation."""
    noise = np.random.default_rng(seed).standard_normal(shape[:2]).astype(np.float32)
    fine = cv2.GaussianBlur(noise, (0, 0), 1.0)
    scaled: NDArray[np.float32] = (10 * fine / fine.std())[..., None]
    return scaled


def tensor(picture: Picture) -> torch.Tensor:
    """``[3,H,W]`` RGB in 0..1."""
    rgb = np.ascontiguousarray(picture[..., ::-1].transpose(2, 0, 1))
    return torch.from_numpy(rgb).float() / 255


def picture(image: torch.Tensor) -> Picture:
    """The inverse of `tensor`, rounded to 8 bit."""
    return eight_bit(255 * image.permute(1, 2, 0).numpy()[..., ::-1])
