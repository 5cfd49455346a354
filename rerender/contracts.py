"""Every kind of part on one page. A choice is one file that fulfils one of these contracts.

Parts are frozen dataclasses: their fields are their configuration, they keep no state between
calls, and they refuse bad values when they are built.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, NamedTuple

from torch import Tensor

from rerender.errors import ConfigError
from rerender.flow.field import Flow, occlusion
from rerender.scene import Layer, Noise, Scene, Shot, State
from rerender.video import Clip, Frame, KeyFrame, Segment, Video

Attend = Callable[[Layer, Tensor, int], Tensor]
"""``attend(layer, tokens [B,N,C], step) -> [B,M,C]``: what keys and values are made of."""

Edit = Callable[[State], Tensor]
"""``edit(state) -> [1,C,h,w]``: the latent that takes the place of the state's."""


Cell = float | int | str | None
"""A value in a record's table."""


class Data(ABC):
    """Where clips come from. Everything that can be refused is refused by ``clips``.

    Attributes:
        size: short side in pixels at which clips are processed.
    """

    size: int

    @abstractmethod
    def clips(self) -> Sequence[Clip]:
        """The clips, opened and checked, frames not yet read."""


class KeyFrames(ABC):
    """Which frames are translated by diffusion."""

    @abstractmethod
    def pick(self, video: Video) -> Sequence[Sequence[int]]:
        """Indices of the key frames of each shot, increasing; the first and the last frame of every
        shot are always among them."""


@dataclass(frozen=True, kw_only=True)
class Control(ABC):
    """A structure map that a ControlNet follows.

    Attributes:
        weight: strength of the ControlNet's residuals.
        start: first moment it acts, as a share of the steps.
        stop: first moment it does not act any more (half-open, as for constraints).
    """

    weight: float = 1.0
    start: float = 0.0
    stop: float = 1.0

    costly: ClassVar[bool] = False  # takes longer than reading a map from a disk

    def __post_init__(self) -> None:
        if not 0 <= self.weight <= 10:
            raise ConfigError(
                f"control.{self.name}.weight",
                f"must lie in 0..10, received {self.weight}",
                "1 is usual",
            )
        require_window(f"control.{self.name}", self.start, self.stop)

    @property
    def name(self) -> str:
        """The word that a checkpoint finds the ControlNet by: the control's file and yaml."""
        return type(self).__module__.rpartition(".")[2]

    @abstractmethod
    def map(self, image: Tensor) -> Tensor:
        """The control map ``[3,H,W]`` in 0..1 of an image ``[3,H,W]`` in 0..1."""


def require_window(where: str, start: float, stop: float) -> None:
    """Refuse a window that is empty, reversed or outside 0..1.

    Raises:
        ConfigError: naming ``where``.
    """
    if not 0.0 <= start < stop <= 1.0:
        raise ConfigError(
            where,
            f"a window needs 0 <= start < stop <= 1, received {start} to {stop}",
            "swap or widen the two",
        )


class FlowEstimator(ABC):
    """Optical flow between two frames."""

    costly: ClassVar[bool] = False  # takes longer than reading a flow from a disk

    def open(self, clip: Clip) -> FlowEstimator:
        """The estimator for one clip (an estimator that reads the truth needs to know whose)."""
        return self

    def rough(self) -> FlowEstimator:
        """A cheaper estimator of the same kind for the links of a chain of neighbouring frames,
        whose ends are estimated again; itself where there is none."""
        return self

    @abstractmethod
    def offset(self, target: Frame, source: Frame, start: Tensor | None = None) -> Tensor:
        """Offsets ``[1,2,H,W]`` in pixels, (x, y), from target to source.

        Args:
            target: the frame whose pixels are looked for.
            source: the frame they are looked for in.
            start: a first guess ``[1,2,H,W]``; estimators that cannot use one ignore it.
        """

    def pair(self, first: Frame, second: Frame) -> tuple[Flow, Flow]:
        """The flows first -> second and second -> first, with forward-backward occlusion."""
        there, back = self.offset(first, second), self.offset(second, first)
        return Flow(there, occlusion(there, back)), Flow(back, occlusion(back, there))

    def offsets(self, first: Frame, second: Frame) -> tuple[Tensor, Tensor]:
        """The offsets first -> second and second -> first, for those who need no occlusion."""
        there, back = self.pair(first, second)
        return there.offset, back.offset

    def between(self, target: Frame, source: Frame) -> Flow:
        """The flow from target to source, with occlusion."""
        return self.pair(target, source)[0]


