"""The denoising network, and where its weights lie."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from rerender.contracts.demand import MemoryDemand
from rerender.contracts.request import Adapter, Condition, NoiseRequest
from rerender.errors import ConfigError
from rerender.scene import DecoderBlock, Layer
from rerender.video import sha256_file


class Model(ABC):
    """A latent diffusion model with any number of ControlNets.

    Attributes:
        device: where it computes; latents that come out are there, and what constraints compare
            them with is moved there once.
        dtype: in which its networks compute.
    """

    device = torch.device("cpu")
    dtype = torch.float32

    @property
    @abstractmethod
    def vae_scale_factor(self) -> int:
        """Pixels per latent cell along a side."""

    @property
    @abstractmethod
    def size_multiple(self) -> int:
        """Image sides must be multiples of this."""

    @property
    @abstractmethod
    def alphas_cumprod(self) -> Tensor:
        """alpha-bar of every training timestep, ``[T]`` float64."""

    @property
    @abstractmethod
    def scheduler_config(self) -> Mapping[str, Any]:
        """How inference timesteps are chosen: timestep_spacing, steps_offset, set_alpha_to_one."""

    @property
    def adapters(self) -> Sequence[Adapter]:
        """What changes the network in windows of the steps."""
        return ()

    @property
    def inpaints(self) -> bool:
        """Whether it is told which part of the source to paint anew."""
        return False

    @abstractmethod
    def layers(self) -> Sequence[Layer]:
        """The self-attention layers, in the order they run."""

    @abstractmethod
    def blocks(self) -> Sequence[DecoderBlock]:
        """The places of the decoder at which features can be seen, in the order they run."""

    @abstractmethod
    def encode(self, image: Tensor) -> Tensor:
        """The mean latent ``[1,C,h,w]``, scaled, of an image ``[3,H,W]`` in 0..1."""

    @abstractmethod
    def decode(self, latent: Tensor) -> Tensor:
        """The image ``[3,H,W]`` (0..1, not clipped) of a scaled latent ``[1,C,h,w]``.
        Differentiable where the latent asks for gradients."""

    @abstractmethod
    def condition(
        self,
        prompt: str,
        negative_prompt: str,
        controls: Sequence[Tensor],
        guided: bool,
        guidance_scale: float = 1.0,
        source: Tensor | None = None,
        repainted: Tensor | None = None,
    ) -> Condition:
        """Encode prompts and control maps once for all steps of a key frame.

        Args:
            prompt: the positive prompt.
            negative_prompt: the negative prompt; only used where ``guided``.
            controls: one map ``[3,H,W]`` in 0..1 for each ControlNet; () for requests without any.
            guided: whether classifier-free guidance needs the unconditional branch.
            guidance_scale: its scale, which networks that were distilled with guidance are told;
                they answer for one branch.
            source: the source picture ``[3,H,W]`` in 0..1, which networks with further channels
                see; others take no notice.
            repainted: what of it an inpainting network paints anew, ``[1,H,W]`` in 0..1, from 0.5
                on; None is everything.
        """

    @abstractmethod
    def predict_noise(self, requests: Sequence[NoiseRequest]) -> list[Tensor]:
        """The noise ``[B,C,h,w]`` predicted for each request, B over guidance branches, in one
        batch; float32. Differentiable where a noisy latent or an embedded prompt asks for
        gradients."""

    @abstractmethod
    def token_ids(self, prompt: str) -> Sequence[int]:
        """The token ids of a prompt, as many as its embedding has rows: a beginning, the words,
        then ends up to the model's length."""

    @abstractmethod
    def digest(self) -> str:
        """A short hash of all weights, for records and caches."""


class Checkpoint(ABC):
    """Where a model's weights lie; loading is a step of its own because it is slow.

    Attributes:
        prompt_weights: whether ``(words:1.3)`` weighs words of prompts.
    """

    prompt_weights: bool = False

    @abstractmethod
    def check(self, controls: Sequence[str]) -> None:
        """Refuse missing or damaged files before anything is loaded.

        Args:
            controls: names of the controls that need a ControlNet, such as ``("canny",)``.
        """

    def distilled(self) -> bool:
        """Whether the network is told the guidance scale and answers as if guided: it has no
        unconditional branch."""
        return False

    def instructed(self) -> bool:
        """Whether the network sees the source picture, and is guided by it and by the prompt each
        by a scale of its own (InstructPix2Pix)."""
        return False

    def inpaints(self) -> bool:
        """Whether the network is told which part of the source to paint anew."""
        return False

    def words(self) -> Sequence[str]:
        """Words that stand in prompts for trained embeddings."""
        return ()

    def revisions(self) -> Mapping[str, str]:
        """The commit of every hub id that is read, where it lies in the cache."""
        return {}

    def tell_cut(self, prompts: Sequence[str]) -> None:
        """Warn of words that the model will never see, where that can be told without loading it.

        Args:
            prompts: all texts of a run.
        """
        return

    def tell_styles(self, prompts: Sequence[str]) -> None:
        """Warn of prompts that ask for no style, of a model that knows a few by name.

        Args:
            prompts: what the clips of a run are asked for.
        """
        return

    def fingerprint(
        self, controls: Sequence[str], digest: Callable[[Path], str] = sha256_file
    ) -> str | None:
        """A hash of the files that `load` reads; None where only loading can tell.

        Args:
            controls: as for `load`.
            digest: the sha256 of a file; callers may know it from before.
        """
        return None

    def adapted(self, loras: Sequence[tuple[str, float]]) -> Checkpoint:
        """The same checkpoint with more LoRAs, each a file and its scale.

        Raises:
            ConfigError: it takes none.
        """
        if not loras:
            return self
        problem = f"the model {type(self).__name__} takes no LoRAs, {loras[0][0]} is asked for"
        raise ConfigError("prompts", problem, "leave the column loras empty, or choose model=sd15")

    def fitted(self, controls: Sequence[str], demand: MemoryDemand) -> Checkpoint:
        """The same checkpoint, as it fits the memory of its device.

        Args:
            controls: as for `load`.
            demand: what a run asks of it.

        Raises:
            ResourceError: it does not fit.
        """
        return self

    @abstractmethod
    def load(self, controls: Sequence[str]) -> Model:
        """The model with one ControlNet for each control, in that order."""
