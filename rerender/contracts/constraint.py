"""What ties key frames to each other while they are denoised."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import ClassVar, NamedTuple

from torch import Tensor

from rerender.contracts.network import AttendJointly, AttentionMapEdit, Model
from rerender.contracts.source import require_window
from rerender.scene import Layer, Scene, Shot, State

Attend = Callable[[Layer, Tensor, int], Tensor]
"""``attend(layer, tokens [B,N,C], step) -> [B,M,C]``: what keys and values are made of."""


Edit = Callable[[State], Tensor]
"""``edit(state) -> [1,C,h,w]``: the latent that takes the place of the state's."""


class Guidance(NamedTuple):
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
    pull: Guidance | None = None  # energy whose gradient moves the latent
    maps: Callable[[int], AttentionMapEdit | None] | None = (
        None  # step -> who looks at attention maps
    )
    together: AttendJointly | None = (
        None  # which key frames attend to which; joint constraints only
    )


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


class JointEdits(NamedTuple):
    """What a joint constraint does to one key frame.

    Attributes:
        sampling: edits of its denoising.
        inversion: ``maps`` and ``together`` while a start goes back from the source, told the
            source prompt; the other edits have no place there.
    """

    sampling: Edits = Edits()
    inversion: Edits = Edits()


@dataclass(frozen=True, kw_only=True)
class JointConstraint(Constraint):
    """A constraint on all key frames of a shot at once: they are denoised in lockstep, a step at a
    time, the first one like the others. One such constraint makes a run joint."""

    needs_source: ClassVar[bool] = False  # compares with an inversion told the source prompt

    def pivots(self, count: int) -> Sequence[int]:
        """Ordinals of those of ``count`` key frames that others look at: every batch holds them."""
        return ()

    @abstractmethod
    def unite(self, shot: Shot, model: Model) -> Sequence[JointEdits]:
        """What to do to each key frame. What lasts over the shot lives in the closures returned;
        they may be asked more than once for the same step."""

    def bind(self, scene: Scene, model: Model) -> Edits:
        """Nothing: `unite` has said it all."""
        return Edits()
