"""Cross-frame attention to the first frame (Text2Video-Zero, Khachatryan et al. 2023, arXiv
2303.13439, section 3.4)."""

from __future__ import annotations

from dataclasses import dataclass

from rerender.contracts import Constraint, Edits, Model, StoredContext
from rerender.scene import Layer, Scene


@dataclass(frozen=True, kw_only=True)
class FirstFrame(Constraint):
    """Every self-attention layer, encoder and bottleneck included, makes keys and values of the
    first key frame's hidden states at the same step; queries stay the frame's own."""

    def remembers(self, layer: Layer, ordinal: int) -> bool:
        return ordinal == 0

    def bind(self, scene: Scene, model: Model) -> Edits:
        return Edits(attend=StoredContext((scene.anchor.trace,), lambda layer: True))
