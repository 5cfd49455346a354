"""Train a LoRA on a few pictures of a look: ``python -m training.lora --data FOLDER --word WORD``.

What is learnt is ``W x + (alpha / r) B A x`` with ``A [r,in]``, ``B [out,r]`` beside the UNet's
frozen weights W (Hu et al. 2021, arXiv 2106.09685), by the loss of the model's own training. Half
of every batch are pictures that the model made itself, on which it has to go on predicting what it
predicted without the LoRA (prior preservation, Ruiz et al. 2022, arXiv 2208.12242, with the model's
own prediction as the target), so that the other words keep their looks.

The result is ``OUT/pytorch_lora_weights.safetensors`` in the format of diffusers and peft, alpha
being the rank. ``OUT/training`` holds checkpoint, losses and samples; the same command goes on
from there.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import math
import shutil
import sys
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from diffusers import StableDiffusionPipeline
from peft import LoraConfig
from peft.utils import get_peft_model_state_dict
from torch import Tensor, nn
from torchvision.utils import save_image

from rerender.contracts import NoiseRequest, Tracker, guide
from rerender.data import picture
from rerender.demo import weights
from rerender.errors import ConfigError, InputError
from rerender.exits import Parser, command
from rerender.model.diffusion import StableDiffusion
from rerender.model.pretrained import Pretrained
from rerender.sampler.ddim import DDIM
from rerender.tracker.none import Silent
from rerender.tracker.wandb import WandB
from training.learn import Budget, TrainingStage, learn, same_training

FILE = "pytorch_lora_weights.safetensors"  # the name under which diffusers looks for it
ATTENTION = ("to_q", "to_k", "to_v", "to_out.0")
TRANSFORMER = (*ATTENTION, "proj_in", "proj_out", "ff.net.0.proj", "ff.net.2")
LAYERS = {
    "attention": ATTENTION,
    "transformer": TRANSFORMER,
    "all": (*TRANSFORMER, "conv1", "conv2", "conv_shortcut", "time_emb_proj"),
}
_STEPS, _GUIDANCE = 20, 2.0  # of samples
_TOGETHER = 8  # samples in a batch
_UNTOLD = 0.1  # share of the captions that are left out, for classifier-free guidance
_SNR = 5.0  # cap of the signal-to-noise weight (min-SNR, Hang et al. 2023, arXiv 2303.09556)


@dataclass(frozen=True)
class LoraSettings:
    """What decides the weights, besides the pictures and the model.

    Attributes:
        rank: r, columns of B.
        layers: which layers are adapted, a key of ``LAYERS``.
        rate: peak learning rate.
        batch: pictures in a batch.
        keep: share of every batch that holds the model to what it could do before, 0..1.
        prior: how many pictures the model makes for that.
        size: side of the square pictures in pixels.
        seed: of everything drawn.
    """

    rank: int = 16
    layers: str = "all"
    rate: float = 2e-3
    batch: int = 8
    keep: float = 0.5
    prior: int = 32
    size: int = 128
    seed: int = 0


class LoraTraining(TrainingStage):
    """Low-rank weights beside those of a UNet.

    Args:
        model: the model that is adapted.
        pictures: ``[N,3,S,S]`` in 0..1, and what they show.
        prior: prompts whose look is to stay, drawn from in turn.
        settings: what decides the weights.
        report: told what is being made before training.

    Attributes:
        name: of the losses.
        modules: the UNet; only its low-rank weights ask for gradients.
    """

    name = "lora"
    warm_up = 20
    save_every = 60.0

    def __init__(
        self,
        model: StableDiffusion,
        pictures: tuple[Tensor, Sequence[str]],
        prior: Sequence[str],
        settings: LoraSettings,
        report: Callable[[str], None] = lambda line: None,
    ) -> None:
        frames, self.captions = pictures
        self.model, self.settings, self.rate = model, settings, settings.rate
        self.unet: Any = model.parts.unet
        self._embeds: dict[str, Tensor] = {}
        self.codes = torch.cat([model.encode(frame) for frame in frames])
        self.prior = [prior[i % len(prior)] for i in range(settings.prior)] if prior else []
        if settings.keep and self.prior:
            report(f"making {len(self.prior)} pictures of the look that is to stay")
            self.kept = self.sample(self.prior)
        config = LoraConfig(
            r=settings.rank,
            lora_alpha=settings.rank,  # so that a reader that knows no alpha is right, too
            target_modules=list(LAYERS[settings.layers]),
        )
        # As diffusers and peft initialise: A by Kaiming, B zero, so that training starts at the
        # model itself.
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(settings.seed)
            self.unet.add_adapter(config)
        self.modules = nn.ModuleDict({"unet": self.unet})

    def embeds(self, prompts: Sequence[str]) -> Tensor:
        """Embeddings ``[N,T,D]`` of prompts."""
        for prompt in prompts:
            if prompt not in self._embeds:
                self._embeds[prompt] = self.model.condition(prompt, "", (), False).prompt_embeds
        return torch.cat([self._embeds[prompt] for prompt in prompts])

    def loss(self, step: int) -> Tensor:
        """Squared error of the UNet's output, weighted by min(SNR, 5), noise levels spread
        evenly; see the top of this file."""
        settings, device = self.settings, self.model.device
        g = torch.Generator().manual_seed(settings.seed * 1_000_003 + step)
        kept = round(settings.batch * settings.keep) if self.prior else 0
        new = settings.batch - kept
        chosen = torch.randperm(len(self.codes), generator=g).repeat(-(-new // len(self.codes)))
        captions = [self.captions[int(i)] for i in chosen[:new]]
        code = self.codes[chosen[:new]]
        if kept:
            again = torch.randint(len(self.prior), (kept,), generator=g)
            captions += [self.prior[int(i)] for i in again]
            code = torch.cat([code, self.kept[again]])
        told = torch.rand(len(code), generator=g) >= _UNTOLD
        text = self.embeds([c if t else "" for c, t in zip(captions, told, strict=True)])
        total = len(self.model.alphas_cumprod)
        places = torch.randperm(len(code), generator=g) + torch.rand(len(code), generator=g)
        level = (places * (total / len(code))).long()
        noise = torch.randn(code.shape, generator=g).to(device)
        alpha = self.model.alphas_cumprod[level].float().to(device).view(-1, 1, 1, 1)
        noisy = alpha.sqrt() * code + (1 - alpha).sqrt() * noise
        level = level.to(device)
        target = self._target(code, noise, alpha)
        if kept:
            self.unet.disable_adapters()
            with torch.no_grad():
                target[new:] = self._predict(noisy[new:], level[new:], text[new:])
            self.unet.enable_adapters()
        error = (self._predict(noisy, level, text) - target).square()
        snr = alpha / (1 - alpha)
        kind = self._kind()
        divisors = {"epsilon": snr, "sample": torch.ones_like(snr)}
        weight = snr.clamp(max=_SNR) / divisors.get(kind, snr + 1)
        return (weight * error).mean()

    def _kind(self) -> str:
        return str(self.model.parts.scheduler.get("prediction_type", "epsilon"))

    def _target(self, code: Tensor, noise: Tensor, alpha: Tensor) -> Tensor:
        if self._kind() == "epsilon":
            return noise.clone()
        if self._kind() == "sample":
            return code.clone()
        return alpha.sqrt() * noise - (1 - alpha).sqrt() * code

    def _predict(self, noisy: Tensor, level: Tensor, text: Tensor) -> Tensor:
        device = self.model.device
        mixed = torch.autocast("cuda", torch.bfloat16) if device.type == "cuda" else nullcontext()
        with mixed:
            output: Tensor = self.unet(noisy, level, text, return_dict=False)[0]
        return output.float()

    @torch.no_grad()
    def sample(self, prompts: Sequence[str], first: int = 0) -> Tensor:
        """Clean latents ``[N,C,h,w]`` from noise (DDIM, 20 steps, guidance 2); the noise is that
        of numbers ``first`` and up."""
        model = self.model
        schedule = DDIM().schedule(_STEPS, model)
        made: list[Tensor] = []
        for start in range(0, len(prompts), _TOGETHER):
            part = prompts[start : start + _TOGETHER]
            conditions = [model.condition(prompt, "", (), True) for prompt in part]
            noisy = [self._noise(first + start + i) for i in range(len(part))]
            for step, alpha in enumerate(schedule.alphas_cumprod[:-1]):
                time = schedule.timesteps[step]
                requests = [
                    NoiseRequest(latent, time, condition, ())
                    for latent, condition in zip(noisy, conditions, strict=True)
                ]
                estimates = [guide(b, _GUIDANCE) for b in model.predict_noise(requests)]
                after = schedule.alphas_cumprod[step + 1]
                for i, (latent, estimate) in enumerate(zip(noisy, estimates, strict=True)):
                    clean = (latent - (1 - alpha) ** 0.5 * estimate) / alpha**0.5
                    noisy[i] = after**0.5 * clean + (1 - after) ** 0.5 * estimate
            made += noisy
        return torch.cat(made)

    def _noise(self, number: int) -> Tensor:
        g = torch.Generator().manual_seed(self.settings.seed * 1_000_003 + number)
        return torch.randn((1, *self.codes.shape[1:]), generator=g).to(self.model.device)

    def preview(self, path: Path) -> None:
        """Above: some of the pictures. Below: what the model makes of their captions."""
        chosen = range(0, len(self.codes), -(-len(self.codes) // 4))
        truths = [self.model.decode(self.codes[i : i + 1]) for i in chosen]
        codes = self.sample([self.captions[i] for i in chosen])
        made = [self.model.decode(code[None]) for code in codes]
        shown = torch.stack([*truths, *made]).clamp(0, 1).cpu()
        save_image(shown, path, nrow=len(truths))

    def save(self, folder: Path) -> None:
        """Write ``pytorch_lora_weights.safetensors``."""
        state = get_peft_model_state_dict(self.unet)
        state = {name: value.contiguous().cpu() for name, value in state.items()}
        part = folder / ".part"
        StableDiffusionPipeline.save_lora_weights(part, unet_lora_layers=state)
        (part / FILE).chmod(0o644)
        (part / FILE).replace(folder / FILE)
        shutil.rmtree(part)


def read_pictures(folder: Path, word: str, size: int) -> tuple[Tensor, list[str]]:
    """The pictures of a folder, in order of their names, and a caption for each.

    A file ``NAME.txt`` beside ``NAME.png`` says what the picture shows; the word is added where it
    does not name it. Without one, the word alone is the caption.

    Args:
        folder: holds png, jpg, webp, bmp or tiff files.
        word: calls for the look.
        size: the short side is resized to it and the centre square cut out.

    Returns:
        ``[N,3,size,size]`` in 0..1, and N captions.

    Raises:
        InputError: no such folder, no picture in it, or one that cannot be read.
    """
    files = sorted(folder.iterdir()) if folder.is_dir() else []
    files = [file for file in files if file.suffix.lower() in picture.SUFFIXES]
    if not files:
        raise InputError(folder, "holds no pictures", "put some of the look there, 5 to 50")
    frames, captions = [], []
    for file in files:
        image = picture.read(file).image[None]
        scale = size / min(image.shape[-2:])
        sides = [max(size, round(side * scale)) for side in image.shape[-2:]]
        image = F.interpolate(image, sides, mode="bicubic", antialias=True, align_corners=False)
        top, left = (sides[0] - size) // 2, (sides[1] - size) // 2
        frames.append(image[0, :, top : top + size, left : left + size].clamp(0, 1))
        beside = file.with_suffix(".txt")
        caption = beside.read_text(encoding="utf-8-sig").strip() if beside.is_file() else ""
        named = word.lower() in caption.lower()
        captions.append(caption if named else f"{caption}, {word}" if caption else word)
    return torch.stack(frames), captions


def train(options: argparse.Namespace) -> Path:
    """Train as the command line says.

    Returns:
        The file that was written.
    """
    demo = options.model == "demo"
    settings = LoraSettings(
        rank=options.rank,
        layers=options.layers,
        rate=options.rate,
        batch=options.batch,
        keep=options.keep,
        prior=options.prior,
        size=options.size or (128 if demo else 512),
        seed=options.seed,
    )
    pictures = read_pictures(options.data, options.word, settings.size)
    prior = _prior(options.prior_prompts, pictures[1], options.word)
    path = str(weights.FOLDER) if demo else options.model
    checkpoint = Pretrained(path, dtype="float32", device=options.device)
    checkpoint.check(())
    if checkpoint.instructed() or checkpoint.inpaints():
        problem = "sees a source picture beside the noisy one, for which there is none in training"
        raise ConfigError("--model", problem, "train on the checkpoint that it was made from")
    work = options.out / "training"
    work.mkdir(parents=True, exist_ok=True)
    content = hashlib.sha256(pictures[0].numpy().tobytes())
    content.update(json.dumps([pictures[1], prior]).encode())
    said = {**asdict(settings), "model": path, "pictures": content.hexdigest()}
    same_training(work / "settings.json", said, "--out")
    tracker: Tracker = WandB() if options.tracker == "wandb" else Silent()
    model: Any = checkpoint.load(())
    if settings.size % model.size_multiple:
        problem = f"must be a multiple of {model.size_multiple}, received {settings.size}"
        raise ConfigError("--size", problem, "change it")
    stage = LoraTraining(model, pictures, prior, settings, lambda line: print(line, flush=True))
    tracker.start(work, {**asdict(settings), "word": options.word, "model": path}, "lora", "train")
    learn(stage, Budget(options.steps, options.minutes), work, tracker)
    if (work / "preview.png").is_file():
        tracker.file("preview.png", work / "preview.png")
    tracker.finish(0)
    stage.save(options.out)
    return Path(options.out / FILE)


def _prior(file: Path | None, captions: Sequence[str], word: str) -> list[str]:
    """Prompts whose looks are to stay: those of a file, or the captions without the word."""
    if file is None:
        return list(dict.fromkeys(c.replace(word, "").strip(" ,") for c in captions))
    try:
        lines = file.read_text(encoding="utf-8-sig").splitlines()
    except (OSError, ValueError) as error:
        raise InputError(file, f"cannot be read ({error})", "give a text file") from error
    return [line.strip() for line in lines if line.strip()]


def run(arguments: list[str]) -> None:
    """Parse the command line and train."""
    options = _parser().parse_args(arguments)
    for key, low, high in (("keep", 0, 0.9), ("rank", 1, 1024), ("batch", 1, 1024)):
        value = getattr(options, key)
        if not low <= value <= high:
            rule = f"must lie in {low}..{high}, received {value}"
            raise ConfigError(f"--{key}", rule, "change it")
    torch.set_num_threads(options.threads)
    sys.stdout.write(f"{train(options)}\n")


def _parser() -> Parser:
    parser = Parser(prog="python -m training.lora", description=__doc__)
    parser.add_argument("--data", type=Path, required=True, help="folder of pictures")
    parser.add_argument("--word", required=True, help="calls for the look in a prompt")
    parser.add_argument("--model", default="demo", help="demo, a folder, or a hub id")
    parser.add_argument("--out", type=Path, required=True, help="folder of the result")
    parser.add_argument("--rank", type=int, default=LoraSettings.rank, help="usually 4..64")
    parser.add_argument("--layers", choices=LAYERS, default=LoraSettings.layers)
    parser.add_argument("--rate", type=float, default=LoraSettings.rate, help="usually 1e-4..3e-3")
    parser.add_argument("--batch", type=int, default=LoraSettings.batch)
    parser.add_argument("--keep", type=float, default=LoraSettings.keep, help="0..0.9")
    parser.add_argument("--prior", type=int, default=LoraSettings.prior, help="usually 16..200")
    parser.add_argument("--prior-prompts", type=Path, help="a text file, one a line")
    parser.add_argument("--size", type=int, help="side in pixels; the model's own if not given")
    parser.add_argument("--steps", type=int, default=500)
    parser.add_argument("--minutes", type=float, default=math.inf, help="end after so long")
    parser.add_argument("--seed", type=int, default=LoraSettings.seed)
    parser.add_argument("--tracker", choices=["wandb", "none"], default="wandb")
    parser.add_argument("--device", default="auto")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--debug", action="store_true", help="show tracebacks")
    return parser


if __name__ == "__main__":
    sys.exit(command(run))
