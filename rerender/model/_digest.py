"""A short hash of a loaded model."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from typing import Any

import torch


def digest_of(
    scheduler: Mapping[str, Any], tokenizers: Sequence[Any], networks: Sequence[Any]
) -> str:
    """A hash of all weights, and of what decides results besides them: equal weights under another
    noise schedule, say, or with another scale of the latents, are another model.

    Args:
        scheduler: the configuration of the scheduler.
        tokenizers: of transformers.
        networks: of diffusers or transformers.
    """
    found = hashlib.sha256()
    found.update(_canonical(dict(scheduler)))
    for tokenizer in tokenizers:
        words = sorted(tokenizer.get_vocab().items())
        found.update(_canonical([tokenizer.model_max_length, words]))
    for network in networks:
        found.update(_canonical(_settings(network.config)))
        for name, weight in sorted(network.state_dict().items()):
            found.update(name.encode())
            found.update(weight.detach().cpu().contiguous().view(-1).view(torch.uint8).numpy().data)
    return found.hexdigest()[:16]


def _settings(config: Any) -> dict[str, Any]:
    """A network's configuration without what only says who wrote it, and when."""
    said = config.to_dict() if hasattr(config, "to_dict") else dict(config)
    idle = ("dtype", "torch_dtype", "transformers_version", "architectures")
    return {k: v for k, v in said.items() if not k.startswith("_") and k not in idle}


def _canonical(value: Any) -> bytes:
    """The same bytes for the same configuration, whatever the order of its keys."""
    return json.dumps(value, sort_keys=True, default=str).encode()
