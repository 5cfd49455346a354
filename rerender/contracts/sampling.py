"""Where denoising begins, and how it goes from step to step."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Generator, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, NamedTuple

from torch import Tensor

from rerender.contracts.network import Model
from rerender.contracts.request import Condition, NoiseRequest
from rerender.scene import Noise, State
from rerender.video import KeyFrame


@dataclass(frozen=True)
class Schedule:
    """The denoising steps that are executed.

    Attributes:
        timesteps: training timestep of each step, decreasing.
        alphas_cumprod: alpha-bar before each step and after the last one (one value more).
        skipped: steps of the full schedule left out at its noisy end (SDEdit).
        beyond: alpha-bar of the time that each step jumps to before noise is added back; () where
            the sampler does not (all but TCD).
    """

    timesteps: tuple[int, ...]
    alphas_cumprod: tuple[float, ...]
    skipped: int = 0
    beyond: tuple[float, ...] = ()

    def __len__(self) -> int:
        return len(self.timesteps)


def unchanged(request: NoiseRequest, step: int) -> NoiseRequest:
    """A request that no joint constraint has a part in."""
    return request


@dataclass(frozen=True)
class StartContext:
    """What a start may use: one key frame before its first step.

    Attributes:
        key: the key frame.
        distance: frames between its shot's anchor and itself.
        latent: the source's latent, ``[1,C,h,w]``.
        noise: the fixed noise of this key frame.
        schedule: the executed steps.
        conditioning_scale: strength of each ControlNet at each step, ``[steps][nets]``.
        guidance_scale: scale of classifier-free guidance.
        condition: what the key frame is told.
        source_condition: makes the same condition with the source prompt in place of the prompt.
        from_noise: whether pure noise is asked for, not the source.
        edited: ``edited(request, step)``: a request of an inversion that is told the source prompt,
            with what joint constraints look at in it.
        adapter_scale: strength of each of the model's adapters at each step, ``[steps][adapters]``.
        label: the key frame in words, for the progress display.
        image_guidance: scale of guidance by the source picture (InstructPix2Pix).
    """

    key: KeyFrame
    distance: int
    latent: Tensor
    noise: Noise
    schedule: Schedule
    conditioning_scale: Sequence[tuple[float, ...]]
    guidance_scale: float
    condition: Condition
    source_condition: Callable[[], Condition]
    from_noise: bool = False
    edited: Callable[[NoiseRequest, int], NoiseRequest] = unchanged
    adapter_scale: Sequence[tuple[float, ...]] = ()
    label: str = ""
    image_guidance: float = 1.0

    def request(
        self, noisy: Tensor, step: int, condition: Condition, control: bool = True
    ) -> NoiseRequest:
        """The network evaluation at a latent ``[1,C,h,w]`` and an executed step.

        Args:
            noisy: the latent.
            step: the executed step.
            condition: what the network is told.
            control: whether ControlNets act.
        """
        scale = self.conditioning_scale[step]
        scale = scale if control else (0.0,) * len(scale)
        time, note = self.schedule.timesteps[step], f"{self.label}, start"
        adapters = self.adapter_scale[step] if self.adapter_scale else ()
        return NoiseRequest(noisy, time, condition, scale, adapter_scale=adapters, note=note)


class InitialLatent(NamedTuple):
    """What the denoising of a key frame begins with.

    Attributes:
        noisy: the latent that enters the first executed step, ``[1,C,h,w]``.
        prompt_embeds: ``[B,T,D]`` for each executed step; () keeps the condition's.
        evaluations: how many network evaluations it took.
    """

    noisy: Tensor
    prompt_embeds: tuple[Tensor, ...] = ()
    evaluations: int = 0


class Start(ABC):
    """Where the denoising of a key frame begins."""

    inverts: ClassVar[bool] = False  # reverses the sampler's steps
    needs_guidance: ClassVar[bool] = False  # changes the unconditional branch
    needs_noise: ClassVar[bool] = False  # begins with noise alone, not with the source

    @abstractmethod
    def begin(self, context: StartContext) -> Generator[NoiseRequest, Tensor, InitialLatent]:
        """Ask for network evaluations, be sent the predicted noise, return the initial latent."""

    def evaluations(self, steps: int) -> int:
        """The most evaluations that `begin` asks for with so many executed steps."""
        return 0


class StepOutput(NamedTuple):
    """One step of a sampler.

    Attributes:
        noisy: the next latent ``[1,C,h,w]``.
        direction: the part of it that is not ``sqrt(alpha_bar_next) * clean``.
        history: what the sampler wants to see again at its next step; never changed in place.
    """

    noisy: Tensor
    direction: Tensor
    history: Any = None


class Sampler(ABC):
    """The numerical solver of the denoising process."""

    rewrites_past: ClassVar[bool] = False  # corrects the latent of the step before
    invertible: ClassVar[bool] = False  # `rerender.start._inversion` reverses its steps

    @abstractmethod
    def schedule(self, steps: int, model: Model) -> Schedule:
        """All ``steps`` steps from pure noise, spaced as the checkpoint asks."""

    @abstractmethod
    def step(
        self, schedule: Schedule, state: State, clean: Tensor, noise_estimate: Tensor, noise: Noise
    ) -> StepOutput:
        """From one step to the next.

        Args:
            schedule: the executed steps.
            state: the present step, with the history of the step before.
            clean: the predicted clean latent ``[1,C,h,w]`` after all edits.
            noise_estimate: of the network, ``[1,C,h,w]``, not edited.
            noise: the fixed noise of the key frame.
        """
