"""What the requests of a batch attend to and record, as named inputs and outputs of an evaluation
that is replayed."""

from __future__ import annotations

from collections.abc import Callable, Mapping, MutableMapping, Sequence
from typing import NamedTuple

from torch import Tensor

from rerender.contracts import AttentionContext, Condition, NoiseRequest
from rerender.contracts.context import joined
from rerender.scene import Layer


class Contexts(NamedTuple):
    """Stored hidden states that a batch reads.

    Attributes:
        stored: hidden states ``[B,N,C]`` by name; what several requests read is there once.
        read: for each request, the names that make up the context of each layer that is not left
            to itself.
        recorded: names of the layers whose hidden states some request keeps.
    """

    stored: dict[str, Tensor]
    read: tuple[tuple[tuple[str, tuple[str, ...]], ...], ...]
    recorded: tuple[str, ...]

    @classmethod
    def of(
        cls, requests: Sequence[NoiseRequest], layers: Sequence[Layer], like: Tensor
    ) -> Contexts | None:
        """What a batch reads; None where some request decides it while the network runs.

        Args:
            requests: those of the batch.
            layers: the self-attention layers.
            like: a tensor in the type and on the device of the network.
        """
        if any(request.maps or request.joint for request in requests):
            return None
        stored: dict[str, Tensor] = {}
        names: dict[tuple[str, int], str] = {}
        read: list[tuple[tuple[str, tuple[str, ...]], ...]] = []
        recorded: set[str] = set()
        for request in requests:
            attend = request.attend
            if attend is None:
                read.append(())
                continue
            if not isinstance(attend, AttentionContext) or not attend.known:
                return None
            recorded |= attend.layers
            own = []
            for layer in layers:
                found = []
                for each in attend.stored(layer, like):
                    key = (layer.name, id(each))
                    if key not in names:
                        number = sum(name == layer.name for name, _ in names)
                        names[key] = f"{layer.name} {number}"
                        stored[names[key]] = each
                    found.append(names[key])
                if found:
                    own.append((layer.name, tuple(found)))
            read.append(tuple(own))
        return cls(stored, tuple(read), tuple(sorted(recorded)))

    @property
    def key(self) -> tuple[object, ...]:
        """What of it decides the kernels."""
        return self.read, self.recorded

    def requests(
        self, inputs: Mapping[str, Tensor], outputs: MutableMapping[str, Tensor]
    ) -> list[NoiseRequest]:
        """Requests that ask attention for the same, in place of those of the batch: they read
        ``inputs`` and leave hidden states in ``outputs``. None where nothing is asked."""
        if not self.recorded and not any(self.read):
            return []
        recorded = frozenset(self.recorded)
        hooks = [
            _hook(number, dict(own), recorded, inputs, outputs)
            for number, own in enumerate(self.read)
        ]
        nothing = inputs["noisy"][:0]
        return [NoiseRequest(nothing, 0, Condition(nothing), (), hook) for hook in hooks]

    def record(
        self,
        requests: Sequence[NoiseRequest],
        layers: Sequence[Layer],
        outputs: Mapping[str, Tensor],
    ) -> None:
        """Keep the hidden states that requests want."""
        for number, request in enumerate(requests):
            if isinstance(request.attend, AttentionContext):
                for layer in layers:
                    if layer.name in request.attend.layers:
                        request.attend.record(layer, outputs[f"{number} {layer.name}"])


def _hook(
    number: int,
    read: Mapping[str, tuple[str, ...]],
    recorded: frozenset[str],
    inputs: Mapping[str, Tensor],
    outputs: MutableMapping[str, Tensor],
) -> Callable[[Layer, Tensor], Tensor]:
    def attend(layer: Layer, hidden_states: Tensor) -> Tensor:
        if layer.name in recorded:
            outputs[f"{number} {layer.name}"] = hidden_states
        if layer.name not in read:
            return hidden_states
        return joined(tuple(inputs[name] for name in read[layer.name]))

    return attend
