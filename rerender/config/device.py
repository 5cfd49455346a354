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
    several = getattr(part, "devices", ())
    if "auto" in several:
        raise ConfigError("devices", "auto names none", "name each: devices=[cuda:0,cuda:1]")
    for key, name in [*(("devices", name) for name in several), *_named(part, "")]:
        if name == "auto":
            continue
        kind, _, number = name.partition(":")
        if kind not in _KINDS or (number and not number.isdecimal()) or name.endswith(":"):
            cure = "write auto, cpu, cuda, cuda:1 or mps"
            raise ConfigError(key, f"is no device, received {name!r}", cure)
        here = _count(kind)
        if int(number or 0) >= here:
            problem = f"there is no {name} here, only {here} of that kind"
            cure = "name those that are here" if key == "devices" else f"use {key}=auto"
            raise ConfigError(key, problem, cure)
    if len(kinds := {_kind(name) for name in several}) > 1:
        problem = f"they are of different kinds ({', '.join(sorted(kinds))}) and make other bytes"
        raise ConfigError("devices", problem, "name devices of one kind")


def _kind(name: str) -> str:
    """What a device is: two that are the same make the same bytes."""
    import torch

    return torch.cuda.get_device_name(name) if name.startswith("cuda") else name


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
