"""The denoising network and what it is asked."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor

from rerender.contracts.demand import MemoryDemand
from rerender.errors import ConfigError
from rerender.scene import DecoderBlock, Layer
from rerender.video import sha256_file

HiddenStates = Mapping[int, Tensor]
"""Hidden states ``[B,N,C]`` of the key frames of a shot, by their ordinal in it."""


AttendJointly = Callable[[Layer, HiddenStates, int], HiddenStates]
"""``attend_jointly(layer, hidden_states, step)``: what each of the key frames attends to,
``[B,M,C]``. It is given the key frames that share a batch: its constraint's pivots always, the
others or a part of them."""


class SelfAttention(ABC):
    """A self-attention layer of the network, open to be used in pieces. Its own answer is
    ``project(attend(queries(h), keys(c), values(c)))``.

    Attributes:
        layer: which one.
    """

    layer: Layer

    @abstractmethod
    def queries(self, hidden_states: Tensor) -> Tensor:
        """``[B,N,C]`` -> ``[B,N,D]``, the heads side by side in D."""

    @abstractmethod
    def keys(self, context: Tensor) -> Tensor:
        """``[B,M,C]`` -> ``[B,M,D]``."""

    @abstractmethod
    def values(self, context: Tensor) -> Tensor:
        """``[B,M,C]`` -> ``[B,M,D]``."""

    @abstractmethod
    def attend(
        self,
        query: Tensor,
        key: Tensor,
        value: Tensor,
        scale: float = 1.0,
        visible: Tensor | None = None,
    ) -> Tensor:
        """``softmax(scale * q k^T / sqrt(d)) v`` head by head.

        Args:
            query: ``[B,N,D]``.
            key, value: ``[B,M,D]``.
            scale: factor of the logits; below 1 attention is softer.
            visible: ``[B,N,M]``, false where a query does not see a key; None shows all.

        Returns:
            ``[B,N,D]``.
        """

    @abstractmethod
    def project(self, attended: Tensor) -> Tensor:
        """The output projection, ``[B,N,D]`` -> ``[B,N,C]``."""

    def __call__(self, hidden_states: Tensor, context: Tensor) -> Tensor:
        """The layer's own answer: queries of ``[B,N,C]``, keys and values of ``[B,M,C]``."""
        return self.project(
            self.attend(self.queries(hidden_states), self.keys(context), self.values(context))
        )


AttentionProcessor = Callable[[SelfAttention, HiddenStates, HiddenStates, int], HiddenStates]
"""``process(attention, hidden_states, contexts, step)``: what a self-attention layer answers for
each of the key frames that share a batch, ``[B,N,C]``, in place of ``attention(own, context)``.
Hidden states are what enters the layer, contexts what keys and values would be made of."""

Features = Mapping[int, Tensor]
"""Features or latents ``[B,C,h,w]`` of the key frames of a shot, by their ordinal in it."""

FeatureEdit = Callable[[DecoderBlock, Features, int], Features]
"""``edit(block, features, step)``: the features that go on from a place of the decoder, for each of
the key frames that share a batch. Gradients of what it computes belong to it; where a request is
traced, they also flow through it to the noisy latents."""


class Grid(NamedTuple):
    """Key frames that are denoised as one picture.

    Attributes:
        rows, columns: how many lie below and beside each other.
        cells: their ordinals, row by row; the prediction of the first cell of an ordinal counts.
    """

    rows: int
    columns: int
    cells: tuple[int, ...]


Canvas = Callable[[int], Sequence[Grid]]
"""``canvas(step)``: the pictures that are made of all key frames of a shot in that step."""


@dataclass(frozen=True, kw_only=True)
class Adapter:
    """What changes the denoising network in a window of the steps, such as a LoRA.

    Attributes:
        scale: how strongly.
        start: first moment it acts, as a share of the steps.
        stop: first moment it does not act any more.
    """

    scale: float = 1.0
    start: float = 0.0
    stop: float = 1.0

    @property
    def windowed(self) -> bool:
        """Whether there may be steps in which it does not act."""
        return (self.start, self.stop) != (0.0, 1.0)


