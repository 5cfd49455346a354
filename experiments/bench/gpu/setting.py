"""On what, and at which sizes, the parts of the bench run."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any

import torch
import torch.nn.functional as F

from experiments.bench.gpu.models import model
from rerender import Clip
from rerender.config.compose import literal, preflight
from rerender.config.job import Job
from rerender.model.diffusion import StableDiffusion
from rerender.video import MemoryVideo

DRAWN = 256
"""The most pixels along a side at which frames are drawn; larger ones are enlarged."""


@dataclass(frozen=True)
class BenchSetting:
    """What is measured on.

    Attributes:
        device: the device.
        toy: whether everything is tiny, to see that it runs.
        sizes: height and width of frames.
        batch_sizes: of `sampling.batch_size`.
        key_frames: how many are translated for a row.
        clip_frames: of the clip that is restyled from end to end.
        slope_frames: key frames over which memory is watched.
    """

    device: torch.device
    toy: bool = False
    sizes: tuple[tuple[int, int], ...] = ((512, 512), (512, 896))
    batch_sizes: tuple[int, ...] = (1, 2, 4, 8)
    key_frames: int = 9
    clip_frames: int = 120
    slope_frames: int = 200
    _loaded: dict[Any, StableDiffusion] = field(default_factory=dict, compare=False)

    @classmethod
    def small(cls, device: torch.device) -> BenchSetting:
        """Everything tiny."""
        return cls(device, True, ((32, 32),), (1, 2), 3, 5, 4)

    @property
    def steps(self) -> tuple[str, ...]:
        """Settings of fewer steps, where everything is tiny."""
        return ("sampling.steps=6",) if self.toy else ()

    @cached_property
    def dtype(self) -> torch.dtype:
        """What networks compute in."""
        return torch.float32 if self.toy else torch.float16

    def model(self, kind: str = "sd15", graphs: bool = True, **more: Any) -> StableDiffusion:
        """A model; the one before is given up, so that there is one in memory."""
        key = (kind, graphs, *sorted(more.items()))
        if key not in self._loaded:
            self._loaded.clear()
            self.release()
            kind = "tiny" if self.toy else kind
            self._loaded[key] = model(kind, self.device, self.dtype, graphs, **more)
        return self._loaded[key]

    def clip(self, height: int, width: int, frames: int) -> Clip:
        """A clip of the demo world, in memory."""
        drawn = min(height, DRAWN)
        settings = (f"data.size={drawn}", f"data.frames={frames}", "data.seeds=[1000003]")
        (tree, *_) = preflight(literal(settings)).jobs
        clip = Job.of(tree).data.clips()[0]
        images = [clip.video[index][None] for index in range(frames)]
        wide = [torch.cat([image, image.flip(-1)], -1) for image in images]
        cut = [image[..., : round(drawn * width / height)] for image in wide]
        sized = [F.interpolate(image, (height, width), mode="bilinear")[0] for image in cut]
        return replace(clip, video=MemoryVideo(sized), truth=None)

    def wait(self) -> None:
        """Until the device has done all that it was asked for."""
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)

    def release(self) -> None:
        """Give memory that is not used back to the device."""
        if self.device.type == "cuda":
            torch.cuda.empty_cache()

    def mebibytes(self, most: bool = False) -> float:
        """Device memory that tensors take, or the most of it since `from_now`."""
        if self.device.type != "cuda":
            return 0.0
        taken = torch.cuda.max_memory_allocated if most else torch.cuda.memory_allocated
        return round(taken(self.device) / 2**20, 3)

    def from_now(self) -> None:
        """Begin to watch memory anew."""
        if self.device.type == "cuda":
            torch.cuda.reset_peak_memory_stats(self.device)

    def milliseconds(self, call: Callable[[], Any], count: int = 20) -> float:
        """Of a call, many of which follow each other without a wait."""
        count = 2 if self.toy else count
        for _ in range(3):
            call()
        self.wait()
        begun = time.perf_counter()
        for _ in range(count):
            call()
        self.wait()
        return round((time.perf_counter() - begun) * 1e3 / count, 3)
