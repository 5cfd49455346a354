"""How loops over pixels are compiled: once for each machine, without the interpreter's lock; and
whether a GPU has its own."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from functools import cache
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any, TypeVar, cast

if TYPE_CHECKING:
    import torch

log = logging.getLogger(__name__)

_unkept: list[str] = []  # loops that are compiled again in every process

Loop = TypeVar("Loop", bound=Callable[..., object])


def compiled(loop: Loop) -> Loop:
    """A loop over whole numbers, or one whose order of additions must be kept."""
    return cast(Loop, _compiled(loop, nogil=True))


def reassociated(loop: Loop) -> Loop:
    """A loop over real numbers that may be regrouped for speed. The grouping is fixed when it is
    compiled, so one machine makes the same bytes every time; another machine may differ in the last
    bit."""
    return cast(Loop, _compiled(loop, nogil=True, fastmath=True))


def fused(device: torch.device) -> bool:
    """Whether loops are Triton kernels there: on a GPU where Triton is installed (it comes with
    PyTorch for Linux only). Elsewhere on a GPU they are operators of PyTorch."""
    return device.type == "cuda" and _triton()


@cache
def _triton() -> bool:
    found = find_spec("triton") is not None
    if not found:
        log.warning("no Triton is installed: propagation on the GPU takes PyTorch's operators")
    return found


def compile_seconds() -> float:
    """Processor seconds that this process has spent on compiling loops so far; loops that were
    compiled before, by any process, are read instead."""
    return sum(_spent)


_spent: list[float] = []


@cache
def _watched() -> None:
    """Note what compiling takes, from now on."""
    from numba.core import event

    class Watch(event.Listener):  # type: ignore[misc]  # numba has no types
        """Adds up the outermost compilations; those of loops that a loop calls lie within."""

        def __init__(self) -> None:
            self._begun: list[float] = []

        def on_start(self, event: object) -> None:
            self._begun.append(time.process_time())

        def on_end(self, event: object) -> None:
            begun = self._begun.pop()
            if not self._begun:
                _spent.append(time.process_time() - begun)

    event.register("numba:compile", Watch())


def _compiled(loop: Callable[..., object], **how: Any) -> object:
    from numba import njit

    _watched()
    try:
        return njit(cache=True, **how)(loop)
    except RuntimeError:  # neither the installation nor a home can be written to
        _unkept.append(loop.__qualname__)
        return njit(**how)(loop)


def warn_unkept() -> None:
    """Say once that compiled loops cannot be kept on this machine, where that is so."""
    if _unkept:
        log.warning(
            "numba: no folder can be written to, so that its loops are compiled anew by every "
            "process, which takes seconds; set NUMBA_CACHE_DIR to a folder of yours"
        )
