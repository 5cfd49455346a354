"""Latent consistency distillation of the demo model: the student, its loss and its samples.

It follows Luo et al. (2023, arXiv 2310.04378), after Song et al. (2023, arXiv 2303.01469). The
student f(z_t, t, c, w) answers with the clean latent, whatever the noise level. It starts as the
teacher and is trained so that

    f(z_t, t, c, w)  =  f(z'_s, s, c, w),    z'_s = one DDIM step of the guided teacher from t to s

for neighbours s < t on a grid of 20 times, as many steps as the teacher is used with. The right
side is held fixed. The guidance scale is drawn anew for every picture and told to the student
(Meng et al. 2023, arXiv 2210.03142), so that a step costs one branch instead of two. ControlNet,
text encoder and autoencoder are the teacher's and stay as they are.
"""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from diffusers import AutoencoderKL, ControlNetModel, DDIMScheduler, UNet2DConditionModel
from safetensors.torch import save_file
from torch import Tensor, nn
from torchvision.utils import save_image
from transformers import CLIPTextModel

from rerender.demo import weights
from rerender.model._requests import guidance_embedding
from rerender.sampler.lcm import consistency_weights
from training.distill_pictures import DistillSettings, TrainingPictures, network, token_ids
from training.learn import TrainingStage

FILE = "diffusion_pytorch_model.safetensors"
_EMBEDDING = 64  # width of the embedding of the guidance scale
_LEFT_OUT = 0.1  # share of the control images that are left out
_CHUNK = 64  # pictures that are embedded at a time


