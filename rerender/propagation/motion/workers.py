"""The threads that both directions of every segment run on, and the memory that they share.

The threads live as long as the process: memory that a thread has freed is kept for that thread by
most allocators, so new threads for every segment would make a long clip hold ever more of it.
"""

from __future__ import annotations

import ctypes
import os
import sys
from concurrent.futures import ThreadPoolExecutor
from functools import lru_cache

KEPT = {-8: 1, -3: 1 << 30, -1: 256 << 20}
"""Settings of glibc's allocator: all threads share what is freed (M_ARENA_MAX); arrays of that many
bytes are kept when they are freed (M_MMAP_THRESHOLD), and so many bytes of them at most in a row
(M_TRIM_THRESHOLD)."""


@lru_cache(maxsize=1)
def workers() -> ThreadPoolExecutor:
    """One thread for each core, at least one for each direction. What runs on them must not wait
    for them."""
    keep_memory()
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    return ThreadPoolExecutor(max(2, cores or 2), thread_name_prefix="propagation")


def keep_memory() -> None:
    """Tell the C library to keep what is freed. Else each frame's arrays go back to the system and
    come again as new pages, which must be cleared: a tenth of the time of a large frame."""
    if sys.platform == "linux":
        adjust = getattr(ctypes.CDLL(None), "mallopt", None)
        for setting, value in KEPT.items():
            if adjust is not None:
                adjust(setting, value)


if hasattr(os, "register_at_fork"):
    # A child process has none of its parent's threads.
    os.register_at_fork(after_in_child=workers.cache_clear)
