"""The memory of this process: the most it has held since it was last asked to begin, and giving
back what it does not use."""

from __future__ import annotations

import ctypes
import gc
import os
import time
from contextlib import suppress
from pathlib import Path

import torch

_MIB = 2**20
_CGROUP = ("memory.max", "memory.current")
_ARENA_MAX = -8  # its number in glibc's malloc.h


_earlier = False  # whether this process has computed what may have left garbage


def begin() -> None:
    """Give back what is not used any more, and measure the peak from now on."""
    global _earlier
    if _earlier:  # looking through all that libraries hold takes half a second
        gc.collect()
    _earlier = True
    if _on_gpu():
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats()
    give_back()
    with suppress(OSError):  # not Linux
        switch = os.open("/proc/self/clear_refs", os.O_WRONLY)
        try:
            os.write(switch, b"5")  # sets the high-water mark to what is held now
        finally:
            os.close(switch)


def share() -> None:
    """Have threads that start from now on allocate from one pool. Those of decoders come and go
    with every file, and each pool keeps what is free in it."""
    with suppress(OSError, AttributeError):
        ctypes.CDLL(None).mallopt(_ARENA_MAX, 1)


def give_back() -> None:
    """Return to the system what the C library keeps of freed memory. Frames live for a while
    between smaller things, and the gaps that they leave would add up over a long video."""
    with suppress(OSError, AttributeError):  # another C library
        ctypes.CDLL(None).malloc_trim(0)


def peak() -> float | None:
    """The peak since `begin` in MiB: of the GPU's memory where one computes, else of the process
    with all it has loaded; None where the system does not say."""
    if _on_gpu():
        return torch.cuda.max_memory_allocated() / _MIB
    with suppress(OSError, ValueError, IndexError):
        status = Path("/proc/self/status").read_text(encoding="ascii", errors="replace")
        return int(status.partition("VmHWM:")[2].split()[0]) / 1024
    return None


def available() -> int | None:
    """Bytes that this machine, or the container that the process is in, can still give; None where
    the system does not say."""
    found: list[int] = []
    with suppress(OSError, ValueError, IndexError):
        text = Path("/proc/meminfo").read_text(encoding="ascii", errors="replace")
        found.append(int(text.partition("MemAvailable:")[2].split()[0]) * 1024)
    with suppress(OSError, ValueError):  # no container of the second version of cgroups
        limit, used = (int(Path("/sys/fs/cgroup", name).read_text()) for name in _CGROUP)
        found.append(max(limit - used, 0))
    return min(found, default=None)


def compute_seconds() -> float:
    """What computing has cost this process so far: seconds of the processor, over all threads and
    finished children. Where an accelerator computes, seconds on the clock, taken when it has done
    what it was asked for: it is this process's alone."""
    if _on_gpu():
        torch.cuda.synchronize()
        return time.monotonic()
    spent = os.times()
    return spent.user + spent.system + spent.children_user + spent.children_system


def _on_gpu() -> bool:
    return torch.cuda.is_available() and torch.cuda.max_memory_allocated() > 0