@dataclass(frozen=True)
class Condition:
    """What the denoising network is told besides the noisy latent.

    Attributes:
        text: ``[B,T,D]`` prompt embeddings; the branches are (negative, positive), or positive only
            where no guidance is asked for.
        hints: one encoded control map ``[1,C,h,w]`` for each ControlNet.
    """

    text: Tensor
    hints: tuple[Tensor, ...] = ()


Shown = Mapping[int, Tensor]
"""Tokens ``[B,N,C]`` of the key frames of a shot, by their ordinal in it."""

Look = Callable[[Layer, Shown, int], Shown]
"""``look(layer, tokens, step)``: what each of the key frames attends to, ``[B,M,C]``. It is shown
the key frames that share a batch: its constraint's pivots always, the others or a part of them."""


class Together(NamedTuple):
    """A key frame's place among those of its shot that look at each other in a batch.

    Attributes:
        ordinal: its number in the shot.
        step: executed step, the same for all.
        looks: applied in turn, the same for all.
    """

    ordinal: int
    step: int
    looks: tuple[Look, ...]


class Maps(NamedTuple):
    """Looks at softmax maps of attention layers and says what takes their place.

    Attributes:
        wants: ``wants(layer, N)``: whether it asks for the maps of a layer with N query tokens;
            maps that nobody wants are never computed.
        edit: ``edit(layer, maps [B,heads,N,M]) -> [B,heads,N,M]``, float32, B over the guidance
            branches, M keys: tokens attended to, or of the prompt where ``layer.cross``.
    """

    wants: Callable[[Layer, int], bool]
    edit: Callable[[Layer, Tensor], Tensor]


class Query(NamedTuple):
    """One sample of a batch for the network.

    Attributes:
        noisy: ``[1,C,h,w]``.
        timestep: training timestep.
        condition: text and control hints.
        weights: strength of each ControlNet at this step; 0 switches it off.
        attend: what self-attention looks at; None means at itself.
        maps: who looks at attention maps.
        together: which other samples of the batch its self-attention looks at.
    """

    noisy: Tensor
    timestep: int
    condition: Condition
    weights: tuple[float, ...]
    attend: Callable[[Layer, Tensor], Tensor] | None = None
    maps: Maps | None = None
    together: Together | None = None


class Model(ABC):
    """A latent diffusion model with any number of ControlNets."""

    @property
    @abstractmethod
    def factor(self) -> int:
        """Pixels per latent cell along a side."""

    @property
    @abstractmethod
    def multiple(self) -> int:
        """Image sides must be multiples of this."""

    @property
    @abstractmethod
    def alphas(self) -> Tensor:
        """Cumulative alpha-bar of every training timestep, ``[T]`` float64."""

    @property
    @abstractmethod
    def spacing(self) -> Mapping[str, Any]:
        """How inference timesteps are chosen: timestep_spacing, steps_offset, set_alpha_to_one."""

    @abstractmethod
    def layers(self) -> Sequence[Layer]:
        """The self-attention layers, in the order they run."""

    @abstractmethod
    def encode(self, image: Tensor) -> Tensor:
        """The mean latent ``[1,C,h,w]``, scaled, of an image ``[3,H,W]`` in 0..1."""

    @abstractmethod
    def decode(self, latent: Tensor) -> Tensor:
        """The image ``[3,H,W]`` (0..1, not clipped) of a scaled latent ``[1,C,h,w]``."""

    @abstractmethod
    def condition(
        self, prompt: str, negative_prompt: str, controls: Sequence[Tensor], guided: bool
    ) -> Condition:
        """Encode prompts and control maps once for all steps of a key frame.

        Args:
            prompt: the positive prompt.
            negative_prompt: the negative prompt; only used where ``guided``.
            controls: one map ``[3,H,W]`` in 0..1 for each ControlNet.
            guided: whether classifier-free guidance needs the unconditional branch.
        """

    @abstractmethod
    def predict_noise(self, queries: Sequence[Query]) -> list[Tensor]:
        """The noise ``[B,C,h,w]`` predicted for each query, B over guidance branches, in one
        batch; float32. Differentiable where a noisy latent or a text asks for gradients."""

    @abstractmethod
    def tokens(self, prompt: str) -> Sequence[int]:
        """The tokens of a prompt, as many as its embedding has rows: a beginning, the words, then
        ends up to the model's length."""

    @abstractmethod
    def digest(self) -> str:
        """A short hash of all weights, for records and caches."""


