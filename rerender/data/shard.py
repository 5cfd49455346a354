"""A share of a data set, so that its clips can be jobs of their own."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import TypeVar

from rerender.errors import ConfigError

Item = TypeVar("Item")
EACH = "each"  # all of them, each as a job of its own


def share(items: Sequence[Item], shard: str | None) -> list[Item]:
    """Every n-th of some items, from the i-th on, for a shard ``i/n`` that counts from 0.

    Without a shard, and for ``each``, all of them. The shards of one n hold every item exactly
    once, and their sizes differ by one at most. An item that is added at the end moves no other.

    Raises:
        ConfigError: the shard is malformed, or holds nothing.
    """
    if shard is None or shard == EACH:
        return list(items)
    part, parts = parsed(shard)
    if part >= len(items):
        problem = f"{shard} holds none of the {len(items)} clips"
        raise ConfigError("data.shard", problem, f"take at most {len(items)} shards")
    return list(items[part::parts])


def parsed(shard: str) -> tuple[int, int]:
    """The i and the n of a shard ``i/n``.

    Raises:
        ConfigError: it is malformed.
    """
    found = re.fullmatch(r"(\d{1,9})/(\d{1,9})", shard, re.ASCII)
    part, parts = (int(found[1]), int(found[2])) if found else (1, 0)
    if part >= parts:
        problem = f"is not one of the shards 0/n to (n-1)/n, received {shard!r}"
        raise ConfigError("data.shard", problem, "write data.shard=0/8,1/8,… or leave it out")
    return part, parts
