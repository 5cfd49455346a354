"""What self-attention makes keys and values of, where that is known before an evaluation."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from rerender.contracts.constraint import Attend
from rerender.scene import Layer, Trace


@dataclass(frozen=True)
class StoredContext:
    """An edit of ``Edits.attend`` that reads stored hidden states only,

        h' = [h of traces[0]; h of traces[1]; ...]

    at the same step and layer. What it reads is known before an evaluation, which can then be
    replayed as a CUDA graph; any other function is called while the network runs.

    Attributes:
        traces: whose hidden states, in order.
        acts_on: whether it acts on a layer; others keep what they have.
    """

    traces: tuple[Trace, ...]
    acts_on: Callable[[Layer], bool]

    def stored(self, layer: Layer, step: int, like: Tensor) -> tuple[Tensor, ...]:
        """What it reads, ``[B,N,C]`` each, in the type and on the device of ``like``; () of layers
        on which it does not act."""
        if not self.acts_on(layer):
            return ()
        return tuple(trace.recall(step, layer, like) for trace in self.traces)

    def __call__(self, layer: Layer, hidden_states: Tensor, step: int) -> Tensor:
        found = self.stored(layer, step, hidden_states)
        return joined(found) if found else hidden_states


def joined(contexts: tuple[Tensor, ...]) -> Tensor:
    """Contexts ``[B,N,C]`` one after the other, ``[B,M,C]``; a single one is itself."""
    return contexts[0] if len(contexts) == 1 else torch.cat(contexts, 1)


@dataclass(frozen=True)
class AttentionContext:
    """What self-attention of one request makes keys and values of: hidden states are recorded
    first, then edited in turn.

    Attributes:
        step: executed step.
        edits: applied in turn.
        trace: where hidden states are recorded; None records none.
        layers: names of the layers whose hidden states are recorded.
    """

    step: int
    edits: tuple[Attend, ...] = ()
    trace: Trace | None = None
    layers: frozenset[str] = frozenset()

    def __call__(self, layer: Layer, hidden_states: Tensor) -> Tensor:
        self.record(layer, hidden_states)
        for edit in self.edits:
            hidden_states = edit(layer, hidden_states, self.step)
        return hidden_states

    def record(self, layer: Layer, hidden_states: Tensor) -> None:
        """Keep the hidden states ``[B,N,C]`` of a layer, if they are wanted."""
        if self.trace is not None and layer.name in self.layers:
            self.trace.keep(self.step, layer, hidden_states)

    @property
    def known(self) -> bool:
        """Whether all that it reads is known before the evaluation."""
        return all(isinstance(edit, StoredContext) for edit in self.edits)

    def stored(self, layer: Layer, like: Tensor) -> tuple[Tensor, ...]:
        """What a layer attends to where that is `known`, ``[B,N,C]`` each, one after the other; ()
        for its own hidden states."""
        for edit in reversed(self.edits):
            found = edit.stored(layer, self.step, like) if isinstance(edit, StoredContext) else ()
            if found:
                return found
        return ()
