"""Key frames on the device: their time, memory, and where the time goes."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any
from unittest.mock import patch

import numpy as np

from experiments.bench.gpu.setting import BenchSetting
from rerender import Clip, parts, render
from rerender.contracts import NoiseRequest
from rerender.model.diffusion import StableDiffusion
from rerender.pipeline import translate_key_frames
from rerender.translation.references import ResumePoint
from rerender.video import MemoryVideo


def key_frames(
    setting: BenchSetting, clip: Clip, model: StableDiffusion, *settings: str
) -> dict[str, Any]:
    """Seconds per key frame, without the first one, and what else it costs; the first of two passes
    captures, allocates and chooses kernels."""
    chosen = parts("model=sd15", "keyframes.interval=2", *setting.steps, *settings)
    for _ in range(1 if setting.toy else 2):
        setting.from_now()
        setting.wait()
        used, marks = time.process_time(), [time.perf_counter()]
        for _ in translate_key_frames(clip, model, chosen, 0, None, ResumePoint()):
            setting.wait()
            marks.append(time.perf_counter())
        processor = time.process_time() - used
    count = len(marks) - 1
    return {
        "key_frames": count,
        "seconds": round((marks[-1] - marks[0]) / count, 4),
        "later_seconds": round((marks[-1] - marks[1]) / max(count - 1, 1), 4),
        "processor_seconds": round(processor / count, 4),
        "memory_mib": setting.mebibytes(most=True),
    }


def keys(setting: BenchSetting) -> Iterator[dict[str, Any]]:
    """By size and batch size, with and without graphs."""
    for graphs in (True, False):
        for height, width in setting.sizes:
            clip = setting.clip(height, width, 2 * setting.key_frames - 1)
            for batch_size in setting.batch_sizes if graphs else setting.batch_sizes[::2]:
                model = setting.model(graphs=graphs)
                found = key_frames(setting, clip, model, f"sampling.batch_size={batch_size}")
                size = f"{height}x{width}"
                yield {"size": size, "batch_size": batch_size, "graphs": graphs, **found}


def larger(setting: BenchSetting) -> Iterator[dict[str, Any]]:
    """Stable Diffusion XL at its own size."""
    side = 32 if setting.toy else 1024
    clip = setting.clip(side, side, 5)
    for graphs in (True, False):
        found = key_frames(setting, clip, setting.model("sdxl", graphs))
        yield {"size": f"{side}x{side}", "batch_size": 1, "graphs": graphs, **found}


def evaluation(setting: BenchSetting) -> Iterator[dict[str, Any]]:
    """One evaluation of UNet and ControlNet by batch, and the autoencoder, at the first size."""
    (height, width), *_ = setting.sizes
    image = setting.clip(height, width, 1).video[0].to(setting.device)
    for graphs, channels_last in ((True, True), (True, False), (False, False)):
        if setting.device.type != "cuda" and channels_last:
            continue  # what keeps to that layout are kernels for GPUs
        model = setting.model(graphs=graphs, channels_last=channels_last)
        row: dict[str, Any] = {"graphs": graphs, "channels_last": channels_last}
        condition = model.condition("a cat", "", [image], True)
        latent = model.encode(image)
        for batch_size in setting.batch_sizes:
            asked = [NoiseRequest(latent, 500, condition, (1.0,))] * batch_size

            def predict(
                model: StableDiffusion = model, asked: list[NoiseRequest] = asked
            ) -> object:
                return model.predict_noise(asked)

            row[f"predict_noise_{batch_size}"] = setting.milliseconds(predict)
        row["encode"] = setting.milliseconds(lambda m=model: m.encode(image))  # type: ignore[misc]
        row["decode"] = setting.milliseconds(lambda m=model, x=latent: m.decode(x))  # type: ignore[misc]
        yield row


@contextmanager
def networks_timed(setting: BenchSetting) -> Iterator[list[float]]:
    """While it lasts, the seconds of every call of a network are noted, each waited for."""
    noted: list[float] = []

    def timed(call: Any) -> Any:
        def run(*args: Any, **more: Any) -> Any:
            setting.wait()
            begun = time.perf_counter()
            found = call(*args, **more)
            setting.wait()
            noted.append(time.perf_counter() - begun)
            return found

        return run

    names = ("predict_noise", "encode", "decode")
    own = {name: timed(getattr(StableDiffusion, name)) for name in names}
    with patch.multiple(StableDiffusion, **own):
        yield noted


def outside(setting: BenchSetting) -> Iterator[dict[str, Any]]:
    """The share of a key frame's time that is not the networks'."""
    height, width = setting.sizes[-1]
    clip = setting.clip(height, width, 2 * setting.key_frames - 1)
    model = setting.model()
    chosen = parts("model=sd15", "keyframes.interval=2", *setting.steps)
    list(translate_key_frames(clip, model, chosen, 0, None, ResumePoint()))
    with networks_timed(setting) as noted:
        setting.wait()
        begun = time.perf_counter()
        done = list(translate_key_frames(clip, model, chosen, 0, None, ResumePoint()))
        setting.wait()
        wall = time.perf_counter() - begun
    yield {
        "size": f"{height}x{width}",
        "seconds": round(wall / len(done), 4),
        "calls_of_networks": len(noted) / len(done),
        "seconds_outside": round((wall - sum(noted)) / len(done), 4),
        "share_outside": round(1 - sum(noted) / wall, 4),
    }


def memory(setting: BenchSetting) -> Iterator[dict[str, Any]]:
    """MiB of device memory after each key frame of a long clip, and their slope."""
    height, width = setting.sizes[0]
    clip = setting.clip(height, width, min(setting.slope_frames, 50))
    frames = [clip.video[index % len(clip.video)] for index in range(setting.slope_frames)]
    model = setting.model()
    chosen = parts("model=sd15", "preset=turbo", "keyframes.interval=1", "sampling.batch_size=1")
    taken = []
    clip = replace(clip, video=MemoryVideo(frames))
    for _ in translate_key_frames(clip, model, chosen, 0, None, ResumePoint()):
        setting.wait()
        taken.append(setting.mebibytes())
    settled = taken[len(taken) // 4 :]  # the first ones capture
    slope = float(np.polyfit(np.arange(len(settled)), settled, 1)[0]) if settled[1:] else 0.0
    yield {
        "key_frames": len(taken),
        "first_mib": taken[0],
        "last_mib": taken[-1],
        "slope_mib": round(slope, 5),
    }


def whole(setting: BenchSetting) -> Iterator[dict[str, Any]]:
    """Frames per second of a clip from source frames to results, without codecs."""
    height, width = setting.sizes[0]
    clip = setting.clip(height, width, setting.clip_frames)
    model = setting.model()
    # What fills in between key frames computes where the key frames do.
    filled = ("propagation=patchmatch", "propagation.backend=torch", "flow=dis_torch")
    for name, more in {
        "four constraints": setting.steps,
        "preset=turbo (few steps)": ("preset=turbo",),
    }.items():
        for interval in (4, 10):
            chosen = (
                "model=sd15",
                *more,
                *filled,
                f"keyframes.interval={interval}",
                "sampling.batch_size=2",
            )
            if not setting.toy:  # the first time captures and compiles
                list(render(setting.clip(height, width, 3 * interval), model, parts(*chosen)))
            setting.wait()
            begun, used = time.perf_counter(), time.process_time()
            count = sum(1 for _ in render(clip, model, parts(*chosen)))
            setting.wait()
            seconds = time.perf_counter() - begun
            yield {
                "settings": name,
                "interval": interval,
                "frames": count,
                "seconds": round(seconds, 3),
                "fps": round(count / seconds, 2),
                "processor_seconds": round(time.process_time() - used, 3),
            }
