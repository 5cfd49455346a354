"""Style-aware cross-frame attention (Rerender §4.1, eq. 6)."""

from __future__ import annotations

from dataclasses import dataclass

from rerender.contracts import Constraint, Edits, Model, StoredContext
from rerender.errors import ConfigError
from rerender.scene import Layer, Scene


@dataclass(frozen=True, kw_only=True)
class CrossFrame(Constraint):
    """Decoder self-attention attends to the first and to a previous key frame, not to its own:

        Attention(Q(h), K(h'), V(h')),   h' = [h of the anchor; h of the previous one]       (eq. 6)

    Keys and values are made of the hidden states h that those frames had at the same step and layer
    and in the same guidance branch; queries stay the frame's own.

    Attributes:
        loose: leave the coarsest decoder layers to themselves, for more freedom in shape.
        refresh: take the hidden states of a new previous key frame every so many key frames; 0
            stays with the anchor's.
    """

    loose: bool = False
    refresh: int = 1

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.refresh < 0:
            raise ConfigError(
                "constraint.cross_frame.refresh",
                f"counts key frames, received {self.refresh}",
                "use 1 for every key frame, 0 for never",
            )

    def acts_on(self, layer: Layer) -> bool:
        """Whether the layer is one of those the paper changes."""
        return layer.place == "up" and not (self.loose and layer.level == 0)

    def remembers(self, layer: Layer, ordinal: int) -> bool:
        renews = self.refresh > 0 and ordinal % self.refresh == 0
        return self.acts_on(layer) and (ordinal == 0 or renews)

    def bind(self, scene: Scene, model: Model) -> Edits:
        anchor, remembered = scene.anchor.trace, scene.remembered.trace

        # The same hidden states twice weigh the same as once.
        traces = (anchor,) if remembered is anchor else (anchor, remembered)
        return Edits(attend=StoredContext(traces, self.acts_on))
