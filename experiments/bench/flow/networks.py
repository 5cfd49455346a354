"""Flow networks from files on this machine, for the benches."""

from __future__ import annotations

import hashlib
from argparse import ArgumentParser, Namespace
from pathlib import Path

import torch
from torch import Tensor

from experiments.bench.propagation.cases import Picture, tensor
from experiments.bench.propagation.measures import Estimate, Plane
from rerender.contracts import FlowEstimator
from rerender.flow._weights import state_of
from rerender.flow.field import Flow
from rerender.flow.gmflow import GmFlow
from rerender.flow.raft import Raft
from rerender.propagation.motion.pixels import vectors
from rerender.video import Clip, Frame


def raft(path: Path) -> Raft:
    """RAFT with the weights of a file; only the large network predicts a mask."""
    state = state_of(torch.load(path, map_location="cpu", weights_only=True))
    return Raft("large" if any("mask" in name for name in state) else "small", path)


def gmflow(repo: Path, path: Path) -> GmFlow:
    """GMFlow with the weights of a file; with refinement it enlarges by 4 only."""
    state = state_of(torch.load(path, map_location="cpu", weights_only=True))
    return GmFlow(repo, path, scales=2 if len(state["upsampler.2.bias"]) == 16 * 9 else 1)


def add_options(parser: ArgumentParser) -> None:
    """The options that name files of networks."""
    parser.add_argument("--raft", type=Path, nargs="+", default=[], help="files of weights")
    parser.add_argument(
        "--gmflow", type=Path, nargs=2, default=[], metavar=("REPO", "FILE"), help="code, weights"
    )


def chosen(options: Namespace) -> dict[str, FlowEstimator]:
    """The networks that `add_options` were given, by the names of their files."""
    found: dict[str, FlowEstimator] = {path.stem: raft(path) for path in options.raft}
    if options.gmflow:
        found["gmflow"] = gmflow(*options.gmflow)
    return found


def referee(estimator: FlowEstimator) -> Estimate:
    """An estimator as the judge of warp errors."""

    def estimate(target: Picture, source: Picture) -> Plane:
        return vectors(estimator.offset(Frame(0, tensor(target)), Frame(1, tensor(source))))

    return estimate


class Remembered(FlowEstimator):
    """An estimator that looks at each pair of frames of one clip once, for whoever asks."""

    def __init__(self, inner: FlowEstimator) -> None:
        self._inner = inner
        self._offsets: dict[tuple[int, int, str], Tensor] = {}
        self._pairs: dict[tuple[int, int], tuple[Flow, Flow]] = {}

    def open(self, clip: Clip) -> FlowEstimator:
        return Remembered(self._inner.open(clip))

    def rough(self) -> FlowEstimator:
        rough = self._inner.rough()
        return self if rough is self._inner else rough

    def offset(self, target: Frame, source: Frame, start: Tensor | None = None) -> Tensor:
        if start is None and (target.index, source.index) in self._pairs:
            return self._pairs[target.index, source.index][0].offset
        guess = "" if start is None else hashlib.sha256(start.numpy().tobytes()).hexdigest()
        name = (target.index, source.index, guess)
        if name not in self._offsets:
            self._offsets[name] = self._inner.offset(target, source, start)
        return self._offsets[name]

    def pair(self, first: Frame, second: Frame) -> tuple[Flow, Flow]:
        if (first.index, second.index) not in self._pairs:
            there, back = self._inner.pair(first, second)
            self._pairs[first.index, second.index] = (there, back)
            self._pairs[second.index, first.index] = (back, there)
        return self._pairs[first.index, second.index]
