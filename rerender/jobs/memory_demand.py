"""What a job asks of the memory of a device."""

from __future__ import annotations

from collections.abc import Sequence

from rerender.config.job import Job
from rerender.contracts import MemoryDemand
from rerender.fitting import fit
from rerender.scene import Layer
from rerender.video import Clip

DECODER = Layer("", "up", 1)  # stands for all decoder self-attention


def demand_of(job: Job, clips: Sequence[Clip]) -> MemoryDemand:
    """The demand of a job's largest clip. Sides are those of `data.size`, before they are rounded
    to the model's multiple."""
    sampling = job.parts.sampling
    sizes = [fit(clip.video, job.data.size, 2).size for clip in clips]
    width, height = max(sizes, key=lambda size: size[0] * size[1])
    keeping = [each for each in job.parts.sequential if each.remembers(DECODER, 1)]
    dtype, device = sampling.storage()
    return MemoryDemand(
        width=width,
        height=height,
        batch_size=sampling.batch_size,
        guided=sampling.guided,
        kept_steps=max((len(sampling.window(each)) for each in keeping), default=0),
        kept_itemsize=dtype.itemsize if dtype else None,
        kept_elsewhere=device is not None and device.type == "cpu",
    )
