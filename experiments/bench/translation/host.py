"""Processor time of a key frame outside of the networks.

    OMP_NUM_THREADS=1 python -m experiments.bench.translation.host [SETTING...]

Networks that answer at once stand in for those of Stable Diffusion: latents of an eighth of the
sides, no hidden states. What they take themselves is left out. All else is a run's own: controls,
flow, constraints, noise, sampler. Threads count together, so one thread is asked of torch. With
``sampling.batch_size=4`` it says too how full batches are.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import replace
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from experiments.bench.gpu.setting import BenchSetting
from rerender import parts
from rerender.contracts import Condition, FlowEstimator, Model, NoiseRequest
from rerender.flow.field import Flow
from rerender.model.tiny import SCHEDULER
from rerender.pipeline import translate_key_frames
from rerender.scene import DecoderBlock, Layer
from rerender.translation.references import ResumePoint
from rerender.video import Frame

FACTOR = 8


class StubModel(Model):
    """Predicts no noise; an autoencoder that means and repeats."""

    def __init__(self) -> None:
        betas = torch.linspace(0.00085**0.5, 0.012**0.5, 1000, dtype=torch.float64) ** 2
        self._alphas = (1 - betas).cumprod(0)
        self.spent, self.batches = 0.0, list[int]()

    vae_scale_factor = FACTOR
    size_multiple = FACTOR

    @property
    def alphas_cumprod(self) -> Tensor:
        return self._alphas

    @property
    def scheduler_config(self) -> Mapping[str, Any]:
        return SCHEDULER

    def layers(self) -> Sequence[Layer]:
        return ()

    def blocks(self) -> Sequence[DecoderBlock]:
        return ()

    def encode(self, image: Tensor) -> Tensor:
        with self._left_out():
            small = F.avg_pool2d(image[None] * 2 - 1, FACTOR)
            return torch.cat([small, small[:, :1]], 1)

    def decode(self, latent: Tensor) -> Tensor:
        with self._left_out():
            return F.interpolate(latent[:, :3] / 2 + 0.5, scale_factor=FACTOR)[0]

    def condition(self, *told: Any, **more: Any) -> Condition:
        return Condition(torch.zeros(2, 1, 1), ())

    def predict_noise(self, requests: Sequence[NoiseRequest]) -> list[Tensor]:
        self.batches.append(len(requests))
        with self._left_out():
            return [torch.zeros_like(each.noisy).repeat(2, 1, 1, 1) for each in requests]

    def token_ids(self, prompt: str) -> Sequence[int]:
        return ()

    def digest(self) -> str:
        return "none"

    @contextmanager
    def _left_out(self) -> Iterator[None]:
        begun = time.process_time()
        yield
        self.spent += time.process_time() - begun


class TimedFlow(FlowEstimator):
    """An estimator whose processor time is noted."""

    def __init__(self, inner: FlowEstimator) -> None:
        self.inner, self.spent = inner, 0.0

    def offset(self, target: Frame, source: Frame, start: Tensor | None = None) -> Tensor:
        return self.inner.offset(target, source, start)

    def between(self, target: Frame, source: Frame) -> Flow:
        begun = time.process_time()
        found = self.inner.between(target, source)
        self.spent += time.process_time() - begun
        return found


def seconds(
    settings: Sequence[str],
    height: int,
    width: int,
    keys: int,
    around: Callable[[], AbstractContextManager[object]] = nullcontext,
) -> tuple[float, float, float]:
    """Processor seconds a key frame, the anchor included; what of them flow takes; and the mean
    number of requests in a batch.

    Args:
        settings: of the run.
        height, width: of the frames.
        keys: how many key frames, every second frame.
        around: makes a context manager that they are translated in, such as a profiler.
    """
    clip = BenchSetting(torch.device("cpu")).clip(height, width, 2 * keys - 1)
    chosen, model = parts("model=sd15", "keyframes.interval=2", *settings), StubModel()
    list(translate_key_frames(clip, model, chosen, 0, None, ResumePoint()))  # compiled, imported
    flow = TimedFlow(chosen.flow.open(clip))
    chosen = replace(chosen, flow=flow)
    model.batches.clear()
    model.spent, begun = 0.0, time.process_time()
    with around():
        done = list(translate_key_frames(clip, model, chosen, 0, None, ResumePoint()))
    spent = time.process_time() - begun - model.spent
    batch = sum(model.batches) / len(model.batches)
    return spent / len(done), flow.spent / len(done), batch


def main(arguments: Sequence[str] | None = None) -> None:
    """Print the figure, or where it comes from."""
    parser = argparse.ArgumentParser(description="Processor time outside of the networks.")
    parser.add_argument("--height", type=int, default=512)
    parser.add_argument("--width", type=int, default=896)
    parser.add_argument("--keys", type=int, default=9)
    parser.add_argument("--profile", action="store_true", help="print where the time goes")
    parser.add_argument("settings", nargs="*")
    given = parser.parse_args(arguments)
    torch.set_num_threads(1)
    size = given.height, given.width
    if not given.profile:
        whole, flow, batch = seconds(given.settings, *size, given.keys)
        print(f"{whole:.3f} processor seconds a key frame of {size[0]}x{size[1]}")
        print(f"{flow:.3f} of them flow, {whole - flow:.3f} all else")
        print(f"{batch:.2f} requests in a batch, in the mean")
        return
    import cProfile
    import pstats

    profiler = cProfile.Profile()
    seconds(given.settings, *size, given.keys, lambda: profiler)
    pstats.Stats(profiler).sort_stats("tottime").print_stats(25)


if __name__ == "__main__":
    main()
