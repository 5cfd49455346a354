"""How loops over pixels are compiled: once for each machine, without the interpreter's lock."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar, cast

from numba import njit

Loop = TypeVar("Loop", bound=Callable[..., object])


def compiled(loop: Loop) -> Loop:
    """A loop over whole numbers, or one whose order of additions must be kept."""
    return cast(Loop, njit(cache=True, nogil=True)(loop))


def reassociated(loop: Loop) -> Loop:
    """A loop over real numbers that may be regrouped for speed. The grouping is fixed when it is
    compiled, so one machine makes the same bytes every time; another machine may differ in the last
    bit."""
    return cast(Loop, njit(cache=True, nogil=True, fastmath=True)(loop))
