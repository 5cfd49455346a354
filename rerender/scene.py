"""The nouns of translation: Layer, DecoderBlock, Trace, Translation, Scene, Shot, State.

They are all that a constraint may look at. Notation of equations, here and in docstrings:

==============  =========================  ====================================================
paper           code                       what it is
==============  =========================  ====================================================
x_t             ``state.noisy``            latent that enters the network at step t
x^0_t           ``clean``                  clean latent that the network predicts at step t
eps             ``noise_estimate``         predicted noise, after classifier-free guidance
alpha-bar_t     ``state.alpha_bar``        cumulative product of 1 - beta; signal sqrt(alpha-bar)
D, E            ``model.decode, .encode``  the autoencoder
w, M            ``flow.warp``, ``mask``    warp by optical flow, and where its source is visible
T_s, T_p, T_a   ``start``, ``stop``        shares of the steps in which a constraint acts
==============  =========================  ====================================================
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, Literal

import torch
from torch import Tensor

from rerender.flow.field import Flow
from rerender.video import Clip, KeyFrame


class Watch:
    """What a run tells of its progress and shows of its pictures. This class is the null object: it
    ignores everything."""

    def advance(self, stage: str, done: int, total: int, note: str = "") -> None:
        """``done`` of ``total`` units of a stage are finished."""

    def wants(self, name: str) -> bool:
        """Whether pictures of this name, such as ``"keys"`` or ``"hole"``, are kept."""
        return False

    def picture(self, name: str, index: int, image: Tensor) -> None:
        """A picture ``[3,H,W]`` or ``[1,H,W]`` in 0..1 that belongs to frame ``index``."""


Noise = Callable[[str, int], Tensor]
"""``noise(role, step)`` -> ``[1,C,h,w]`` standard normal, the same for every key frame."""


@dataclass(frozen=True)
class Layer:
    """An attention layer of the denoising network.

    Attributes:
        name: its path in the network.
        place: encoder ("down"), bottleneck ("mid") or decoder ("up").
        level: 0 for the coarsest resolution that its half of the network attends at, 1 for the
            next finer one, and so on.
        cross: attends to the prompt; self-attention where not.
    """

    name: str
    place: Literal["down", "mid", "up"]
    level: int
    cross: bool = False


@dataclass(frozen=True)
class DecoderBlock:
    """A place of the denoising network's decoder at which features can be seen.

    Attributes:
        name: path in the network: a decoder block, whose input it is, or one of its residual
            blocks, whose output it is.
        level: 0 for the coarsest decoder block, 1 for the next finer one, and so on.
        resnet: number of the residual block in its decoder block; None where it is the input.
    """

    name: str
    level: int
    resnet: int | None = None


@dataclass
class Trace:
    """What the translation of one key frame leaves for later ones; filled while it runs.

    Attributes:
        clean: the clean latent ``[1,C,h,w]`` predicted at each executed step, after all edits.
        hidden_states: normalised inputs ``[B,N,C]`` of a self-attention layer at a step; B runs
            over the guidance branches (unconditional, conditional).
        latent: the final latent ``[1,C,h,w]``, once the frame is done.
        image: the decoded result ``[3,H,W]``, un-quantised, once the frame is done.
        settled: steps whose hidden states will not change any more; a pass that is only a draft
            settles the steps up to the first one in which the final pass differs.
        dtype: storage type of hidden states; None keeps what the network computed in.
        device: storage device of hidden states; None keeps them where they are.
    """

    clean: dict[int, Tensor] = field(default_factory=dict)
    hidden_states: dict[tuple[int, str], Tensor] = field(default_factory=dict)
    latent: Tensor | None = None
    image: Tensor | None = None
    settled: int = 0
    dtype: torch.dtype | None = None
    device: torch.device | None = None

    def keep(self, step: int, layer: Layer, hidden_states: Tensor) -> None:
        """Store the hidden states of one layer at one step."""
        kept = hidden_states.detach().to(dtype=self.dtype, device=self.device, copy=True)
        self.hidden_states[step, layer.name] = kept

    def recall(self, step: int, layer: Layer, like: Tensor) -> Tensor:
        """The hidden states of one layer at one step, in the type and device of ``like``."""
        return self.hidden_states[step, layer.name].to(like)

    def nbytes(self) -> int:
        """Memory held by hidden states and clean latents, in bytes."""
        held = [*self.hidden_states.values(), *self.clean.values()]
        return sum(tensor.numel() * tensor.element_size() for tensor in held)


@dataclass(frozen=True)
class Translation:
    """A key frame and what diffusion made (or is making) of it."""

    key: KeyFrame
    trace: Trace

    @property
    def image(self) -> Tensor:
        """The result ``[3,H,W]``, float32, un-quantised; values may leave 0..1 slightly."""
        if self.trace.image is None:
            raise RuntimeError(f"key frame {self.key.index} is not translated yet")
        return self.trace.image


class Reference:
    """An earlier translation and how its pixels move into the present key frame.

    Args:
        translation: the anchor or the previous key frame.
        estimate: computes the flow from the present key frame (target) to that one (source).
    """

    def __init__(self, translation: Translation, estimate: Callable[[], Flow]) -> None:
        self.translation = translation
        self._estimate = estimate

    @cached_property
    def flow(self) -> Flow:
        """The flow at image size, computed when first asked for and then kept."""
        return self._estimate()

    @property
    def image(self) -> Tensor:
        """The translated picture ``[3,H,W]``."""
        return self.translation.image

    @property
    def trace(self) -> Trace:
        """What its denoising left behind."""
        return self.translation.trace


@dataclass(frozen=True)
class Scene:
    """Everything a constraint may use while one key frame is translated.

    Attributes:
        key: the key frame.
        anchor: the first key frame of its shot.
        previous: the key frame before it (the anchor itself for the second key frame).
        remembered: the last key frame whose hidden states were kept (at first the anchor).
        noise: the fixed noise of this key frame.
        watch: takes pictures of masks, flows and overlays where they are asked for.
        draft: the same key frame translated without the constraints that need a draft,
            ``[3,H,W]``; None during the draft pass itself.
    """

    key: KeyFrame
    anchor: Reference
    previous: Reference
    remembered: Translation
    noise: Noise
    watch: Watch
    draft: Tensor | None = None


def _unknown(*asked: object) -> Any:
    raise LookupError(f"a shot that was made by hand knows no answer to {asked}")


@dataclass(frozen=True)
class Shot:
    """The key frames that are denoised together.

    Attributes:
        clip: the video and its prompts.
        indices: frame number of each key frame.
        steps: how many steps are executed.
        flow: ``flow(target, source)`` between two key frames of the source, by their ordinals, at
            image size.
        random: ``random(role, step)`` -> a generator seeded by the run's seed, the role and the
            step alone.
        watch: takes pictures of masks and gates where they are asked for.
    """

    clip: Clip
    indices: tuple[int, ...]
    steps: int = 0
    flow: Callable[[int, int], Flow] = _unknown
    random: Callable[[str, int], torch.Generator] = _unknown
    watch: Watch = field(default_factory=Watch)

    def __len__(self) -> int:
        return len(self.indices)


@dataclass(frozen=True)
class State:
    """Where the denoising of a key frame stands; enough to go on from, more than once.

    Attributes:
        step: the next step to execute, from 0.
        alpha_bar: of its timestep.
        noisy: x_t, the latent that enters the network, ``[1,C,h,w]``.
        direction: what the step before added on top of its signal, ``[1,C,h,w]``: the noise part of
            ``noisy``; zero at the first step.
        history: what the sampler keeps from step to step; nobody else looks at it.
    """

    step: int
    alpha_bar: float
    noisy: Tensor
    direction: Tensor
    history: Any = None