@dataclass(frozen=True)
class Condition:
    """What the denoising network is told besides the noisy latent. B runs over the branches
    (negative, positive), or positive only where no guidance is asked for.

    Attributes:
        prompt_embeds: ``[B,T,D]``.
        control_embeds: what is made of the control map for each control, ``[1,C,h,w]``.
        pooled_embeds: of the prompt as a whole, ``[B,P]`` (Stable Diffusion XL).
        guidance_embed: the embedded guidance scale, ``[B,E]``, of networks that were distilled with
            guidance (latent consistency models).
        image_latents: what networks that see the source take as further channels, ``[B,E,h,w]``:
            its latent (InstructPix2Pix, whose branches are nothing, the picture alone, picture and
            prompt), or a mask and the latent of the source without what it covers (inpainting).
        image_embeds: tokens of pictures that are shown beside the words (IP-Adapter), ``[B,M,D]``.
    """

    prompt_embeds: Tensor
    control_embeds: tuple[Tensor, ...] = ()
    pooled_embeds: Tensor | None = None
    guidance_embed: Tensor | None = None
    image_latents: Tensor | None = None
    image_embeds: Tensor | None = None

    @property
    def positive(self) -> Condition:
        """The positive branch alone."""
        last: dict[str, Any] = {name: value[-1:] for name, value in self._by_branch()}
        return replace(self, **last)

    def _by_branch(self) -> Iterator[tuple[str, Tensor]]:
        for name in (
            *("prompt_embeds", "pooled_embeds", "guidance_embed", "image_latents"),
            "image_embeds",
        ):
            value: Tensor | None = getattr(self, name)
            if value is not None:
                yield name, value


class JointAttention(NamedTuple):
    """A key frame's place among those of its shot that see each other in a batch.

    Attributes:
        ordinal: its number in the shot.
        step: executed step, the same for all.
        attend_jointly: applied in turn, the same for all.
        processor: answers in place of self-attention layers, the same for all.
        features: applied in turn, the same for all.
        canvas: which of them are one picture; answered by `rerender.translation.canvas`, not by
            the network.
    """

    ordinal: int
    step: int
    attend_jointly: tuple[AttendJointly, ...]
    processor: AttentionProcessor | None = None
    features: tuple[FeatureEdit, ...] = ()
    canvas: Canvas | None = None


class AttentionMapEdit(NamedTuple):
    """What is done to softmax maps of attention layers.

    Attributes:
        wants: ``wants(layer, N)``: whether it asks for the maps of a layer with N query tokens;
            maps that nobody wants are never computed.
        edit: ``edit(layer, maps [B,heads,N,M]) -> [B,heads,N,M]``, float32, B over the guidance
            branches, M keys: hidden states attended to, or tokens of the prompt where
            ``layer.cross``.
    """

    wants: Callable[[Layer, int], bool]
    edit: Callable[[Layer, Tensor], Tensor]


def always() -> bool:
    """A request that waits for nothing."""
    return True


class NoiseRequest(NamedTuple):
    """One sample of a batch for the network.

    Attributes:
        noisy: ``[1,C,h,w]``.
        timestep: training timestep.
        condition: embedded prompts and control maps.
        conditioning_scale: strength of each ControlNet at this step; 0 switches it off, and ()
            all of them.
        attend: what self-attention makes keys and values of; None takes its own hidden states.
        maps: what is done to softmax maps of attention.
        joint: which other samples of the batch its self-attention attends to.
        adapter_scale: strength of each of the model's adapters at this step; () for what the
            network is without those that have windows.
        ready: whether all that the evaluation reads has been computed.
        note: where in the run it stands, for the progress display.
    """

    noisy: Tensor
    timestep: int
    condition: Condition
    conditioning_scale: tuple[float, ...]
    attend: Callable[[Layer, Tensor], Tensor] | None = None
    maps: AttentionMapEdit | None = None
    joint: JointAttention | None = None
    adapter_scale: tuple[float, ...] = ()
    ready: Callable[[], bool] = always
    note: str = ""


def guide(branches: Tensor, scale: float, image_scale: float = 1.0) -> Tensor:
    """Classifier-free guidance ``u + s (c - u)`` of ``[2,C,h,w]``; one branch passes unchanged.
    Of ``[3,C,h,w]``, where i is told the picture alone, ``u + s_i (i - u) + s (c - i)``
    (InstructPix2Pix, Brooks et al. 2023, arXiv 2211.09800, equation 3)."""
    if branches.shape[0] == 1:
        return branches
    if branches.shape[0] == 3:
        nothing, image, both = branches.chunk(3)
        return nothing + image_scale * (image - nothing) + scale * (both - image)
    unconditional, conditional = branches.chunk(2)
    return unconditional + scale * (conditional - unconditional)


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
