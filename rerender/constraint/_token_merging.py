"""Bipartite matching and merging of tokens (ToMe, Bolya et al. 2023, arXiv 2210.09461)."""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor


@dataclass(frozen=True)
class Merge:
    """Which tokens of a set are merged into which of another, for each branch.

    Attributes:
        kept: ``[B,S-r]``: source tokens that stay.
        moved: ``[B,r]``: source tokens that are merged.
        into: ``[B,r]``: destination token of each of them.
    """

    kept: Tensor
    moved: Tensor
    into: Tensor

    def merge(self, source: Tensor, destination: Tensor) -> Tensor:
        """``[B,S-r+T,C]``: what stays of the source, then the destination, each token the mean of
        itself and those merged into it."""
        moved, into = (
            gather(source, self.moved),
            self.into[..., None].expand(-1, -1, source.shape[-1]),
        )
        mean = destination.scatter_reduce(1, into, moved, "mean", include_self=True)
        return torch.cat([gather(source, self.kept), mean], 1)

    def unmerge(self, merged: Tensor) -> tuple[Tensor, Tensor]:
        """Source ``[B,S,C]`` and destination ``[B,T,C]``; a merged token is what it went into."""
        stay = self.kept.shape[1]
        destination = merged[:, stay:]
        total, width = stay + self.moved.shape[1], merged.shape[-1]
        source = merged.new_empty(merged.shape[0], total, width)
        source.scatter_(1, self.kept[..., None].expand(-1, -1, width), merged[:, :stay])
        moved = gather(destination, self.into)
        source.scatter_(1, self.moved[..., None].expand(-1, -1, width), moved)
        return source, destination


def match(source: Tensor, destination: Tensor, ratio: float) -> Merge:
    """The share ``ratio`` of source tokens ``[B,S,C]`` that are most like a destination token
    ``[B,T,C]`` (cosine) is merged into it."""
    similarity = F.normalize(source.float(), dim=-1) @ F.normalize(destination.float(), dim=-1).mT
    best, into = similarity.max(-1)
    order = best.argsort(dim=-1, descending=True, stable=True)
    count = int(ratio * source.shape[1])
    moved, kept = order[:, :count], order[:, count:].sort(-1).values
    return Merge(kept, moved, into.gather(1, moved))


def gather(tokens: Tensor, index: Tensor) -> Tensor:
    """``[B,K,C]``: the tokens ``index [B,K]`` of ``[B,N,C]``."""
    return tokens.gather(1, index[..., None].expand(-1, -1, tokens.shape[-1]))
