"""What ties key frames to each other while they are denoised."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import ClassVar, Literal, NamedTuple

from torch import Tensor

from rerender.contracts.attention import (
    AttendJointly,
    AttentionProcessor,
    Canvas,
    FeatureEdit,
    Features,
)
from rerender.contracts.network import Model
from rerender.contracts.request import AttentionMapEdit
from rerender.contracts.source import require_window
from rerender.scene import Layer, Scene, Shot, State

Attend = Callable[[Layer, Tensor, int], Tensor]
"""``attend(layer, hidden_states [B,N,C], step) -> [B,M,C]``: what keys and values are made of."""

MapsAt = Callable[[int], AttentionMapEdit | None]
"""``maps(step)``: what is done to softmax maps of attention in that step, if anything."""


CleanJointly = Callable[[int, Features], Features]
"""``clean(step, latents)``: the predicted clean latents ``[1,C,h,w]`` of all key frames of a shot,
after all edits of each one's own."""


class Guidance(NamedTuple):
    """A scalar that is made smaller: ``x_t-1 <- x_t-1 - step_size * grad_x_t loss``, the gradient
    taken through the network.

    Attributes:
        loss: ``loss(state, clean)`` -> scalar. The clean latent is a function of ``state.noisy``,
            and so is all that attention has seen in the evaluation just made.
        step_size: how far the latent that leaves the step moves along the negative gradient.
    """

    loss: Callable[[State, Tensor], Tensor]
    step_size: float


class Edits(NamedTuple):
    """What a constraint does to the denoising of one key frame. None leaves that thing alone.

    Attributes:
        attend: what self-attention makes keys and values of.
        clean: ``clean(state, clean [1,C,h,w]) -> [1,C,h,w]``: the predicted clean latent.
        noisy: ``noisy(state) -> [1,C,h,w]``: the latent that enters the network.
        guidance: a loss whose gradient moves the latent that leaves a step.
        maps: what is done to softmax maps of attention.
    """

    attend: Attend | None = None
    clean: Callable[[State, Tensor], Tensor] | None = None
    noisy: Callable[[State], Tensor] | None = None
    guidance: Guidance | None = None
    maps: MapsAt | None = None


@dataclass(frozen=True, kw_only=True)
class Part(ABC):  # noqa: B024, its kinds have the methods
    """Something that acts in a window of the steps.

    Attributes:
        start: first moment it acts, as a share of the steps.
        stop: first moment it does not act any more: active while
            ``round(start * N) <= step < round(stop * N)``.
    """

    start: float = 0.0
    stop: float = 1.0

    edits_noisy: ClassVar[bool] = False  # changes the latent between two steps

    def __post_init__(self) -> None:
        require_window(f"constraint.{self.name}", self.start, self.stop)

    @property
    def name(self) -> str:
        """The word it is known by: its file and its yaml."""
        return type(self).__module__.rpartition(".")[2]


@dataclass(frozen=True, kw_only=True)
class Constraint(Part):
    """A cross-frame constraint: a key frame is denoised under it with regard to earlier ones."""

    needs_draft: ClassVar[bool] = False  # wants the key frame translated once without it
    needs_previous: ClassVar[bool] = False  # reads clean latents of the key frame before

    @property
    def encodes(self) -> Sequence[Literal["anchor", "previous"]]:
        """The earlier results whose pixels it encodes into this key frame, the one on top first."""
        return ()

    def remembers(self, layer: Layer, ordinal: int) -> bool:
        """Whether later key frames read this layer's hidden states of the ``ordinal``-th key frame
        of a shot (0 is the anchor)."""
        return False

    @abstractmethod
    def bind(self, scene: Scene, model: Model) -> Edits:
        """What to do to this key frame. What lasts over it lives in the closures returned."""


class InversionEdits(NamedTuple):
    """What a joint constraint looks at while a start goes back from the source, told the source
    prompt.

    Attributes:
        maps: what is done to softmax maps of attention.
        attend_jointly: which key frames attend to which.
        processor: what answers in place of self-attention layers.
        features: what is done to features of the decoder.
        canvas: which key frames are one picture.
    """

    maps: MapsAt | None = None
    attend_jointly: AttendJointly | None = None
    processor: AttentionProcessor | None = None
    features: FeatureEdit | None = None
    canvas: Canvas | None = None


class JointEdits(NamedTuple):
    """What a joint constraint does to one key frame; all but ``sampling`` is the same for all of
    the shot.

    Attributes:
        sampling: edits of its denoising.
        attend_jointly: which key frames attend to which meanwhile.
        inversion: edits of the inversion that its denoising begins with.
        processor: what answers in place of self-attention layers.
        features: what is done to features of the decoder.
        canvas: which key frames are one picture.
        clean_jointly: what is done to the predicted clean latents of all.
        share: of this key frame alone, ``[1,1,h,w]`` of its latent cells in 0..1: how far edits
            that follow the flow count there. None lets every edit count everywhere.
        other_share: likewise, how far other joint edits count; None: for the rest, 1 - share.
    """

    sampling: Edits = Edits()
    attend_jointly: AttendJointly | None = None
    inversion: InversionEdits = InversionEdits()
    processor: AttentionProcessor | None = None
    features: FeatureEdit | None = None
    canvas: Canvas | None = None
    clean_jointly: CleanJointly | None = None
    share: Tensor | None = None
    other_share: Tensor | None = None


@dataclass(frozen=True, kw_only=True)
class JointConstraint(Part):
    """A constraint on all key frames of a shot at once: they are denoised in lockstep, a step at a
    time, the first one like the others. One such constraint makes a run joint."""

    needs_source: ClassVar[bool] = False  # compares with an inversion told the source prompt
    replaces_attention: ClassVar[bool] = False  # answers in place of self-attention layers
    merges_frames: ClassVar[bool] = False  # denoises several key frames as one picture
    follows_flow: ClassVar[bool] = False  # fuses what earlier key frames show, moved by the flow

    def pivots(self, shot: Shot, step: int) -> Sequence[int]:
        """Ordinals of the key frames that others look at in a step: every batch holds them."""
        return ()

    def batches(self, shot: Shot) -> Sequence[Sequence[int]] | None:
        """Ordinals of the key frames of each batch, where the method says so; None splits by
        pivots and ``sampling.batch_size``. Of a key frame in several, the first one counts."""
        return None

    @abstractmethod
    def bind(self, shot: Shot, model: Model) -> Sequence[JointEdits]:
        """What to do to each key frame. What lasts over the shot lives in the closures returned;
        they may be asked more than once for the same step."""
