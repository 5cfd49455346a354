"""Train the shipped model further, on one GPU: ``python -m training.further --out FOLDER``.

UNet, ControlNet and text encoder go on from a weights folder; the autoencoder stays. Processes draw
pictures all the while, at 128, 256 and 384 pixels; the pool of those drawn so far is on the device.
A part of the pictures is of the demo world, a part has natural statistics (``natural.py``). A fifth
of the captions names no style; their picture has a style, hue, angle and phase that nothing says,
and all surfaces of the scene share (``variation.py``).

What a batch holds depends on how far the processes are, so two trainings are equal in kind only.
"""

from __future__ import annotations

import argparse
import multiprocessing
import queue
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from diffusers import AutoencoderKL, ControlNetModel, UNet2DConditionModel
from safetensors.torch import save_file
from torch import Tensor, nn
from torchvision.utils import save_image
from transformers import CLIPTextModel, CLIPTokenizer

from rerender.demo import weights
from rerender.demo.world import HELD_OUT
from training import components, natural
from training.diffusion import Diffusion, sample
from training.further_pictures import SIZES, SizeShare, draw_for_ever, picture
from training.learn import Budget, learn

_TRANSLATED = 0.4  # share of a batch whose noise is that of a translation
_EARLIEST = 500  # level, of 1000, at which a translation begins at the earliest


class SizePool:
    """The newest pictures of one size, as codes, token numbers and control images."""

    def __init__(self, size: SizeShare, device: str) -> None:
        self.size, self.count = size, 0
        near = size.side // 8
        self.codes = torch.empty(
            size.kept, components.LATENT, near, near, dtype=torch.float16, device=device
        )
        self.sources = torch.empty_like(self.codes)
        self.tokens = torch.empty(size.kept, components.TOKENS, dtype=torch.int16, device=device)
        self.maps = torch.empty(size.kept, 1, size.side, size.side, dtype=torch.bool, device=device)

    def add(self, codes: Tensor, sources: Tensor, tokens: Tensor, maps: Tensor) -> None:
        """Put pictures in, in the place of the oldest where it is full."""
        at = (self.count + torch.arange(len(codes), device=codes.device)) % self.size.kept
        self.codes[at], self.sources[at], self.maps[at] = codes.half(), sources.half(), maps
        self.tokens[at] = tokens.to(self.tokens)
        self.count += len(codes)

    def batch(self, g: torch.Generator) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Codes, their photos' codes, token numbers and control images of one batch."""
        have = min(self.count, self.size.kept)
        chosen = torch.randint(have, (self.size.batch,), generator=g, device=g.device)
        maps = self.maps[chosen].float()
        codes, sources = self.codes[chosen].float(), self.sources[chosen].float()
        return codes, sources, self.tokens[chosen].long(), maps


