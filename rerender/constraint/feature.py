"""Feature distance between adjacent key frames, made smaller by steps on the clean latent."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, ClassVar

import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor

from rerender.constraint import _backbones
from rerender.constraint._backbones import Features
from rerender.constraint._masks import known, soften
from rerender.contracts import Constraint, Edits, Model
from rerender.contracts.gradient import gradient
from rerender.errors import ConfigError
from rerender.kinds import LocalModel, Word, expanded
from rerender.scene import Scene, State

_SMALLEST = 1e-6  # squared length below which a feature has no direction
_VGG19, _DEMO = "vgg19", "demo"
_LAYERS = {
    _VGG19: dict.fromkeys(("relu1_1", "relu2_1", "relu3_1", "relu4_1", "relu5_1"), 1.0),
    _DEMO: dict.fromkeys(_backbones.DEMO, 1.0),
}


@dataclass(frozen=True, kw_only=True)
class Feature(Constraint):
    """The predicted clean latent moves towards one whose picture has the features that the previous
    key frame had at the same step, moved by the flow:

        L(x) = sum_l w_l mean_p M_l(p) |f_l(D(x)) - f_l(y)|^2,
        x^0_t <- x^0_t - step_size * grad L / rms(grad L),    ``iterations`` times

    f_l are features of layer l of unit length at every position p, M_l is where the previous key
    frame is visible, averaged to the layer's grid, and y its picture w(D(x^0_t of it)) with the
    present picture where it is hidden. (What left the image by less than half a pixel is not: w
    takes the nearest pixel for it.) The gradient goes through the decoder D, not through the
    denoising network; its root mean square is taken over visible cells, so that ``step_size`` is a
    distance in units of the latent, whatever the size of the picture. Of all latents met the one
    with the smallest L is kept: L never rises.

    The distance is LPIPS (Zhang et al. 2018, eq. 1) with weights by layer instead of channel.

    Attributes:
        weights: "demo", or a file of VGG-19 as torchvision publishes it.
        sha256: what the digest of that file begins with; None takes it from the file's name.
        layers: weight of each layer, for each network; 0 leaves a layer out.
        step_size: distance of a step in units of the latent (about its standard deviation).
        iterations: gradient steps at each denoising step.
    """

    weights: LocalModel = _DEMO
    sha256: Word | None = None
    layers: Mapping[str, Mapping[str, Annotated[float, Field(ge=0, le=1000)]]] = field(
        default_factory=lambda: _LAYERS
    )
    step_size: Annotated[float, Field(gt=0, le=10)] = 0.05
    iterations: Annotated[int, Field(ge=1, le=100)] = 3

    needs_previous: ClassVar[bool] = True

    def __post_init__(self) -> None:
        super().__post_init__()
        known_layers = {_VGG19: _backbones.VGG19, _DEMO: _backbones.DEMO}
        for network, layers in self.layers.items():
            for layer in layers:
                if layer not in known_layers.get(network, ()):
                    raise ConfigError(
                        f"constraint.feature.layers.{network}",
                        f"no layer {layer!r}",
                        f"layers: {', '.join(known_layers.get(network, known_layers))}",
                    )
        if not self._weighted():
            problem = f"no layer of {self.network} has a weight"
            raise ConfigError("constraint.feature.layers", problem, "give one a weight above 0")
        if self.network == _VGG19:
            _backbones.check_vgg19(expanded(self.weights), self.sha256, "constraint.feature.sha256")

    @property
    def network(self) -> str:
        """Which of ``layers`` is taken: "demo" or "vgg19"."""
        return _DEMO if self.weights == _DEMO else _VGG19

    def _weighted(self) -> dict[str, float]:
        chosen = self.layers.get(self.network, {})
        return {name: weight for name, weight in chosen.items() if weight}

    def features(self, device: torch.device) -> Features:
        """The network, read once in a process."""
        layers = tuple(self._weighted())
        if self.network == _DEMO:
            return _backbones.demo(layers, device)
        return _backbones.vgg19(Path(expanded(self.weights)), layers, device)

    def distance(
        self, features: Features, picture: Tensor, target: Sequence[Tensor], visible: Tensor
    ) -> Tensor:
        """L of a picture.

        Args:
            features: of `features`.
            picture: ``[3,H,W]`` in 0..1.
            target: features of y.
            visible: M at the size of the picture, ``[1,1,H,W]`` in 0..1.
        """
        total = picture.new_zeros(())
        found = features(picture[None])
        for weight, own, wanted in zip(self._weighted().values(), found, target, strict=True):
            mask = F.adaptive_avg_pool2d(visible, (own.shape[-2], own.shape[-1]))
            apart = (unit(own) - unit(wanted)).square().sum(1, keepdim=True)
            total = total + weight * (mask * apart).sum() / mask.sum()
        return total

    def bind(self, scene: Scene, model: Model) -> Edits:
        flow, previous = scene.previous.flow, scene.previous.trace
        hidden = soften(flow.occluded)
        cells = known(hidden, model.vae_scale_factor)
        if not cells.any():  # nothing of the previous key frame is visible
            return Edits()
        scene.watch.picture("feature", scene.key.index, 1 - hidden[0])

        def descend(state: State, clean: Tensor) -> Tensor:
            visible = (1 - hidden).to(clean)
            features = self.features(clean.device)
            before = model.decode(previous.clean[state.step].to(clean))
            present = model.decode(clean)
            moved = flow.warp(before, outside="border")
            y = visible[0] * moved + (1 - visible[0]) * present
            target = features(y[None])
            best, smallest = clean, float("inf")
            for iteration in range(self.iterations + 1):
                moving = clean.detach().requires_grad_()
                picture = model.decode(moving)
                loss = self.distance(features, picture, target, visible)
                value = float(loss.detach())
                if value < smallest:
                    best, smallest = clean, value
                if iteration == self.iterations:
                    break
                # The mean over pixels makes small gradients: scaled up, since their length is
                # divided out anyway, and in float16 as much as it bears.
                scaled = loss if model.dtype == torch.float16 else loss * picture.numel()
                slope = gradient(scaled, moving, model.dtype)
                length = (slope.square().sum() / (cells.sum() * slope.shape[1])).sqrt()
                if not float(length):
                    break
                clean = clean - self.step_size * slope / length
            return best

        return Edits(clean=descend)


def unit(features: Tensor) -> Tensor:
    """Features ``[1,C,h,w]`` scaled to length one at every position."""
    return features / (features.square().sum(1, keepdim=True) + _SMALLEST).sqrt()
