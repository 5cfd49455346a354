"""What runs on a CUDA device, and how fast: needs no downloads.

    python -m experiments.bench.cuda OUT [PART ...]

Parts, each of which leaves OUT/PART.json as soon as it is done:

- ``methods``: every method of conf/method on a small clip with the demo model in float32, on the
  processor and on the device: what fails, and how far the results are apart.
- ``keys``: seconds per key frame at 512x512 and 512x896 with a Stable Diffusion 1.5 of full size in
  float16 whose weights are random, by ``sampling.batch_size``; processor seconds of this process
  meanwhile, and the most device memory held.
- ``variants``: the same at 512x512 with the networks in ``channels_last``, and with cuDNN choosing
  its kernels by trial.
- ``evaluation``: milliseconds of one evaluation of UNet and ControlNet alone at 64x64 latents, by
  batch, called as it is and replayed as a CUDA graph, in both layouts.
- ``profile``: where the time of one key frame goes: kernels on the device, operators on the host,
  and how often the host waits.

Pictures of random weights mean nothing; their cost is that of trained ones.
"""

from __future__ import annotations

import json
import math
import subprocess
import sys
import tempfile
import time
import traceback
from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import torch

from experiments.bench.loading import written
from rerender import Clip, load_model, parts, render
from rerender.config.compose import literal, preflight
from rerender.config.job import Job
from rerender.config.paths import choices_of
from rerender.contracts import Model
from rerender.pipeline import translate_key_frames
from rerender.translation.references import ResumePoint
from rerender.video import MemoryVideo

DEVICE = "cuda"
SIZES = ((512, 512), (512, 896))
BATCH_SIZES = (1, 2, 4, 8)
KEY_FRAMES = 8


def clip_of(*settings: str) -> Clip:
    """The first clip of a configuration."""
    (tree, *_) = preflight(literal(settings)).jobs
    return Job.of(tree).data.clips()[0]


def methods() -> dict[str, Any]:
    """Every method on both devices."""
    clip = clip_of("data.size=128", "data.frames=5", "data.seeds=[1000003]")
    models = {
        device: load_model("demo", ("canny",), f"model.device={device}", "model.dtype=float32")
        for device in ("cpu", DEVICE)
    }
    found: dict[str, Any] = {}
    for method in choices_of("method"):
        settings = (f"+method={method}", "sampling.steps=10", "keyframes.interval=2")
        begun = time.monotonic()
        try:
            results = {
                device: torch.stack(list(render(clip, model, parts(*settings)))).cpu()
                for device, model in models.items()
            }
        except Exception as error:
            frame = traceback.extract_tb(error.__traceback__)[-1]
            own = [
                f"{Path(each.filename).name}:{each.lineno}"
                for each in traceback.extract_tb(error.__traceback__)
                if "rerender" in each.filename
            ]
            found[method] = {
                "error": f"{type(error).__name__}: {str(error).splitlines()[0][:200]}",
                "raised": f"{Path(frame.filename).name}:{frame.lineno}",
                "own": own[-4:],
            }
        else:
            squared = (results["cpu"] - results[DEVICE]).square().mean().item()
            found[method] = {
                "psnr": 10 * math.log10(1 / squared) if squared else None,
                "seconds": time.monotonic() - begun,
            }
        print(method, found[method], flush=True)
    return found


def full_size(folder: Path) -> Model:
    """A Stable Diffusion 1.5 with random weights, on the device in float16."""
    from diffusers import ControlNetModel, UNet2DConditionModel

    place = written(folder / "float16", torch.float16)
    if not (place / "controlnet").exists():
        with torch.device(DEVICE):
            unet = UNet2DConditionModel.from_config(
                UNet2DConditionModel.load_config(place / "unet")
            )
            net = ControlNetModel.from_unet(unet, load_weights_from_unet=False)
        net.half().save_pretrained(place / "controlnet", variant="fp16")
        del unet, net
    settings = ("model.vae=null", "model.dtype=float16", f"model.device={DEVICE}")
    nets = "model.controlnets.canny=" + str(place / "controlnet")
    return load_model(place, ("canny",), *settings, nets)


def translated(clip: Clip, model: Model, *settings: str) -> dict[str, float]:
    """Seconds per key frame, the first set left out, and what else it costs."""
    choices = parts("model=sd15", "keyframes.interval=2", *settings)
    for _ in range(2):  # the first time compiles, allocates and chooses kernels
        torch.cuda.reset_peak_memory_stats()
        torch.cuda.synchronize()
        begun, used = time.perf_counter(), time.process_time()
        count = sum(1 for _ in translate_key_frames(clip, model, choices, 0, None, ResumePoint()))
        torch.cuda.synchronize()
        wall, processor = time.perf_counter() - begun, time.process_time() - used
    return {
        "key_frames": count,
        "seconds": wall / count,
        "processor_seconds": processor / count,
        "memory_mib": torch.cuda.max_memory_allocated() / 2**20,
    }


def sized(height: int, width: int) -> Clip:
    """A clip of the demo world at the size of a model."""
    count = f"data.frames={2 * KEY_FRAMES - 1}"
    clip = clip_of(f"data.size={height}", count, "data.seeds=[1000003]")
    if width == height:
        return clip

    images = [clip.video[index] for index in range(len(clip.video))]
    frames = [torch.cat([image, image], -1)[..., :width] for image in images]
    return replace(clip, video=MemoryVideo(frames), truth=None)


def keys(model: Model) -> dict[str, Any]:
    """Seconds per key frame by size and batch size."""
    found: dict[str, Any] = {}
    for height, width in SIZES:
        clip = sized(height, width)
        for batch_size in BATCH_SIZES:
            name = f"{height}x{width} batch {batch_size}"
            found[name] = translated(clip, model, f"sampling.batch_size={batch_size}")
            print(name, found[name], flush=True)
    return found


