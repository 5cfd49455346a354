"""Where the time of key frames goes: kernels of the device, operators of the host, and waits."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from torch.profiler import ProfilerActivity
from torch.profiler import profile as watched

from experiments.bench.gpu.setting import BenchSetting
from rerender import parts
from rerender.pipeline import translate_key_frames
from rerender.translation.references import ResumePoint

READS = ("aten::_local_scalar_dense", "cudaMemcpyAsync", "cudaMalloc", "cudaHostAlloc")
MOST = 25


def profile(setting: BenchSetting) -> Iterator[dict[str, Any]]:
    """Per key frame at the first size, in two tables: milliseconds and calls of what takes longest,
    and how often the host waits."""
    height, width = setting.sizes[0]
    clip, model = setting.clip(height, width, 7), setting.model()
    chosen = parts("model=sd15", "keyframes.interval=2", *setting.steps)

    def run() -> int:
        return sum(1 for _ in translate_key_frames(clip, model, chosen, 0, None, ResumePoint()))

    count = run()
    cuda = setting.device.type == "cuda"
    if cuda:
        run()  # the first pass captured
    kinds = [ProfilerActivity.CPU, *([ProfilerActivity.CUDA] if cuda else [])]
    with watched(activities=kinds) as seen:
        run()
        setting.wait()
    found = seen.key_averages()
    kernels = [each for each in found if not each.key.startswith("aten::")]
    device = sum(each.self_device_time_total for each in kernels) / 1e3 / count
    yield {"what": "all kernels", "ms": round(device, 2)}
    for side, own in (("device", kernels), ("host", found)):
        named = f"self_{'cpu' if side == 'host' else side}_time_total"
        for each in sorted(own, key=lambda each, name=named: -getattr(each, name))[:MOST]:
            milliseconds = round(getattr(each, named) / 1e3 / count, 3)
            calls = round(each.count / count, 2)
            yield {"what": f"{side}: {each.key[:90]}", "ms": milliseconds, "calls": calls}
    for each in found:
        if each.key in READS or "Synchronize" in each.key or "Launch" in each.key:
            yield {"what": f"waits: {each.key}", "calls": round(each.count / count, 2)}
