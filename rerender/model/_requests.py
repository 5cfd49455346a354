"""What the networks read of the requests of a batch: which share one, and their tensors joined."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from rerender.contracts import NoiseRequest


def batches(requests: Sequence[NoiseRequest]) -> list[tuple[bool, list[int]]]:
    """Numbers of the requests that share a batch, and whether it keeps a graph for autograd: they
    have as many branches and the same adapters, and a graph is shared only by those that look at
    each other."""
    groups: dict[Any, list[int]] = {}
    for index, request in enumerate(requests):
        alone = _traced(request) and request.joint is None
        branches, adapters = request.condition.prompt_embeds.shape[0], request.adapter_scale
        key = (branches, adapters, index if alone else -1)
        groups.setdefault(key, []).append(index)
    return [(any(_traced(requests[i]) for i in group), group) for group in groups.values()]


def inputs_of(
    requests: Sequence[NoiseRequest], networks: int, device: torch.device
) -> dict[str, Tensor]:
    """All tensors that an evaluation of a batch reads; which there are decides what is run.
    Controls at 0 are left out.

    Args:
        requests: of one batch.
        networks: number of control networks.
        device: where the networks compute.

    Returns:
        ``noisy [N,C,h,w]`` and, with ``B`` branches of guidance for each request, ``text
        [N*B,T,D]`` and ``steps [N*B]``; ``image_latents``, ``guidance_embed``, ``pooled_embeds``
        and ``image_embeds`` where conditions hold them; ``control K [N,...]`` and ``weight K
        [N*B]`` for each network that is asked.
    """
    branches = requests[0].condition.prompt_embeds.shape[0]
    text = torch.cat([request.condition.prompt_embeds for request in requests])
    found = {
        "noisy": torch.cat([request.noisy for request in requests]).to(device),
        "text": text,
        "steps": repeated(text.new_empty(0).long(), [q.timestep for q in requests], branches),
    }
    for name in ("image_latents", "guidance_embed", "pooled_embeds", "image_embeds"):
        told = _joined(requests, name)
        if told is not None:
            found[name] = told
    for index in range(networks):
        given = [request.conditioning_scale for request in requests]
        scale = [each[index] if each else 0.0 for each in given]
        if any(scale):
            controls = [request.condition.control_embeds[index] for request in requests]
            found[f"control {index}"] = torch.cat(controls)
            found[f"weight {index}"] = repeated(text, scale, branches)
    return found


def guidance_embedding(scale: Tensor, width: int) -> Tensor:
    """The embedding ``[B,width]`` of w = scale - 1, in thousands, of ``[B]`` guidance scales, by
    sines and cosines (Meng et al. 2023, arXiv 2210.03142; Luo et al. 2023, arXiv 2310.04378)."""
    half = width // 2
    rates = torch.exp(torch.arange(half) * -(math.log(10000.0) / (half - 1))).to(scale.device)
    angles = ((scale - 1) * 1000.0).float()[:, None] * rates
    embed = torch.cat([angles.sin(), angles.cos()], 1)
    return nn.functional.pad(embed, (0, width % 2))


def repeated(like: Tensor, values: Sequence[float], times: int = 1) -> Tensor:
    """Each value so many times in a row, ``[len(values) * times]``, in the type and on the device
    of ``like``. Filled there: the processor waits for a copy of numbers to a device, not for a
    fill."""
    return torch.cat([like.new_full((times,), value) for value in values])


def _joined(requests: Sequence[NoiseRequest], name: str) -> Tensor | None:
    """Something that conditions hold by branch, for a batch; None where they do not."""
    found = [getattr(request.condition, name) for request in requests]
    return None if found[0] is None else torch.cat(found)


def _traced(request: NoiseRequest) -> bool:
    """Whether gradients are asked for."""
    return request.noisy.requires_grad or request.condition.prompt_embeds.requires_grad