class Checkpoint(ABC):
    """Where a model's weights lie; loading is a step of its own because it is slow."""

    @abstractmethod
    def check(self, controls: Sequence[str]) -> None:
        """Refuse missing or damaged files before anything is loaded.

        Args:
            controls: names of the controls that need a ControlNet, such as ``("canny",)``.
        """

    def fingerprint(self, controls: Sequence[str]) -> str | None:
        """A hash of the files that `load` reads; None where only loading can tell."""
        return None

    @abstractmethod
    def load(self, controls: Sequence[str]) -> Model:
        """The model with one ControlNet for each control, in that order."""


class Pull(NamedTuple):
    """A scalar that is made smaller: its gradient, taken through the network, moves the latent
    that leaves the step.

    Attributes:
        energy: ``energy(state)`` -> scalar. The state's clean latent is a function of its noisy
            one, and so is all that attention has seen in the evaluation just made.
        size: how far the latent moves along the negative gradient.
    """

    energy: Callable[[State], Tensor]
    size: float


class Edits(NamedTuple):
    """What a constraint does to the denoising of one key frame. None leaves that thing alone."""

    attend: Attend | None = None  # tokens self-attention looks at
    clean: Edit | None = None  # predicted clean latent of a step
    noisy: Edit | None = None  # latent that enters the network
    pull: Pull | None = None  # energy whose gradient moves the latent
    maps: Callable[[int], Maps | None] | None = None  # step -> who looks at attention maps
    together: Look | None = None  # which key frames attend to which; joint constraints only


@dataclass(frozen=True, kw_only=True)
class Constraint(ABC):
    """A cross-frame constraint on the denoising of a key frame.

    Attributes:
        start: first moment it acts, as a share of the steps.
        stop: first moment it does not act any more: active while
            ``round(start * N) <= step < round(stop * N)``.
    """

    start: float = 0.0
    stop: float = 1.0

    needs_draft: ClassVar[bool] = False  # wants the key frame translated once without it
    edits_noisy: ClassVar[bool] = False  # changes the latent that enters the network
    needs_previous: ClassVar[bool] = False  # reads clean latents of the key frame before

    def __post_init__(self) -> None:
        require_window(f"constraint.{self.name}", self.start, self.stop)

    @property
    def name(self) -> str:
        """The word this constraint is known by: its file and its yaml."""
        return type(self).__module__.rpartition(".")[2]

    def remembers(self, layer: Layer, ordinal: int) -> bool:
        """Whether later key frames read this layer's tokens of the ``ordinal``-th key frame of a
        shot (0 is the anchor)."""
        return False

    @abstractmethod
    def bind(self, scene: Scene, model: Model) -> Edits:
        """What to do to this key frame. What lasts over it lives in the closures returned."""


class Act(NamedTuple):
    """What a joint constraint does to one key frame.

    Attributes:
        sampling: edits of its denoising.
        inversion: ``maps`` and ``together`` while a start goes back from the source, told the
            source prompt; the other edits have no place there.
    """

    sampling: Edits = Edits()
    inversion: Edits = Edits()


