"""A device that is only claimed: its tensors are computed on the CPU, say that they are elsewhere,
refuse operands that are not, and count what a program on the CPU would have to wait for.

The device is called ``meta``: torch takes that name without a driver. What it cannot show are
missing kernels, other rounding, memory and time.
"""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from types import FrameType
from typing import Any

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves, tree_map

DEVICE = torch.device("meta")
aten = torch.ops.aten
READS = {
    aten._local_scalar_dense.default: "read",
    aten.is_nonzero.default: "read",
    aten.equal.default: "read",
    aten.nonzero.default: "shape",
    aten.masked_select.default: "shape",
    aten._unique2.default: "shape",
}
"""Operators whose answer the CPU needs: a number, or the shape of a result."""
COPIES = (aten._to_copy.default, aten.copy_.default)
INDEXING = (
    *(aten.index.Tensor, aten.index_put.default, aten.index_put_.default),
    aten._unsafe_index.Tensor,
)
FOREIGN = "elsewhere"


class Claimed(Tensor):
    """A tensor on the pretended device."""

    held: Tensor

    @staticmethod
    def __new__(cls, held: Tensor) -> Claimed:
        made: Claimed = Tensor._make_wrapper_subclass(
            cls,
            held.shape,
            strides=held.stride(),
            storage_offset=held.storage_offset(),
            dtype=held.dtype,
            device=DEVICE,
        )
        made.held = held
        return made

    def __repr__(self, **more: Any) -> str:  # type: ignore[override]
        return f"Claimed({tuple(self.shape)}, {self.dtype})"

    def numpy(self, *args: Any, **more: Any) -> Any:
        raise TypeError("can't convert a tensor of a device to numpy: use Tensor.cpu() first")

    def __array__(self, *args: Any, **more: Any) -> Any:
        return self.numpy()

    def tolist(self) -> Any:
        return self.cpu().tolist()

    @classmethod
    def __torch_dispatch__(  # type: ignore[override]  # every mode of torch takes it so
        cls, func: Any, types: Any, args: Any = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        raise AssertionError(f"{func} on the pretended device, which is not there any more")


class Waits(TorchDispatchMode):
    """While it lasts, the pretended device exists.

    Attributes:
        found: how often the CPU waited, by (kind, line of the project). Kinds: ``read`` (a number),
            ``shape`` (of a result that depends on numbers), ``download`` and ``upload`` (copies;
            an upload from memory that is not pinned waits too, one that does not is ``pinned``).
    """

    def __init__(self) -> None:
        super().__init__()
        self.found: Counter[tuple[str, str]] = Counter()

    def count(self, kind: str) -> None:
        self.found[kind, line()] += 1

    def total(self, *kinds: str) -> int:
        return sum(count for (kind, _), count in self.found.items() if kind in kinds)

    def __enter__(self) -> Any:
        self._lifting = torch._C._only_lift_cpu_tensors()  # as fake tensors do
        torch._C._set_only_lift_cpu_tensors(True)
        return super().__enter__()

    def __exit__(self, *error: Any) -> None:
        torch._C._set_only_lift_cpu_tensors(self._lifting)
        super().__exit__(*error)

    def __torch_dispatch__(
        self, func: Any, types: Any, args: Any = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        kwargs = dict(kwargs or {})
        tensors = [each for each in tree_leaves((args, kwargs)) if isinstance(each, Tensor)]
        here = [each for each in tensors if not isinstance(each, Claimed)]
        there = [each for each in tensors if isinstance(each, Claimed)]
        asked = kwargs.get("device")
        onto = bool(there) if asked is None else torch.device(asked).type == DEVICE.type
        if func in COPIES:
            source = args[0] if func is COPIES[0] else args[1]
            if func is COPIES[1]:
                onto = isinstance(args[0], Claimed)
            if isinstance(source, Claimed) != onto:
                aside = kwargs.get("non_blocking", len(args) > 2 and args[2])
                kind = "upload" if onto else "download"
                self.count("pinned" if onto and aside and hasattr(source, "pinned") else kind)
        elif there:
            self._operands(func, args, here)
        generator = kwargs.get("generator")
        if onto and generator is not None:
            raise RuntimeError(f"a generator of the CPU for {func} on the device, {line()}")
        if asked is not None:
            kwargs["device"] = torch.device("cpu")
        kwargs.pop("pin_memory", None)
        out = func(*bare(args), **bare(kwargs))
        if not onto:
            return out
        known = {id(each.held): each for each in there}  # what was changed in place

        def claimed(x: Any) -> Any:
            if not isinstance(x, Tensor):
                return x
            return known[id(x)] if id(x) in known else Claimed(x)

        return tree_map(claimed, out)

    def _operands(self, func: Any, args: Sequence[Any], here: Sequence[Tensor]) -> None:
        """Refuse what a device refuses; count what makes the CPU wait."""
        if func in READS:
            self.count(READS[func])
        mixed = [each for each in here if each.dim()]
        if func in INDEXING and isinstance(args[0], Claimed):
            indices = [each for each in args[1] if each is not None]
            if any(each.dtype in (torch.bool, torch.uint8) for each in indices):
                self.count("shape")
            if any(not isinstance(each, Claimed) for each in indices):
                self.count("upload")  # torch takes indices from the CPU
            chosen = {id(each) for each in indices}
            mixed = [each for each in mixed if id(each) not in chosen]
        if mixed:
            shapes = [tuple(each.shape) for each in mixed]
            raise RuntimeError(f"{func} on the device gets {shapes} of the CPU, {line()}")


class Makers(TorchFunctionMode):
    """What makes tensors of numbers looks for the driver before it dispatches: they are made on the
    CPU, then moved."""

    def __torch_function__(
        self, func: Any, types: Any, args: Any = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        kwargs = dict(kwargs or {})
        if func is Tensor.pin_memory:
            copy = args[0].clone()
            copy.pinned = True
            return copy
        device = kwargs.get("device")
        claimed = device is not None and torch.device(device).type == DEVICE.type
        if func in (torch.tensor, torch.as_tensor) and claimed:
            kwargs.pop("device")
            return func(*args, **kwargs).to(DEVICE)
        if func is Tensor.new_tensor and isinstance(args[0], Claimed):
            dtype = kwargs.get("dtype", args[0].dtype)
            return torch.tensor(args[1], dtype=dtype).to(DEVICE)
        return func(*args, **kwargs)


def bare(tree: Any) -> Any:
    """The tensors of the CPU that claimed ones are computed with."""
    return tree_map(lambda x: x.held if isinstance(x, Claimed) else x, tree)


def line() -> str:
    """The line of the project that asked, the innermost one; of `upload`, who called it."""
    frame: FrameType | None = sys._getframe(1)
    while frame is not None:
        for package in ("/rerender/", "/eval/"):
            _, found, path = frame.f_code.co_filename.rpartition(package)
            if found and path != "contracts/upload.py":
                return f"{found[1:]}{path}:{frame.f_lineno}"
        frame = frame.f_back
    return FOREIGN


@contextmanager
def pretended() -> Iterator[Waits]:
    """The device is there; models moved onto it get new parameters."""
    before = torch.__future__.get_overwrite_module_params_on_conversion()
    torch.__future__.set_overwrite_module_params_on_conversion(True)
    try:
        with Waits() as waits, Makers():
            yield waits
    finally:
        torch.__future__.set_overwrite_module_params_on_conversion(before)