class Distillation(TrainingStage):
    """A student UNet that learns to need few steps.

    Args:
        pictures: what to learn from.
        settings: what decides the weights.
        folder: the teacher's weights.
        device: where to compute.
        out: where the student is written whenever a preview is.

    Attributes:
        name: of the losses.
        modules: the student.
        rate: peak learning rate.
    """

    name = "lcm"
    save_every = 30.0

    def __init__(
        self,
        pictures: TrainingPictures,
        settings: DistillSettings,
        folder: Path = weights.FOLDER,
        device: str = "cpu",
        out: Path | None = None,
    ) -> None:
        self.settings, self.rate, self.device, self.out = settings, settings.rate, device, out
        self.teacher = network(UNet2DConditionModel, folder / "unet", device)
        self.control = network(ControlNetModel, folder / "controlnet", device)
        self.vae = network(AutoencoderKL, folder / "vae", device)
        # The control embedding does not depend on time or text, nor the text on anything: once.
        encoder, self.control.controlnet_cond_embedding = (
            self.control.controlnet_cond_embedding,
            nn.Identity(),
        )
        text: Any = CLIPTextModel.from_pretrained(
            folder / "text_encoder", local_files_only=True, dtype=torch.float32
        )
        text.to(device).eval()
        with torch.no_grad():
            self.codes = pictures.codes.to(device).float()
            self.hints = torch.cat(
                [
                    encoder(part.to(device).float().expand(-1, 3, -1, -1))
                    for part in torch.split(pictures.maps, _CHUNK)
                ]
            )
            self.texts = torch.cat(
                [
                    text(part.to(device)).last_hidden_state
                    for part in torch.split(pictures.tokens, _CHUNK)
                ]
            )
            self.untold: Tensor = text(token_ids(folder, [""]).to(device)).last_hidden_state
        scheduler = DDIMScheduler.from_pretrained(folder / "scheduler", local_files_only=True)
        self.alphas: Tensor = scheduler.alphas_cumprod.to(device)
        apart = len(self.alphas) // settings.steps
        self.times = torch.arange(settings.steps + 1, device=device) * apart - 1
        self.times[0] = 0
        self.unet: Any = student_of(self.teacher).to(device)
        parts = nn.ModuleDict({"unet": self.unet})
        self.modules = parts.to(memory_format=torch.channels_last)

    def loss(self, step: int) -> Tensor:
        """Pseudo-Huber distance between the answers at neighbouring times; see the top of this
        file. Times are spread evenly over the batch."""
        settings, device = self.settings, self.device
        n = settings.batch
        g = torch.Generator().manual_seed(settings.seed * 1_000_003 + step)
        chosen = torch.randint(len(self.codes), (n,), generator=g).to(device)
        places = (torch.randperm(n, generator=g) + torch.rand(n, generator=g)) / n
        index = (places * settings.steps).long().clamp(max=settings.steps - 1).to(device)
        spread = settings.most - settings.least
        scale = (settings.least + spread * torch.rand(n, generator=g)).to(device)
        noise = torch.randn(self.codes[:1].expand(n, -1, -1, -1).shape, generator=g).to(device)
        keep = (torch.rand(n, generator=g) >= _LEFT_OUT).float().to(device)
        code, text, hint = self.codes[chosen], self.texts[chosen], self.hints[chosen]
        late, early = self.times[index + 1], self.times[index]
        told = guidance_embedding(scale, _EMBEDDING)
        alpha = _column(self.alphas[late])
        noisy = alpha.sqrt() * code + (1 - alpha).sqrt() * noise
        with torch.no_grad():
            residuals = self.residuals(noisy, late, text, hint, keep)
            earlier = self.earlier(noisy, late, early, text, hint, keep, scale, residuals)
            there = self.residuals(earlier, early, text, hint, keep)
            target = self.answer(earlier, early, text, there, told)
        found = self.answer(noisy, late, text, residuals, told)
        huber = settings.huber
        return ((found - target).square() + huber**2).sqrt().mean() - huber

    def earlier(
        self,
        noisy: Tensor,
        late: Tensor,
        early: Tensor,
        text: Tensor,
        hint: Tensor,
        keep: Tensor,
        scale: Tensor,
        residuals: list[Tensor],
    ) -> Tensor:
        """One DDIM step (Song et al. 2021, arXiv 2010.02502, equation 12 without noise) of the
        teacher with classifier-free guidance, from time ``late`` to ``early``.

        Args:
            noisy: ``[N,C,h,w]``.
            late, early: ``[N]``.
            text: embedded prompts ``[N,T,D]``.
            hint: embedded control images.
            keep: ``[N]``, the weight of the ControlNet.
            scale: ``[N]``, guidance.
            residuals: what the ControlNet adds with the prompt.
        """
        untold = self.untold.expand(len(noisy), -1, -1)
        others = self.residuals(noisy, late, untold, hint, keep)
        both = [torch.cat(pair) for pair in zip(residuals, others, strict=True)]
        texts = torch.cat([text, untold])
        guess = _run(self.teacher, noisy.repeat(2, 1, 1, 1), late.repeat(2), texts, both)
        said, unsaid = guess.chunk(2)
        velocity = unsaid + _column(scale) * (said - unsaid)
        clean, estimate = split(noisy, velocity, _column(self.alphas[late]))
        before = _column(self.alphas[early])
        return before.sqrt() * clean + (1 - before).sqrt() * estimate

    def optimisers(self, parameters: dict[str, Tensor]) -> list[torch.optim.Optimizer]:
        """AdamW alone. The student starts close to what it is to be; steps of equal length in all
        directions, as Muon makes them whatever the gradient, lead away from there."""
        return [torch.optim.AdamW(parameters.values(), self.rate, weight_decay=0.0)]

    def residuals(
        self, noisy: Tensor, time: Tensor, text: Tensor, hint: Tensor, keep: Tensor
    ) -> list[Tensor]:
        """What the ControlNet adds, the middle last, weighted by ``keep`` ``[N]``."""
        down, middle = self.control(noisy, time, text, hint, return_dict=False)
        return [each * _column(keep) for each in (*down, middle)]

    def answer(
        self, noisy: Tensor, time: Tensor, text: Tensor, residuals: list[Tensor], told: Tensor
    ) -> Tensor:
        """The student's clean latent, f(z_t, t, c, w)."""
        alpha = _column(self.alphas[time])
        clean, _ = split(noisy, _run(self.unet, noisy, time, text, residuals, told), alpha)
        keep, take = consistency_weights(time)
        return _column(take) * clean + _column(keep) * noisy

    @torch.no_grad()
    def sample(
        self, shown: EmbeddedPrompts, steps: int, scale: float, distilled: bool = True
    ) -> Tensor:
        """Frames ``[N,3,H,W]`` from noise: of the student, by multistep consistency sampling, or of
        the teacher, by DDIM on the same grid of times.

        Args:
            shown: what to draw.
            steps: of the grid's times, evenly picked.
            scale: guidance.
            distilled: the student's frames, not the teacher's.
        """
        n = len(shown.hints)
        shape = (n, *self.codes.shape[1:])
        noise = [torch.randn(shape, generator=_generator(i)).to(self.device) for i in range(steps)]
        ones = torch.ones(n, device=self.device)
        told = guidance_embedding(ones * scale, _EMBEDDING)
        # Of the grid's times, as the LCM sampler picks them.
        total = self.settings.steps
        picked = [total - total * i // steps for i in range(steps + 1)]
        noisy = noise[0]
        for step, place in enumerate(picked[:-1]):
            late, early = (self.times[i].expand(n) for i in (place, picked[step + 1]))
            residuals = self.residuals(noisy, late, shown.texts, shown.hints, ones)
            if not distilled:
                given = (shown.texts, shown.hints, ones, ones * scale, residuals)
                noisy = self.earlier(noisy, late, early, *given)
                continue
            noisy = self.answer(noisy, late, shown.texts, residuals, told)
            if step + 1 < steps:
                alpha = _column(self.alphas[early])
                noisy = alpha.sqrt() * noisy + (1 - alpha).sqrt() * noise[step + 1]
        frames: Tensor = self.vae.decode(noisy / self.vae.config.scaling_factor).sample
        return (frames / 2 + 0.5).clamp(0, 1)

    @cached_property
    def _previewed(self) -> EmbeddedPrompts:
        return EmbeddedPrompts(self.texts[:8], self.hints[:8])

    def preview(self, path: Path) -> None:
        """Above: the teacher in all steps of the grid. Below: the student in four. The student is
        written beside it."""
        rows = [
            self.sample(self._previewed, steps, 2.0, distilled)
            for steps, distilled in ((self.settings.steps, False), (4, True))
        ]
        save_image(torch.cat(rows).cpu(), path, nrow=8)
        if self.out is not None:
            self.save(self.out)

    def save(self, folder: Path) -> None:
        """Write the student in half precision."""
        part = folder.with_name(f".{folder.name}.part")
        shutil.rmtree(part, ignore_errors=True)
        part.mkdir(parents=True)
        state = self.unet.state_dict().items()
        save_file({name: value.half().contiguous().cpu() for name, value in state}, part / FILE)
        self.unet.save_config(part)
        folder.mkdir(parents=True, exist_ok=True)
        for name in (FILE, "config.json"):
            (part / name).replace(folder / name)
        part.rmdir()


@dataclass(frozen=True)
class EmbeddedPrompts:
    """What to draw: embedded prompts ``[N,T,D]`` and embedded control images ``[N,E,h,w]``."""

    texts: Tensor
    hints: Tensor


def student_of(teacher: Any) -> Any:
    """A UNet with the teacher's weights that is told the guidance scale, and so far ignores it."""
    config = {**teacher.config, "time_cond_proj_dim": _EMBEDDING}
    student: Any = UNet2DConditionModel.from_config(config)
    student.load_state_dict(teacher.state_dict(), strict=False)
    nn.init.zeros_(student.time_embedding.cond_proj.weight)
    return student


def _generator(step: int) -> torch.Generator:
    return torch.Generator().manual_seed(step)


def split(noisy: Tensor, velocity: Tensor, alpha: Tensor) -> tuple[Tensor, Tensor]:
    """Clean latent and noise that a predicted velocity stands for (Salimans and Ho 2022, arXiv
    2202.00512): sqrt(a) z - sqrt(1-a) v and sqrt(1-a) z + sqrt(a) v."""
    root, rest = alpha.sqrt(), (1 - alpha).sqrt()
    return root * noisy - rest * velocity, rest * noisy + root * velocity


def _column(values: Tensor) -> Tensor:
    return values.view(-1, 1, 1, 1)


def _run(
    unet: Any,
    noisy: Tensor,
    time: Tensor,
    text: Tensor,
    residuals: list[Tensor],
    told: Tensor | None = None,
) -> Tensor:
    output: Tensor = unet(
        noisy,
        time,
        text,
        timestep_cond=told,
        down_block_additional_residuals=residuals[:-1],
        mid_block_additional_residual=residuals[-1],
        return_dict=False,
    )[0]
    return output
