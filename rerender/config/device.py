"""Whether this machine has the devices that a configuration names."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import fields, is_dataclass
from typing import Any, get_type_hints

from rerender.errors import ConfigError
from rerender.kinds import Device

_KINDS = ("cpu", "cuda", "mps")


def check_devices(part: Any) -> None:
    """Refuse a device that is not here, before anything is loaded onto it.

    Args:
        part: a job, or any part of one.

    Raises:
        ConfigError: naming the key.
    """
    for key, name in _named(part, ""):
        if name == "auto":
            continue
        kind, _, number = name.partition(":")
        if kind not in _KINDS or (number and not number.isdecimal()) or name.endswith(":"):
            cure = "write auto, cpu, cuda, cuda:1 or mps"
            raise ConfigError(key, f"is no device, received {name!r}", cure)
        here = _count(kind)
        if int(number or 0) >= here:
            problem = f"there is no {name} here, only {here} of that kind"
            raise ConfigError(key, problem, f"use {key}=auto")


def _count(kind: str) -> int:
    import torch

    if kind == "cuda":
        return torch.cuda.device_count() if torch.cuda.is_available() else 0
    return int(kind == "cpu" or torch.backends.mps.is_available())


def _named(part: Any, key: str) -> Iterator[tuple[str, str]]:
    """(key, name) of every device that a part and its parts name."""
    if isinstance(part, (tuple, list)):
        for item in part:
            yield from _named(item, key)
        return
    if not is_dataclass(part):
        return
    hints = get_type_hints(type(part), include_extras=True)
    for field in fields(part):
        value = getattr(part, field.name)
        where = f"{key}.{field.name}" if key else field.name
        if field.name == "parts":
            where = ""
        if hints.get(field.name) == Device:
            yield where, value
        elif is_dataclass(value) or isinstance(value, (tuple, list)):
            yield from _named(value, where)
