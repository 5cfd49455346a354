"""The four stages of training, by name, in an order that suits one process."""

from __future__ import annotations

from rerender.demo.decoder import Decoder
from rerender.demo.diffusion import Diffusion
from rerender.demo.judges import Contrast, Naming

STAGES: dict[str, type[Decoder | Diffusion | Contrast | Naming]] = {
    stage.name: stage for stage in (Decoder, Contrast, Naming, Diffusion)
}