class FurtherDiffusion(Diffusion):
    """The three networks of a weights folder, with pictures that other processes draw.

    Args:
        folder: weights to begin with.
        out: where snapshots of the averaged weights go.
        seed: of the pictures, the noise and the batches.
        device: where to compute.
        workers: processes that draw.
        sizes: sizes of pictures, and how much of each.
        rate: peak learning rate of AdamW; Muon gets twice as much.
    """

    warm_up = 200
    save_every = 60.0

    def __init__(
        self,
        folder: Path,
        out: Path,
        seed: int,
        device: str,
        workers: int,
        sizes: tuple[SizeShare, ...],
        rate: float,
    ) -> None:
        self.seed, self.device, self.rate, self.out = seed, device, rate, out
        self.sizes = sizes
        # Started first: a process that has a GPU's context must not fork.
        natural._fields()
        self.drawn: Any = multiprocessing.get_context("fork").Queue(8)
        self.workers = [
            multiprocessing.get_context("fork").Process(
                target=draw_for_ever, args=(seed, i, workers, sizes, self.drawn), daemon=True
            )
            for i in range(workers)
        ]
        for worker in self.workers:
            worker.start()
        read = {"local_files_only": True, "use_safetensors": True, "dtype": torch.float32}
        self.words: Any = CLIPTokenizer.from_pretrained(folder / "tokenizer")
        self.vae: Any = AutoencoderKL.from_pretrained(folder / "vae", **read).to(device).eval()
        self.unet: Any = UNet2DConditionModel.from_pretrained(folder / "unet", **read)
        self.control: Any = ControlNetModel.from_pretrained(folder / "controlnet", **read)
        self.text: Any = CLIPTextModel.from_pretrained(folder / "text_encoder", **read)
        parts = {"unet": self.unet, "controlnet": self.control, "text_encoder": self.text}
        self.modules = nn.ModuleDict(parts).to(memory_format=torch.channels_last).to(device)
        self.modules.train()
        self.scheduler: Any = components.scheduler()
        self.alphas: Tensor = self.scheduler.alphas_cumprod.to(device)
        self.empty = self.token_ids([""])
        self.pools = {size.side: SizePool(size, device) for size in sizes}
        while any(pool.count < 2 * pool.size.batch for pool in self.pools.values()):
            self.collect(block=True)

    def token_ids(self, prompts: list[str]) -> Tensor:
        """Prompts ``[N]`` to token numbers ``[N,TOKENS]``; that of nothing is kept at hand."""
        if prompts == [""] and hasattr(self, "empty"):
            return self.empty
        return super().token_ids(prompts)

    def collect(self, block: bool = False) -> None:
        """Take what the processes have drawn into the pools; wait for it where ``block``."""
        for _ in range(4):
            try:
                side, frames, photos, captions, maps = self.drawn.get(
                    timeout=120 if block else 1e-4
                )
            except queue.Empty:
                if block:
                    raise
                return
            codes, sources = (
                self.encode(
                    torch.from_numpy(shown).to(self.device).permute(0, 3, 1, 2).float() / 255
                )
                for shown in (frames, photos)
            )
            edges = torch.from_numpy(np.unpackbits(maps, axis=-1)).to(self.device).bool()[:, None]
            self.pools[side].add(codes, sources, self.token_ids(captions), edges)

    def loss(self, step: int) -> Tensor:
        """As ``Diffusion.loss``, of one size after the other."""
        self.collect()
        rng = np.random.default_rng([self.seed, 7, step])
        share = np.cumsum([size.share for size in self.sizes])
        which = int(np.searchsorted(share, rng.random() * share[-1], side="right"))
        g = torch.Generator(self.device).manual_seed(self.seed * 1_000_003 + step)
        pool = self.pools[self.sizes[min(which, len(self.sizes) - 1)].side]
        codes, sources, tokens, maps = pool.batch(g)
        return self.error(codes, tokens, maps, g, sources)

    def noise(
        self, code: Tensor, source: Tensor | None, level: Tensor, g: torch.Generator
    ) -> Tensor:
        """Normal noise; in a part of the batch that of a translation.

        A translation begins at a level u with the noised source s (SDEdit). As z_u is also
        sqrt(a_u) x + sqrt(1 - a_u) e' with

            e' = e + sqrt(a_u / (1 - a_u)) (s - x)

        e' is the noise that leads from there to the styled picture x, at all later levels, too.
        """
        noise = super().noise(code, source, level, g)
        if source is None:
            return noise
        n = len(code)
        translated = torch.rand(n, generator=g, device=g.device) < _TRANSLATED
        first = level.clamp(min=_EARLIEST)
        spread = torch.rand(n, generator=g, device=g.device)
        alpha = self.alphas[(first + spread * (999 - first)).long()]
        share = translated * (alpha / (1 - alpha)).sqrt()
        return noise + share.view(-1, 1, 1, 1) * (source - code)

    def predict(
        self, noisy: Tensor, level: Tensor, tokens: Tensor, maps: Tensor, keep: Tensor
    ) -> Tensor:
        """The UNet's v, its products in bfloat16 where that is quick."""
        with torch.autocast("cuda", torch.bfloat16, enabled=self.device != "cpu"):
            return super().predict(noisy, level, tokens, maps, keep).float()

    @torch.no_grad()
    def preview(self, path: Path) -> None:
        """Pictures of every size above samples of them, and a snapshot of the weights."""
        counts = {side: pool.count for side, pool in self.pools.items()}
        print("drawn", counts, "seconds", round(time.monotonic() - _BEGAN), flush=True)
        self.snapshot(self.out / "further.safetensors")
        rows = []
        for size in self.sizes[:2]:
            rng = np.random.default_rng(HELD_OUT)
            made = [picture(rng, size) for _ in range(16)]
            maps = torch.from_numpy(np.stack([one.edges for one in made]) > 0)[:, None].float()
            code = sample(self, [one.caption for one in made], maps.to(self.device))
            shown = (self.vae.decode(code).sample.float().cpu() / 2 + 0.5).clamp(0, 1)
            truth = torch.from_numpy(np.stack([one.frame for one in made])).permute(0, 3, 1, 2)
            both = torch.stack(
                [truth.view(2, 8, *truth.shape[1:]), shown.view(2, 8, *shown.shape[1:])], 1
            )
            rows.append(nn.functional.interpolate(both.flatten(0, 2), (128, 128), mode="area"))
        save_image(torch.cat(rows), path, nrow=8)
        save_image(torch.cat(rows), self.out / "preview.png", nrow=8)

    def snapshot(self, file: Path) -> None:
        """The modules' weights in half precision, by the name of their folder."""
        state = {
            name: value.half().contiguous().cpu()
            for name, value in self.modules.state_dict().items()
        }
        part = file.with_suffix(".part")
        save_file(state, part)
        part.replace(file)


_BEGAN = time.monotonic()


def main() -> None:
    """Parse the command line and train."""
    options = _parser().parse_args()
    torch.set_num_threads(options.threads)
    torch.backends.cudnn.benchmark = True
    torch.set_float32_matmul_precision("high")
    weights.verify(options.weights)
    options.out.mkdir(parents=True, exist_ok=True)
    sizes = tuple(
        SizeShare(**{**vars(size), "batch": max(2, int(size.batch * options.scale))})
        for size in SIZES
    )
    stage = FurtherDiffusion(
        options.weights,
        options.out,
        options.seed,
        options.device,
        options.workers,
        sizes,
        options.rate,
    )
    print("first pictures after", round(time.monotonic() - _BEGAN), "s", flush=True)
    left = options.seconds - (time.monotonic() - _BEGAN)
    learn(stage, Budget(options.steps, left / 60), options.work)
    stage.snapshot(options.out / "further.safetensors")
    for worker in stage.workers:
        worker.terminate()
    print("done after", round(time.monotonic() - _BEGAN), "s", flush=True)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, required=True, help="weights as they come")
    parser.add_argument("--weights", type=Path, default=weights.FOLDER, help="what to begin with")
    parser.add_argument("--work", type=Path, default=Path("outputs/further"))
    parser.add_argument("--seconds", type=float, default=480, help="end so long after the start")
    parser.add_argument("--steps", type=int, default=1_000_000)
    parser.add_argument("--scale", type=float, default=1.0, help="of the batches")
    parser.add_argument(
        "--rate", type=float, default=5e-4, help="of AdamW; Muon gets twice as much"
    )
    parser.add_argument("--workers", type=int, default=14, help="processes that draw pictures")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--threads", type=int, default=1)
    return parser


if __name__ == "__main__":
    main()
