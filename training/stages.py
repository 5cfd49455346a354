"""The four stages of training, by name, in an order that suits one process."""

from __future__ import annotations

from training.decoder import Decoder
from training.diffusion import Diffusion
from training.judges import ContrastiveJudge, Naming

STAGES: dict[str, type[Decoder | Diffusion | ContrastiveJudge | Naming]] = {
    stage.name: stage for stage in (Decoder, ContrastiveJudge, Naming, Diffusion)
}
