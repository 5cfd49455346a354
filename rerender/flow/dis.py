"""Dense inverse search (DIS) flow: fast, on the CPU, no weights."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, Literal

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from rerender.compiled import reassociated
from rerender.contracts import FlowEstimator
from rerender.flow._sample import sample
from rerender.flow.field import Flow
from rerender.video import Frame

Preset = Literal["ultrafast", "fast", "fine", "medium"]

SMALLEST = 16
"""Side in pixels below which DIS has no pyramid level to start from; smaller images are padded."""


@dataclass(frozen=True)
class Dis(FlowEstimator):
    """Kroeger et al., "Fast Optical Flow using Dense Inverse Search", ECCV 2016, by OpenCV.

    Attributes:
        preset: the trade of time for quality: 1, 1.5, 4 or 8 ms at 384x288.
        led: the preset where a first guess is given.
        chain: the preset for neighbouring frames that are only links of a longer chain.
    """

    preset: Preset = "medium"
    led: Preset = "fine"
    chain: Preset = "ultrafast"

    def rough(self) -> Dis:
        return replace(self, preset=self.chain, led=self.chain)

    def offset(self, target: Frame, source: Frame, start: Tensor | None = None) -> Tensor:
        looking, looked_at = gray(target.image), gray(source.image)
        guess = None if start is None else hwc(start)
        preset = self.preset if guess is None else self.led
        found = dense_inverse_search(looking, looked_at, guess, preset)
        return torch.from_numpy(found).permute(2, 0, 1)[None].to(target.image.device)

    def offsets(self, first: Frame, second: Frame) -> tuple[Tensor, Tensor]:
        return self.offset(first, second), self.offset(second, first)

    def pair(self, first: Frame, second: Frame) -> tuple[Flow, Flow]:
        there, back = (hwc(offset) for offset in self.offsets(first, second))
        device = first.image.device
        return flow_of(there, back, device), flow_of(back, there, device)


def flow_of(there: NDArray[np.float32], back: NDArray[np.float32], device: torch.device) -> Flow:
    """A flow with the occlusion that `rerender.flow.field.occlusion` finds, but faster."""
    returned = there + sample(back, there, border=0.0)
    bound = 0.01 * (length(there) + length(back)) + 0.5
    occluded = (length(returned) > bound).astype(np.float32)
    offset = torch.from_numpy(there).permute(2, 0, 1)[None]
    return Flow(offset.to(device), torch.from_numpy(occluded)[None, None].to(device))


def length(field: NDArray[np.float32]) -> NDArray[np.float32]:
    """The length of every vector of ``[H,W,2]``."""
    long: NDArray[np.float32] = cv2.magnitude(field[..., 0], field[..., 1])
    return long


def dense_inverse_search(
    target: NDArray[np.uint8],
    source: NDArray[np.uint8],
    start: NDArray[np.float32] | None,
    preset: Preset,
) -> NDArray[np.float32]:
    """Offsets ``[H,W,2]`` in pixels from target to source, both ``[H,W]`` 8-bit luma."""
    height, width = target.shape
    if min(height, width) < SMALLEST:
        target, source, start = (pad(plane) for plane in (target, source, start))
    # DIS cuts the image into one stripe per thread: only one thread gives the same flow everywhere.
    if cv2.getNumThreads() != 1:
        cv2.setNumThreads(1)
    # OpenCV overwrites the flow that it starts from.
    guess = None if start is None else start.copy()
    # One object for each call: an object's buffers are not safe to share between threads.
    found: Any = estimator(preset).calc(target, source, guess)
    return np.ascontiguousarray(found[:height, :width])


def estimator(preset: Preset) -> Any:
    """OpenCV's presets, and "fine": patches at full resolution instead of half, which is what most
    is gained by, but further apart, with few iterations and without a variational step. It is for
    flow that starts near the truth and is refined afterwards."""
    if preset != "fine":
        return cv2.DISOpticalFlow.create(PRESETS[preset])
    fine = cv2.DISOpticalFlow.create(PRESETS["medium"])
    fine.setFinestScale(0)
    fine.setPatchStride(7)
    fine.setGradientDescentIterations(4)
    fine.setVariationalRefinementIterations(0)
    return fine


PRESETS = {
    "ultrafast": cv2.DISOPTICAL_FLOW_PRESET_ULTRAFAST,
    "fast": cv2.DISOPTICAL_FLOW_PRESET_FAST,
    "medium": cv2.DISOPTICAL_FLOW_PRESET_MEDIUM,
}


def pad(plane: Any) -> Any:
    """The plane with its last rows and columns repeated up to the smallest size of DIS."""
    if plane is None:
        return None
    rows, columns = (max(0, SMALLEST - side) for side in plane.shape[:2])
    return cv2.copyMakeBorder(plane, 0, rows, 0, columns, cv2.BORDER_REPLICATE)


def gray(image: Tensor) -> NDArray[np.uint8]:
    """BT.601 luma ``[H,W]``, 8 bit, of an image ``[3,H,W]`` in 0..1; values outside are clipped."""
    planes = image.detach().to("cpu", torch.float32).contiguous().numpy()
    plane = np.empty(planes.shape[1:], np.uint8)
    luma(planes, plane)
    return plane


@reassociated
def luma(image: NDArray[np.float32], out: NDArray[np.uint8]) -> None:
    """The weighted sum of three planes, rounded."""
    height, width = out.shape
    red, green, blue = np.float32(0.299 * 255), np.float32(0.587 * 255), np.float32(0.114 * 255)
    half, top = np.float32(0.5), np.float32(255)
    for y in range(height):
        for x in range(width):
            total = red * image[0, y, x] + green * image[1, y, x] + blue * image[2, y, x]
            out[y, x] = np.uint8(min(max(total, np.float32(0)) + half, top))


def hwc(offset: Tensor) -> NDArray[np.float32]:
    """Offsets ``[1,2,H,W]`` as ``[H,W,2]`` in memory of their own."""
    plain: NDArray[np.float32] = offset[0].detach().to("cpu", torch.float32).numpy()
    return np.ascontiguousarray(plain.transpose(1, 2, 0))
