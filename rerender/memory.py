"""The most memory that this process has held since it was last asked to begin."""

from __future__ import annotations

import ctypes
import gc
import os
from contextlib import suppress
from pathlib import Path

import torch

_MIB = 2**20


def begin() -> None:
    """Give back what is not used any more, and measure the peak from now on."""
    gc.collect()
    if _on_gpu():
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats()
    with suppress(OSError, AttributeError):  # another C library
        ctypes.CDLL(None).malloc_trim(0)
    with suppress(OSError):  # not Linux
        switch = os.open("/proc/self/clear_refs", os.O_WRONLY)
        try:
            os.write(switch, b"5")  # sets the high-water mark to what is held now
        finally:
            os.close(switch)


def peak() -> float | None:
    """The peak since `begin` in MiB: of the GPU's memory where one computes, else of the process
    with all it has loaded; None where the system does not say."""
    if _on_gpu():
        return torch.cuda.max_memory_allocated() / _MIB
    with suppress(OSError, ValueError, IndexError):
        status = Path("/proc/self/status").read_text(encoding="ascii", errors="replace")
        return int(status.partition("VmHWM:")[2].split()[0]) / 1024
    return None


def _on_gpu() -> bool:
    return torch.cuda.is_available() and torch.cuda.max_memory_allocated() > 0
