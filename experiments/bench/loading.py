"""Memory that loading a checkpoint takes, in a process of its own.

    python -m experiments.bench.loading FOLDER

writes a random Stable Diffusion 1.5 of full size into FOLDER (4 GB in full precision, 2 GB in half
precision) where it is not there yet, loads it in several types, and prints a table: bytes of the
weights in memory, the most that the process held meanwhile above what it held before, and how many
times the weights that is.
"""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import torch
from safetensors.torch import save_file

from rerender.exits import Parser, command
from rerender.model._loading import without_weights
from rerender.model._located import in_folder
from rerender.model._single_file import CONFIGS

LIMIT = 1.3
CASES = (
    ("float32 folder", "float32", "float32"),
    ("float32 folder", "float32", "bfloat16"),
    ("float16 folder (variant)", "float16", "bfloat16"),
    ("float16 folder (variant)", "float16", "float16"),
)
_CHILD = """
import json, sys
import accelerate, diffusers, transformers, torch
from diffusers import UNet2DConditionModel, AutoencoderKL
from transformers import CLIPTextModel, CLIPTokenizer
from rerender.model.pretrained import Pretrained
from rerender.model import diffusion
from rerender import peak_memory
chosen = Pretrained(sys.argv[1], dtype=sys.argv[2], device="cpu")
chosen.check(())
peak_memory.begin()
before = peak_memory.peak()
model = chosen.load(())
networks = model._networks()
size = sum(t.numel() * t.element_size() for net in networks for t in net.state_dict().values())
print(json.dumps([size / 2**20, peak_memory.peak() - before]))
"""


class LoadingCost(NamedTuple):
    """What loading took, in MiB.

    Attributes:
        weights: bytes of all weights in memory.
        peak: the most that the process held above what it held before.
    """

    weights: float
    peak: float

    @property
    def times(self) -> float:
        """The peak in weights."""
        return self.peak / self.weights


def written(
    folder: Path, dtype: torch.dtype, like: Path = CONFIGS / "sd15", **sizes: dict[str, Any]
) -> Path:
    """A folder in diffusers layout with random weights.

    Args:
        folder: where.
        dtype: of the weights; files in half precision are called a variant.
        like: a folder of configurations.
        sizes: changes of the configuration of a network.
    """
    if (folder / "done").exists():
        return folder
    shutil.copytree(like, folder, dirs_exist_ok=True)
    shutil.copytree(CONFIGS / "words", folder / "tokenizer", dirs_exist_ok=True)
    generator = torch.Generator().manual_seed(0)
    for network in in_folder(folder).networks():
        config = {**network.config(), **sizes.get(network.role, {})}
        (network.folder / "config.json").write_text(json.dumps(config))
        shapes = without_weights(network, config).state_dict()
        weights = {
            name: (torch.randn(tensor.shape, generator=generator) * 0.02).to(dtype)
            for name, tensor in shapes.items()
        }
        stem = "model" if network.role == "text_encoder" else "diffusion_pytorch_model"
        variant = ".fp16" if dtype == torch.float16 else ""
        save_file(weights, network.folder / f"{stem}{variant}.safetensors", {"format": "pt"})
    (folder / "done").touch()
    return folder


def measure(folder: Path, dtype: str) -> LoadingCost:
    """Load a checkpoint in a process of its own."""
    program = [sys.executable, "-c", _CHILD, str(folder), dtype]
    done = subprocess.run(program, capture_output=True, text=True, check=True, timeout=3600)
    return LoadingCost(*json.loads(done.stdout.splitlines()[-1]))


def main(arguments: Sequence[str] | None = None) -> int:
    """Print the table."""
    return command(_main, arguments)


def _main(arguments: list[str]) -> None:
    parser = Parser(prog="python -m experiments.bench.loading", description=__doc__)
    parser.add_argument("folder", type=Path, help="where the checkpoint is, or is written")
    folder = parser.parse_args(arguments).folder
    print("| files | loaded as | weights, MiB | peak, MiB | times the weights |")
    print("|---|---|---|---|---|")
    for name, stored, dtype in CASES:
        place = written(folder / stored, getattr(torch, stored))
        cost = measure(place, dtype)
        print(f"| {name} | {dtype} | {cost.weights:.0f} | {cost.peak:.0f} | {cost.times:.2f} |")


if __name__ == "__main__":
    sys.exit(main())
