"""Flows and control maps of networks, taken from the stage store where any run has computed them.

Runs that differ in seed, prompt or model look at the same frames: they share what a network says of
them. Estimators that are as quick as reading a file (DIS, Canny) are left as they are.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

import torch
from safetensors.torch import load, save
from torch import Tensor

from rerender.config.parts import Parts
from rerender.contracts import Control, FlowEstimator
from rerender.flow.field import Flow, occlusion
from rerender.store.cache import Cache, key
from rerender.store.provenance import code_of, versions
from rerender.video import Clip, Frame, sha256_of


def kept(parts: Parts, cache: Cache, inputs: Mapping[str, str]) -> Parts:
    """The same parts, whose networks for flow and control keep their results.

    Args:
        parts: the method.
        cache: the stage store.
        inputs: digests of the files that the configuration names, by its keys.
    """
    memo = Memo(cache, inputs)
    flow = KeptFlow(parts.flow, memo) if parts.flow.costly else parts.flow
    control = tuple(
        KeptControl(weight=c.weight, start=c.start, stop=c.stop, inner=c, memo=memo)
        if c.costly
        else c
        for c in parts.control
    )
    return replace(parts, flow=flow, control=control)


@dataclass(frozen=True)
class Memo:
    """Tensors in the stage store, by what computes them from what.

    Attributes:
        cache: the stage store.
        inputs: digests of the files that the configuration names, by its keys.
    """

    cache: Cache
    inputs: Mapping[str, str]

    def find(self, stage: str, part: object, *tensors: Tensor) -> tuple[str, Tensor | None]:
        """The key of a result, and the result where it is there."""
        bytes_ = (tensor.detach().cpu().contiguous().numpy() for tensor in tensors)
        name = key(
            **_device(tensors[0]),
            part=repr(part),
            files={name: sum_ for name, sum_ in self.inputs.items() if name.startswith(stage)},
            code=code_of([type(part).__module__]),
            versions=versions(),
            shapes=[[*tensor.shape] for tensor in tensors],
            content=sha256_of(*bytes_),
        )
        data = self.cache.get(stage, name)
        return name, None if data is None else load(data)["result"]

    def keep(self, stage: str, name: str, result: Tensor) -> None:
        """Keep a result under its key."""
        self.cache.put(stage, name, save({"result": result.detach().cpu().contiguous()}))


def _device(tensor: Tensor) -> dict[str, str]:
    """What a key says of where a result is computed: nothing of the processor."""
    device = tensor.device
    if device.type == "cpu":
        return {}
    kind = torch.cuda.get_device_name(device) if device.type == "cuda" else device.type
    return {"device": kind}


class KeptFlow(FlowEstimator):
    """An estimator whose flows are kept."""

    def __init__(self, inner: FlowEstimator, memo: Memo) -> None:
        self._inner, self._memo = inner, memo

    @property
    def on_device(self) -> bool:
        return self._inner.on_device

    def open(self, clip: Clip) -> FlowEstimator:
        return KeptFlow(self._inner.open(clip), self._memo)

    def rough(self) -> FlowEstimator:
        return KeptFlow(self._inner.rough(), self._memo)

    def offset(self, target: Frame, source: Frame, start: Tensor | None = None) -> Tensor:
        images = [target.image, source.image, *([] if start is None else [start])]
        name, found = self._memo.find("flow", self._inner, *images)
        if found is None:
            found = self._inner.offset(target, source, start)
            self._memo.keep("flow", name, found)
        return found.to(target.image.device)

    def pair(self, first: Frame, second: Frame) -> tuple[Flow, Flow]:
        there_key, there = self._memo.find("flow", self._inner, first.image, second.image)
        back_key, back = self._memo.find("flow", self._inner, second.image, first.image)
        if there is None or back is None:
            made = self._inner.pair(first, second)  # some compute both directions at once
            there, back = made[0].offset, made[1].offset
            self._memo.keep("flow", there_key, there)
            self._memo.keep("flow", back_key, back)
        there, back = there.to(first.image.device), back.to(first.image.device)
        return Flow(there, occlusion(there, back)), Flow(back, occlusion(back, there))


@dataclass(frozen=True, kw_only=True)
class KeptControl(Control):
    """A control whose maps are kept.

    Attributes:
        inner: the control.
        memo: where its maps are kept.
    """

    inner: Control
    memo: Memo

    @property
    def name(self) -> str:
        return self.inner.name

    @property
    def on_device(self) -> bool:
        return self.inner.on_device

    def map(self, image: Tensor) -> Tensor:
        # How strongly and when a map acts does not change it.
        plain = replace(self.inner, weight=1.0, start=0.0, stop=1.0)
        name, found = self.memo.find("control", plain, image)
        if found is None:
            found = self.inner.map(image)
            self.memo.keep("control", name, found)
        return found.to(image.device)