def variants(model: Model) -> dict[str, Any]:
    """Seconds per key frame with other layouts and kernels; what is switched on stays on."""
    clip, found = sized(512, 512), dict[str, Any]()

    def channels_last() -> None:
        for network in model._networks():  # type: ignore[attr-defined]
            torch.nn.Module.to(network, memory_format=torch.channels_last)

    def benchmark() -> None:
        torch.backends.cudnn.benchmark = True

    for name, switch in {
        "plain": lambda: None,
        "channels_last": channels_last,
        "channels_last, cudnn.benchmark": benchmark,
    }.items():
        switch()
        for batch_size in (1, 4):
            key = f"{name}, batch {batch_size}"
            found[key] = translated(clip, model, f"sampling.batch_size={batch_size}")
            print(key, found[key], flush=True)
    return found


def evaluation(model: Any) -> dict[str, Any]:
    """One evaluation of both networks; the layout that is switched on stays on."""
    unet, net = model.parts.unet, model.parts.controlnets[0]
    found = dict[str, Any]()
    generator = torch.Generator(DEVICE).manual_seed(0)
    half: dict[str, Any] = {"device": DEVICE, "dtype": torch.float16, "generator": generator}
    for layout in ("contiguous", "channels_last"):
        if layout == "channels_last":
            for network in (unet, net):
                torch.nn.Module.to(network, memory_format=torch.channels_last)
        for batch in (2, 8):
            latents, text = (torch.randn(batch, *s, **half) for s in ((4, 64, 64), (77, 768)))
            hint = torch.randn(batch, 320, 64, 64, **half)  # embedded already
            step = torch.full((batch,), 500, device=DEVICE)

            def call(
                latents: Any = latents, text: Any = text, hint: Any = hint, step: Any = step
            ) -> Any:
                down, mid = net(latents, step, text, hint, return_dict=False)
                residuals = {
                    "down_block_additional_residuals": down,
                    "mid_block_additional_residual": mid,
                }
                return unet(latents, step, text, return_dict=False, **residuals)[0]

            with torch.no_grad():
                found[f"{layout}, batch {batch}, eager"] = _milliseconds(call)
                side: Any = torch.cuda.Stream()  # type: ignore[no-untyped-call]
                side.wait_stream(torch.cuda.current_stream())
                with torch.cuda.stream(side):
                    call()
                torch.cuda.current_stream().wait_stream(side)
                graph = torch.cuda.CUDAGraph()
                with torch.cuda.graph(graph):
                    call()
                found[f"{layout}, batch {batch}, graph"] = _milliseconds(graph.replay)
        print(found, flush=True)
    return found


def _milliseconds(call: Callable[[], Any]) -> float:
    """Median of twenty calls."""
    taken = []
    for _ in range(25):
        torch.cuda.synchronize()
        begun = time.perf_counter()
        call()
        torch.cuda.synchronize()
        taken.append((time.perf_counter() - begun) * 1e3)
    return sorted(taken[5:])[10]


def profile(model: Model) -> dict[str, Any]:
    """One pass over the key frames under the profiler."""
    from torch.profiler import ProfilerActivity
    from torch.profiler import profile as profiled

    clip, choices = sized(512, 512), parts("model=sd15", "keyframes.interval=2")

    def run() -> int:
        return sum(1 for _ in translate_key_frames(clip, model, choices, 0, None, ResumePoint()))

    run()
    with profiled(activities=[ProfilerActivity.CPU, ProfilerActivity.CUDA]) as seen:
        count = run()
        torch.cuda.synchronize()
    averages = seen.key_averages()
    device = sorted(averages, key=lambda each: -each.self_device_time_total)[:25]
    host = sorted(averages, key=lambda each: -each.self_cpu_time_total)[:25]
    waits = {
        each.key: each.count / count
        for each in averages
        if "Synchronize" in each.key or each.key in ("aten::_local_scalar_dense", "aten::item")
    }
    return {
        "device_ms": {each.key[:80]: each.self_device_time_total / 1e3 / count for each in device},
        "host_ms": {each.key[:80]: each.self_cpu_time_total / 1e3 / count for each in host},
        "waits": waits,
    }


def main(arguments: Sequence[str]) -> None:
    """Run the parts asked for, all by default."""
    out, *asked = arguments
    folder = Path(out)
    folder.mkdir(parents=True, exist_ok=True)
    about = {
        "date": datetime.now(UTC).isoformat(timespec="minutes"),
        "card": torch.cuda.get_device_name(),
        "torch": torch.__version__,
        "commit": _commit(),
    }
    (folder / "about.json").write_text(json.dumps(about, indent=1))
    print(about, flush=True)
    loaded: list[Model] = []

    def model() -> Model:
        if not loaded:
            place = Path(tempfile.gettempdir()) / "random_sd15"
            loaded.append(full_size(place))
        return loaded[0]

    known: dict[str, Callable[[], dict[str, Any]]] = {
        "methods": methods,
        "keys": lambda: keys(model()),
        "variants": lambda: variants(model()),
        "evaluation": lambda: evaluation(model()),
        "profile": lambda: profile(model()),
    }
    for part in asked or known:
        try:
            found = known[part]()
        except Exception:
            traceback.print_exc()
            continue
        (folder / f"{part}.json").write_text(json.dumps(found, indent=1))


def _commit() -> str:
    command = ["git", "rev-parse", "--short", "HEAD"]
    return subprocess.run(command, capture_output=True, text=True, check=False).stdout.strip()


if __name__ == "__main__":
    main(sys.argv[1:])
