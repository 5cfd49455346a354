"""Keys and choices of earlier versions: refused with the name they have now."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from rerender.errors import ConfigError

KEYS = {
    "sampling.lanes": "sampling.batch_size",
    "constraint.guided.size": "constraint.guided.step_size",
    "constraint.cross_guidance.size": "constraint.cross_guidance.step_size",
    "constraint.self_maps.tokens": "constraint.self_maps.max_query_tokens",
    "propagation.blend.official_pairing": "propagation.blend.published_pairing",
    "propagation.blend.official_cut": "propagation.blend.published_cut",
    "model.suits": "model.recommended",
    "variant": "method",
}
"""Old key: new key; what lies below an old key moved with it."""

_INTERVALS = (1, 5, 10, 20, 40)
_FILLS = ("hold", "nearest", "patchmatch", "source_mix", "warp")
CHOICES = {
    ("exp", "paper"): "preset=paper",
    ("exp", "official"): "preset=published",
    ("exp", "fast"): "preset=fast",
    ("propagation", "faithful"): "propagation=published",
    ("sampling.rounding", "official"): "sampling.rounding=published",
    ("variant", "per_frame"): "method=every_frame",
    ("variant", "fill_faithful"): "propagation=published",
    **{("variant", f"fill_{name}"): f"propagation={name}" for name in _FILLS},
    **{("variant", f"interval_{n:02}"): f"keyframes.interval={n}" for n in _INTERVALS},
}
"""(group or key, old choice or value): what says the same now."""


def check_renamed(key: str, values: Sequence[Any]) -> None:
    """Refuse a setting under a name that it had in an earlier version.

    Args:
        key: a key or group of the command line, without its ``+``.
        values: what is said for it, several in a sweep.

    Raises:
        ConfigError: naming what says the same now.
    """
    for value in values:
        if isinstance(value, str) and (key, value) in CHOICES:
            now = CHOICES[key, value]
            raise ConfigError(key, f"no choice {value!r}", f"did you mean {now}?")
    for old, new in KEYS.items():
        if key == old or key.startswith(f"{old}."):
            said = f"{new}={values[0]}" if key == "variant" and values else new + key[len(old) :]
            raise ConfigError(key, "unknown key", f"did you mean {said}?")
