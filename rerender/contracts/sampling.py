"""Where denoising begins, and how it goes from step to step."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Generator, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, NamedTuple

from torch import Tensor

from rerender.contracts.network import Condition, Model, NoiseRequest
from rerender.scene import Noise, State
from rerender.video import KeyFrame


@dataclass(frozen=True)
class Schedule:
    """The denoising steps that are executed.

    Attributes:
        timesteps: training timestep of each step, decreasing.
        alphas_cumprod: alpha-bar before each step and after the last one (one value more).
        skipped: steps of the full schedule left out at its noisy end (SDEdit).
    """

    timesteps: tuple[int, ...]
    alphas_cumprod: tuple[float, ...]
    skipped: int = 0

    def __len__(self) -> int:
        return len(self.timesteps)


@dataclass(frozen=True)
class StartContext:
    """What a start may use: one key frame before its first step.

    Attributes:
        key: the key frame.
        distance: frames between its shot's anchor and itself.
        latent: the source's latent, ``[1,C,h,w]``.
        noise: the fixed noise of this key frame.
        schedule: the executed steps.
        weights: strength of each ControlNet at each step, ``[steps][nets]``.
        guidance: scale of classifier-free guidance.
        condition: what the key frame is told.
        source: makes the same condition with the source prompt in place of the prompt.
        pure: whether pure noise is asked for, not the source.
    """

    key: KeyFrame
    distance: int
    latent: Tensor
    noise: Noise
    schedule: Schedule
    weights: Sequence[tuple[float, ...]]
    guidance: float
    condition: Condition
    source: Callable[[], Condition]
    pure: bool = False


class InitialLatent(NamedTuple):
    """What the denoising of a key frame begins with.

    Attributes:
        noisy: the latent that enters the first executed step, ``[1,C,h,w]``.
        texts: prompt embeddings ``[B,T,D]`` for each executed step; () keeps the condition's.
    """

    noisy: Tensor
    texts: tuple[Tensor, ...] = ()


class Start(ABC):
    """Where the denoising of a key frame begins."""

    inverts: ClassVar[bool] = False  # reverses the sampler's steps
    needs_guidance: ClassVar[bool] = False  # changes the unconditional branch
    needs_noise: ClassVar[bool] = False  # begins with noise alone, not with the source

    @abstractmethod
    def begin(self, stage: StartContext) -> Generator[NoiseRequest, Tensor, InitialLatent]:
        """Ask for network evaluations, be sent the predicted noise, return the opening."""

    def evaluations(self, steps: int) -> int:
        """The most evaluations that `begin` asks for with so many executed steps."""
        return 0


class StepOutput(NamedTuple):
    """One step of a sampler.

    Attributes:
        noisy: the next latent ``[1,C,h,w]``.
        direction: the part of it that is not ``sqrt(alpha_next) * clean``.
        history: what the sampler wants to see again at its next step; never changed in place.
    """

    noisy: Tensor
    direction: Tensor
    history: Any = None


class Memory(NamedTuple):
    """What a sampler may look back at: its own history and the fixed noise of the key frame."""

    history: Any
    noise: Noise


class Sampler(ABC):
    """The numerical solver of the denoising process."""

    rewrites_past: ClassVar[bool] = False  # corrects the latent of the step before
    invertible: ClassVar[bool] = (
        False  # each step is the one that `rerender.start._inversion` reverses
    )

    @abstractmethod
    def schedule(self, steps: int, model: Model) -> Schedule:
        """All ``steps`` steps from pure noise, spaced as the checkpoint asks."""

    @abstractmethod
    def move(
        self, schedule: Schedule, state: State, estimate: Tensor, memory: Memory
    ) -> StepOutput:
        """From one step to the next.

        Args:
            schedule: the executed steps.
            state: the present step, with the clean latent after all edits.
            estimate: the network's noise estimate ``[1,C,h,w]``, not edited.
            memory: what the last step left, and the fixed noise.
        """
