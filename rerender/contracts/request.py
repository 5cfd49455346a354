"""What the denoising network is asked, and how its answer is guided."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

from torch import Tensor

from rerender.contracts.attention import AttendJointly, AttentionProcessor, Canvas, FeatureEdit
from rerender.scene import Layer


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
