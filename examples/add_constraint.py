"""Try a constraint of your own from Python, before it becomes a choice of the configuration.

    python examples/add_constraint.py

As a choice it is one file and one yaml: the class in rerender/constraint/grain.py, its settings in
conf/constraint/grain.yaml.
"""

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from rerender import Clip, load_model, parts, render
from rerender.contracts import Constraint, Edits, Model
from rerender.data.demo import Demo
from rerender.scene import Scene, State


@dataclass(frozen=True, kw_only=True)
class Grain(Constraint):
    """Adds noise to the predicted clean latent, the same for every key frame: grain that does not
    move. ``x^0_t <- x^0_t + amount * n``, n standard normal."""

    amount: float = 0.05

    def bind(self, scene: Scene, model: Model) -> Edits:
        def clean(state: State, clean: Tensor) -> Tensor:
            return clean + self.amount * scene.noise("grain", 0)

        return Edits(clean=clean)


def rendered(clip: Clip, model: Model, amount: float, *settings: str) -> Tensor:
    """The clip under this constraint and the default ones, ``[T,3,H,W]``."""
    choices = parts(*settings)
    grain = Grain(start=0.5, amount=amount)  # acts in the second half of the steps
    choices = replace(choices, constraint=(*choices.constraint, grain))
    return torch.stack(list(render(clip, model, choices)))


def main(model: str = "demo", size: int = 128, *settings: str) -> float:
    """Show what the constraint changes; returns the mean difference of pixels, 0..1."""
    (clip,) = Demo(frames=6, size=size).clips()
    loaded, said = load_model(model), (f"model={model}", "keyframes.interval=5", *settings)
    plain, grained = (rendered(clip, loaded, amount, *said) for amount in (0.0, 0.1))
    difference = float((plain - grained).abs().mean())
    print(f"{len(plain)} frames; grain changes a pixel by {difference:.4f} on average")
    return difference


if __name__ == "__main__":
    main()
