"""A region given as pictures: of every frame, or of some, from which flow carries it on."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain, islice, pairwise
from pathlib import Path
from typing import Annotated, Literal

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import Field
from torch import Tensor

from rerender.codec import SUFFIXES, open_video
from rerender.contracts import FlowEstimator, Mask
from rerender.data import picture
from rerender.data.names import frame_numbers, is_picture, listed, pictures_of
from rerender.errors import ConfigError, InputError
from rerender.fitting import resize, shown, to_output
from rerender.flow._sample import sample
from rerender.propagation.motion.chain import LiveLinks, follow
from rerender.video import Video

REACH = 10
"""Frames after which a carried mask is what the next ones are looked up in: flow to a frame that is
far away fails, and every look-up blurs a little."""

SKEW = 0.02
"""Masks may be this much wider or narrower than the video."""

LOSS = 8 / 255
"""Masks so near to black or white are black or white: compression has left them there."""

RIM = 1 / 360
"""Width of the soft rim as a share of the short side: so it is the same at every size."""

Plane = NDArray[np.float32]
Given = Mapping[int, Callable[[], Tensor]]
"""The masks that are given, read when they are asked for, by frame."""


@dataclass(frozen=True)
class MaskFile(Mask):
    """A region from a file; white is restyled, grey to its share, black not.

    A picture is the mask of one frame. A folder of pictures, or a video, with as many frames as the
    clip has one mask for each. A folder with fewer pictures has those of the frames that their
    names say. Between given frames a mask is carried along flow from both sides and cross-faded,
    before the first and after the last from one side.

    Attributes:
        path: the picture, the folder or the video.
        frame: the frame that a single picture belongs to.
        keep: where the result shows the source, to the level: outside of the region, inside of it,
            or nowhere.
        feather: width of the soft rim in pixels of the result; it lies on the restyled side. None
            is 1/360 of the short side of the result, 3 pixels at 1080p.
        rest_strength: as of `Mask`, in 0..1.
        rest_control: as of `Mask`, in 0..1.
    """

    path: Path
    frame: Annotated[int, Field(ge=0)] = 0
    keep: Literal["outside", "inside", "nothing"] = "outside"
    feather: Annotated[float, Field(ge=0, le=500)] | None = None
    rest_strength: Annotated[float, Field(ge=0, le=1)] | None = None
    rest_control: Annotated[float, Field(ge=0, le=1)] = 1.0

    def check(self, video: Video) -> None:
        if self.keep == "nothing" and not self.regional:
            cure = "keep outside or inside, or set mask.rest_strength or mask.rest_control"
            raise ConfigError("mask.keep", "a mask that keeps nothing changes nothing", cure)
        for index, read in self._given(video).items():
            found = read().shape[-2:]
            height, width = video.output_size
            if abs(found[1] * height / (found[0] * width) - 1) > SKEW:
                problem = f"the mask of frame {index} is {found[1]}x{found[0]}, the video is "
                raise InputError(self.path, f"{problem}{width}x{height}", "give both one shape")

    def repainted(self, region: Tensor) -> Tensor:
        return 1 - region if self.keep == "inside" else region

    def regions(self, video: Video, flow: FlowEstimator) -> Iterator[Tensor]:
        given = self._given(video)

        def mask(index: int) -> Plane:
            return np.ascontiguousarray(resize(given[index](), video.size)[0].numpy())

        frames = sorted(given)
        before = _carried(video, flow, frames[0], mask(frames[0]), range(frames[0] - 1, -1, -1))
        planes: Iterable[Plane] = [_open(small) for small in [_shut(p) for p in before][::-1]]
        for left, right in pairwise(frames):
            planes = chain(planes, _between(video, flow, left, right, mask))
        last = range(frames[-1] + 1, len(video))
        planes = chain(
            planes, [mask(frames[-1])], _carried(video, flow, frames[-1], mask(frames[-1]), last)
        )
        return (torch.from_numpy(plane)[None] for plane in planes)

    def composite(
        self, frames: Iterable[Tensor], video: Video, flow: FlowEstimator, first: int = 0
    ) -> Iterator[Tensor]:
        if self.keep == "nothing":
            yield from frames
            return
        source = shown(video)
        regions = islice(self.regions(source, flow), first, None)
        for index, (image, region) in enumerate(zip(frames, regions, strict=True), first):
            weight = rim(region if self.keep == "outside" else 1 - region, self.feather)
            kept = source[index]
            made = to_output(image.detach().float().cpu(), video)
            # Exactly the source where the weight is 0: nothing is added to it there.
            yield torch.where(weight > 0, kept + weight * (made - kept), kept)

    def _given(self, video: Video) -> Given:
        if self.path.is_dir():
            return self._folder(video)
        if self.path.suffix.lower() in SUFFIXES:
            film = open_video(self.path)
            if len(film) != len(video):
                problem = f"has {len(film)} frames, the clip has {len(video)}"
                raise InputError(self.path, problem, "give a mask for each frame of the clip")
            return {index: _reader(film.__getitem__, index) for index in range(len(film))}
        self._require(self.frame, len(video), "mask.frame")
        return {self.frame: _reader(_read, self.path)}

    def _folder(self, video: Video) -> Given:
        paths = [path for path in listed(self.path) if is_picture(path)]
        if not paths:
            raise InputError(self.path, "holds no pictures", "put masks there")
        if len(paths) == len(video):
            paths = pictures_of(self.path)
            return {index: _reader(_read, path) for index, path in enumerate(paths)}
        named = frame_numbers(paths)
        for index in named:
            self._require(index, len(video), named[index].name)
        return {index: _reader(_read, path) for index, path in named.items()}

    def _require(self, index: int, length: int, where: str) -> None:
        if index >= length:
            problem = f"{where}: is of frame {index}, the clip has frames 0 to {length - 1}"
            raise InputError(self.path, problem, "name a frame of the clip")


def rim(region: Tensor, feather: float | None) -> Tensor:
    """The share of the result in every pixel ``[1,H,W]``: 0 where the region is 0, the region
    further in than ``feather`` pixels from there, rising in proportion to the distance in between.
    ``feather`` None is `RIM` of the short side.

    It is 0 in all four pixels of a block that share one sample of chroma in 4:2:0 if it is 0 in one
    of them, so that no sample mixes what is kept with what is not.
    """
    plane = region[0].clamp(0, 1).numpy()
    height, width = plane.shape
    feather = RIM * min(height, width) if feather is None else feather
    even = np.pad(plane, ((0, height % 2), (0, width % 2)), mode="edge")
    blocks = even.reshape(even.shape[0] // 2, 2, even.shape[1] // 2, 2)
    inside = (blocks > 0.5 / 255).all((1, 3)).repeat(2, 0).repeat(2, 1)
    weight = np.where(inside, even, 0)
    if feather > 0 and not inside.all():
        distance = cv2.distanceTransform(inside.astype(np.uint8), cv2.DIST_L2, 5)
        weight = weight * np.clip(distance / np.float32(feather + 1), 0, 1)
    return torch.from_numpy(weight[:height, :width].astype(np.float32))[None]


def _reader(read: Callable[..., Tensor], what: object) -> Callable[[], Tensor]:
    """Reads one mask ``[1,H,W]``; what is nearly black or white is so, as of lossy pictures."""

    def mask() -> Tensor:
        grey = read(what).mean(0, keepdim=True)
        return ((grey - LOSS) / (1 - 2 * LOSS)).clamp(0, 1)

    return mask


def _read(path: Path) -> Tensor:
    return picture.read(path).image


def _between(
    video: Video, flow: FlowEstimator, left: int, right: int, mask: Callable[[int], Plane]
) -> Iterator[Plane]:
    """The masks from a given one up to, not including, the next given one."""
    yield mask(left)
    inner = range(left + 1, right)
    if not inner:
        return
    later = [_shut(p) for p in _carried(video, flow, right, mask(right), inner[::-1])][::-1]
    earlier = _carried(video, flow, left, mask(left), inner)
    for index, one, other in zip(inner, earlier, later, strict=True):
        time = np.float32((index - left) / (right - left))
        yield _hardened((1 - time) * one + time * _open(other))


def _carried(
    video: Video, flow: FlowEstimator, key: int, mask: Plane, frames: Sequence[int]
) -> Iterator[Plane]:
    """A mask carried from frame ``key`` to frames that lead away from it one by one."""
    links = LiveLinks(video, flow.rough(), seen=False)
    for start in range(0, len(frames), REACH):
        group, plane = frames[start : start + REACH], mask
        for step in follow(video, key, group, links, flow):
            plane = sample(mask, step.motion.offset)
            yield _hardened(plane)
        key, mask = group[-1], plane


def _hardened(plane: Plane) -> Plane:
    """A carried mask with the edge that look-ups have blurred made as steep as one pixel."""
    sharp: Plane = np.clip((plane - 0.5) * 4 + 0.5, 0, 1)
    return sharp


def _shut(plane: Plane) -> NDArray[np.uint8]:
    return np.rint(plane * 255).astype(np.uint8)


def _open(plane: NDArray[np.uint8]) -> Plane:
    opened: Plane = plane.astype(np.float32) / np.float32(255)
    return opened
