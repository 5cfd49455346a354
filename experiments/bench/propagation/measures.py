"""How near a propagated interval is to the truth, and what it cost."""

from __future__ import annotations

import resource
from collections.abc import Callable, Sequence
from itertools import pairwise
from statistics import median
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from experiments.bench.propagation.cases import Picture

Plane = NDArray[np.float32]


def psnr(result: Picture, truth: Picture) -> float:
    """Peak signal to noise in dB over all channels."""
    error = np.square(result.astype(np.float32) - truth.astype(np.float32)).mean()
    return float(10 * np.log10(255**2 / max(error, 1e-9)))


def ssim(result: Picture, truth: Picture) -> float:
    """Structural similarity (gaussian window, sigma 1.5), mean over RGB."""
    a, b = result.astype(np.float32), truth.astype(np.float32)

    def mean(values: NDArray[np.float32]) -> NDArray[np.float32]:
        blurred: NDArray[np.float32] = cv2.GaussianBlur(values, (11, 11), 1.5)
        return blurred

    mean_a, mean_b = mean(a), mean(b)
    var_a, var_b = mean(a * a) - mean_a**2, mean(b * b) - mean_b**2
    covariance = mean(a * b) - mean_a * mean_b
    c1, c2 = (0.01 * 255) ** 2, (0.03 * 255) ** 2
    top = (2 * mean_a * mean_b + c1) * (2 * covariance + c2)
    bottom = (mean_a**2 + mean_b**2 + c1) * (var_a + var_b + c2)
    return float((top / bottom)[5:-5, 5:-5].mean())


def gradient_error(result: Picture, truth: Picture) -> float:
    """Mean difference of luma gradients in levels, over scales 1, 1/2 and 1/4 (``msge``)."""
    a, b = luma(result), luma(truth)
    errors = []
    for _ in range(3):
        errors += [np.abs(np.diff(a - b, axis=axis)).mean() for axis in (0, 1)]
        half = (a.shape[1] // 2, a.shape[0] // 2)
        a, b = (cv2.resize(p, half, interpolation=cv2.INTER_AREA) for p in (a, b))
    return float(np.mean(errors))


def luma(picture: Picture) -> Plane:
    """BT.601 luma in levels."""
    plane: Plane = cv2.cvtColor(picture, cv2.COLOR_BGR2GRAY).astype(np.float32)
    return plane


Estimate = Callable[[Picture, Picture], Plane]
"""Flow ``[H,W,2]`` from the first picture to the second."""


def dear_dis(target: Picture, source: Picture) -> Plane:
    """DIS at a dearer setting than any method uses."""
    dis = cv2.DISOpticalFlow.create(cv2.DISOPTICAL_FLOW_PRESET_MEDIUM)
    dis.setFinestScale(0)
    first, second = (cv2.cvtColor(picture, cv2.COLOR_BGR2GRAY) for picture in (target, source))
    found: Any = dis.calc(first, second, None)
    return np.asarray(found, np.float32)


class Referee:
    """Flow of the source, for the warp error.

    Args:
        source: the frames.
        estimate: whose flow; one that no method uses favours none.
    """

    def __init__(self, source: Sequence[Picture], estimate: Estimate = dear_dis) -> None:
        self.back, self.valid = [], []
        for before, after in pairwise(source):
            back, there = estimate(after, before), estimate(before, after)
            self.back.append(positions(back))
            self.valid.append(visible(back, there))

    def warp_error(self, frames: Sequence[Picture]) -> float:
        """1000 x mean squared change along the flow, frames in 0..1. Below that of the truth means
        smoother than it: read it as "not worse than", never as a score."""
        errors = []
        for t, (back, valid) in enumerate(zip(self.back, self.valid, strict=True)):
            before, after = (frames[i].astype(np.float32) / 255 for i in (t, t + 1))
            moved = cv2.remap(before, back, None, cv2.INTER_LINEAR)
            errors.append(np.square(after - moved).mean(axis=2)[valid].mean())
        return float(1000 * np.mean(errors))


def positions(flow: Plane) -> Plane:
    """Where each pixel is found, ``[H,W,2]``."""
    y, x = np.mgrid[: flow.shape[0], : flow.shape[1]].astype(np.float32)
    found: Plane = flow + np.stack([x, y], axis=-1)
    return found


def visible(back: Plane, there: Plane) -> NDArray[np.bool_]:
    """Pixels that are seen in both frames and lie on no motion boundary (UnFlow's test)."""
    where = positions(back)
    returned = cv2.remap(there, where, None, cv2.INTER_LINEAR)
    length = np.square(back).sum(2)
    agree = np.square(back + returned).sum(2) <= 0.01 * (length + np.square(returned).sum(2)) + 0.5
    height, width = length.shape
    x, y = where[..., 0], where[..., 1]
    inside = (x >= 0) & (y >= 0) & (x <= width - 1) & (y <= height - 1)
    slope = sum(
        np.square(cv2.Sobel(back[..., c], cv2.CV_32F, dx, 1 - dx) / 8).astype(np.float32)
        for c in (0, 1)
        for dx in (0, 1)
    )
    seen: NDArray[np.bool_] = agree & inside & (slope <= 0.01 * length + 0.002)
    return seen


def cpu_seconds() -> float:
    """Processor time of this process, all threads, user and system."""
    usage = resource.getrusage(resource.RUSAGE_SELF)
    return usage.ru_utime + usage.ru_stime


def cpu_ms(work: Callable[[], object], runs: int, frames: int) -> float:
    """Median processor time of a run in ms per frame, after one run to warm up."""
    work()
    taken = []
    for _ in range(runs):
        before = cpu_seconds()
        work()
        taken.append(cpu_seconds() - before)
    return 1000 * median(taken) / frames


def low_pass_psnr(frames: Sequence[Picture], truth: Sequence[NDArray[Any]]) -> float:
    """Mean PSNR after a blur of sigma 4: colour and light, without texture."""

    def blurred(picture: NDArray[Any]) -> NDArray[np.float32]:
        soft: NDArray[np.float32] = cv2.GaussianBlur(picture.astype(np.float32), (0, 0), 4)
        return soft

    pairs = zip(map(blurred, frames), map(blurred, truth), strict=True)
    return float(np.mean([10 * np.log10(255**2 / np.square(a - b).mean()) for a, b in pairs]))


def texture(frames: Sequence[Picture]) -> float:
    """Mean standard deviation of what a blur of sigma 2 takes away from luma."""
    bands = (luma(frame) - cv2.GaussianBlur(luma(frame), (0, 0), 2) for frame in frames)
    return float(np.mean([band.std() for band in bands]))


def colour_step(frames: Sequence[Picture], truth: Sequence[NDArray[Any]]) -> float:
    """Mean error of the change of the mean colour from frame to frame, in levels."""
    means = [np.array([frame.mean((0, 1)) for frame in run]) for run in (frames, truth)]
    return float(np.abs(np.diff(means[0], axis=0) - np.diff(means[1], axis=0)).mean())