@dataclass(frozen=True, kw_only=True)
class Joint(Constraint):
    """A constraint on all key frames of a shot at once: they are denoised in lockstep, a step at a
    time, the first one like the others. One such constraint makes a run joint."""

    needs_source: ClassVar[bool] = False  # compares with an inversion told the source prompt

    def pivots(self, count: int) -> Sequence[int]:
        """Ordinals of those of ``count`` key frames that others look at: every batch holds them."""
        return ()

    @abstractmethod
    def unite(self, shot: Shot, model: Model) -> Sequence[Act]:
        """What to do to each key frame. What lasts over the shot lives in the closures returned;
        they may be asked more than once for the same step."""

    def bind(self, scene: Scene, model: Model) -> Edits:
        """Nothing: `unite` has said it all."""
        return Edits()


@dataclass(frozen=True)
class Schedule:
    """The denoising steps that are executed.

    Attributes:
        timesteps: training timestep of each step, decreasing.
        alphas: cumulative alpha-bar before each step and after the last one (one value more).
        skipped: steps of the full schedule left out at its noisy end (SDEdit).
    """

    timesteps: tuple[int, ...]
    alphas: tuple[float, ...]
    skipped: int = 0

    def __len__(self) -> int:
        return len(self.timesteps)


@dataclass(frozen=True)
class Stage:
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


class Opening(NamedTuple):
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
    def begin(self, stage: Stage) -> Generator[Query, Tensor, Opening]:
        """Ask for network evaluations, be sent the predicted noise, return the opening."""

    def evaluations(self, steps: int) -> int:
        """The most evaluations that `begin` asks for with so many executed steps."""
        return 0


class Move(NamedTuple):
    """One step of a sampler.

    Attributes:
        noisy: the next latent ``[1,C,h,w]``.
        direction: the part of it that is not ``sqrt(alpha_next) * clean``.
        history: what the sampler wants to see again at its next step; never changed in place.
    """

    noisy: Tensor
    direction: Tensor
    history: Any = None


class Sampler(ABC):
    """The numerical solver of the denoising process."""

    rewrites_past: ClassVar[bool] = False  # corrects the latent of the step before
    invertible: ClassVar[bool] = False  # each step is the one that `rerender.inversion` reverses

    @abstractmethod
    def schedule(self, steps: int, model: Model) -> Schedule:
        """All ``steps`` steps from pure noise, spaced as the checkpoint asks."""

    @abstractmethod
    def move(self, schedule: Schedule, state: State, estimate: Tensor, memory: Memory) -> Move:
        """From one step to the next.

        Args:
            schedule: the executed steps.
            state: the present step, with the clean latent after all edits.
            estimate: the network's noise estimate ``[1,C,h,w]``, not edited.
            memory: what the last step left, and the fixed noise.
        """


class Memory(NamedTuple):
    """What a sampler may look back at: its own history and the fixed noise of the key frame."""

    history: Any
    noise: Noise


class Propagation(ABC):
    """From key frames to the frames between them."""

    @abstractmethod
    def fill(self, segment: Segment, flow: FlowEstimator) -> Iterator[Tensor]:
        """Frames ``segment.start`` to ``segment.stop - 1`` in order, ``[3,H,W]`` in 0..1."""


class Smooth(ABC):
    """A filter over the finished frames."""

    framewise: ClassVar[bool] = False  # what becomes of a frame depends on no other frame

    @abstractmethod
    def run(self, frames: Iterable[Tensor], source: Video, flow: FlowEstimator) -> Iterator[Tensor]:
        """As many frames as went in, in order, ``[3,H,W]`` in 0..1."""


class Tracker(ABC):
    """Where a run's record goes. A tracker never stops a run."""

    @abstractmethod
    def start(self, folder: Path, config: Mapping[str, Any], name: str, group: str) -> None:
        """Begin a record."""

    @abstractmethod
    def log(self, values: Mapping[str, float | int | str | None], step: int | None = None) -> None:
        """Add a row of values."""

    @abstractmethod
    def summary(self, values: Mapping[str, float | int | str | None]) -> None:
        """Set final values."""

    @abstractmethod
    def file(self, name: str, path: Path) -> None:
        """Add a finished file: a video (.mp4) or a picture (.png)."""

    @abstractmethod
    def table(self, name: str, columns: Sequence[str], rows: Sequence[Sequence[Cell]]) -> None:
        """Add a table; a row has one cell for each column."""

    @abstractmethod
    def finish(self, exit_code: int) -> None:
        """End the record."""
