"""A second autoencoder for the demo model: ``python -m training.decoder_mse --out FOLDER``.

What ft-MSE is to the autoencoder of Stable Diffusion: the encoder stays, and the decoder is trained
further on squared error alone, so that the same latents come out as other pixels. `FOLDER` goes to
``model.vae``; weights are in half precision, with a manifest beside them.
"""

from __future__ import annotations

import argparse
import math
from pathlib import Path

import torch
from safetensors.torch import load_file
from torch import Tensor, nn

from rerender.demo import weights
from training import components
from training.decoder import Decoder
from training.export import write_manifest
from training.learn import Budget, learn


class DecoderMse(Decoder):
    """The shipped decoder, trained further."""

    name = "vae_mse"
    rate = 5e-4

    def __init__(self, seed: int, batch: int, device: str) -> None:
        self.seed, self.batch, self.device = seed, batch, device
        self.vae = components.autoencoder()
        (shipped,) = (weights.FOLDER / "vae").glob("*.safetensors")
        self.vae.load_state_dict(load_file(shipped))
        for fixed in (self.vae.encoder, self.vae.quant_conv):
            fixed.requires_grad_(False)
        self.modules = nn.ModuleDict({"vae": self.vae}).to(device)

    def error(self, gap: Tensor) -> Tensor:
        """Squared error alone."""
        return gap.square().mean()


def main() -> None:
    """Parse the command line, train, write the weights."""
    options = _parser().parse_args()
    torch.set_num_threads(options.threads)
    weights.verify(weights.FOLDER)
    stage = DecoderMse(options.seed, options.batch, options.device)
    learn(stage, Budget(options.steps, math.inf), options.work / stage.name)
    stage.vae.half().cpu().save_pretrained(options.out, safe_serialization=True)
    for file in options.out.glob("*.safetensors"):
        file.chmod(0o644)
    write_manifest(options.out)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--work", type=Path, default=Path("outputs/demo_training"))
    parser.add_argument("--steps", type=int, default=900)
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--threads", type=int, default=1)
    return parser


if __name__ == "__main__":
    main()
