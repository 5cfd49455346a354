"""The threads that both directions of every segment run on.

They live as long as the process: memory that a thread has freed is kept for that thread by most
allocators, so new threads for every segment would make a long clip hold ever more of it.
"""

from __future__ import annotations

import os
from concurrent.futures import ThreadPoolExecutor
from functools import lru_cache


@lru_cache(maxsize=1)
def workers() -> ThreadPoolExecutor:
    """One thread for each core, at least one for each direction. What runs on them must not wait
    for them."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    return ThreadPoolExecutor(max(2, cores or 2), thread_name_prefix="propagation")


if hasattr(os, "register_at_fork"):
    # A child process has none of its parent's threads.
    os.register_at_fork(after_in_child=workers.cache_clear)
