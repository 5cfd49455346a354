"""The four stages of training, by name, in an order that suits one process."""

from __future__ import annotations

from training.decoder import Decoder
from training.diffusion import Diffusion
from training.judges import Contrast, Naming

STAGES: dict[str, type[Decoder | Diffusion | Contrast | Naming]] = {
    stage.name: stage for stage in (Decoder, Contrast, Naming, Diffusion)
}
