"""The feature constraint: its gradient is the slope of its distance, and the distance falls."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import torch
from torch import Tensor, nn
from torchvision.models import vgg

from rerender.constraint import _backbones
from rerender.constraint._masks import soften
from rerender.constraint.feature import Feature
from rerender.errors import ConfigError, RerenderError, WeightsError
from rerender.flow.field import Flow, identity
from rerender.scene import Reference, Scene, State, Trace, Translation, Watch
from rerender.translation.noise import keyed
from rerender.video import Frame, KeyFrame
from tests.propagation.scenes import Drift
from tests.scenes import parts, translated

if TYPE_CHECKING:
    from rerender.model.diffusion import StableDiffusion

SIDE = 64


def latent(model: StableDiffusion, seed: int) -> Tensor:
    side = SIDE // model.vae_scale_factor
    return torch.randn(1, 4, side, side, generator=torch.Generator().manual_seed(seed))


def scene(model: StableDiffusion, previous: Tensor, occluded: Tensor | None = None) -> Scene:
    """The key frame before had the clean latent ``previous`` at step 0; nothing moves."""
    image = torch.zeros(3, SIDE, SIDE)
    earlier = Translation(KeyFrame(0, image), Trace(clean={0: previous}))
    still = identity(SIDE, SIDE)
    flow = Flow(still.offset, torch.zeros(1, 1, SIDE, SIDE) if occluded is None else occluded)
    reference = Reference(earlier, lambda: flow)
    noise = keyed(0, tuple(previous.shape))
    return Scene(KeyFrame(5, image), reference, reference, earlier, noise, Watch())


def edited(part: Feature, shown: Scene, model: StableDiffusion, clean: Tensor) -> Tensor:
    edit = part.bind(shown, model).clean
    assert edit is not None
    return edit(State(0, 0.5, clean, torch.zeros_like(clean)), clean)


def distance(
    part: Feature, model: StableDiffusion, clean: Tensor, target: Sequence[Tensor], seen: Tensor
) -> Tensor:
    features = part.features(torch.device("cpu"))
    return part.distance(features, model.decode(clean), target, seen)


def test_the_gradient_equals_finite_differences(tiny: StableDiffusion) -> None:
    part, clean, before = Feature(), latent(tiny, 1), latent(tiny, 2)
    seen = torch.ones(1, 1, SIDE, SIDE)
    seen[..., :20] = 0
    target = part.features(torch.device("cpu"))(tiny.decode(before)[None])
    moving = clean.clone().requires_grad_()
    (slope,) = torch.autograd.grad(distance(part, tiny, moving, target, seen), moving)
    assert slope.abs().max() > 0
    for seed in range(3):
        along = latent(tiny, 10 + seed)
        along = along / along.norm() + slope / slope.norm()
        step = 0.02
        ahead = distance(part, tiny, clean + step * along, target, seen)
        behind = distance(part, tiny, clean - step * along, target, seen)
        measured = float(ahead - behind) / (2 * step)
        assert measured == pytest.approx(float((slope * along).sum()), rel=0.02)


def test_the_distance_falls_with_every_step_allowed(tiny: StableDiffusion) -> None:
    clean, before = latent(tiny, 1), latent(tiny, 2)
    shown, seen = scene(tiny, before), torch.ones(1, 1, SIDE, SIDE)
    part = Feature(step_size=0.1)
    target = part.features(torch.device("cpu"))(tiny.decode(before)[None])
    values = [float(distance(part, tiny, clean, target, seen))]
    for iterations in (1, 4, 12):
        result = edited(replace(part, iterations=iterations), shown, tiny, clean)
        values.append(float(distance(part, tiny, result, target, seen)))
    assert values == sorted(values, reverse=True)
    assert values[-1] < 0.8 * values[0]


def test_a_step_is_as_long_as_it_says(tiny: StableDiffusion) -> None:
    clean = latent(tiny, 1)
    moved = edited(Feature(step_size=0.03, iterations=1), scene(tiny, latent(tiny, 2)), tiny, clean)
    assert float((moved - clean).square().mean().sqrt()) == pytest.approx(0.03, rel=1e-3)


def test_a_step_too_long_is_not_taken(tiny: StableDiffusion) -> None:
    near = latent(tiny, 1) + 1e-4 * latent(tiny, 3)
    moved = edited(Feature(step_size=10.0), scene(tiny, latent(tiny, 1)), tiny, near)
    assert torch.equal(moved, near)


def test_the_same_picture_stays(tiny: StableDiffusion) -> None:
    gray = torch.zeros(1, 4, SIDE // tiny.vae_scale_factor, SIDE // tiny.vae_scale_factor)
    shown = scene(tiny, gray)
    assert torch.equal(edited(Feature(), shown, tiny, gray), gray)


def test_what_leaves_by_less_than_half_a_pixel_is_as_bright_as_the_rim(
    tiny: StableDiffusion, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The forward-backward test hides nothing of it, and beyond the border there is no black."""
    looked_at: list[Tensor] = []

    def features(picture: Tensor) -> list[Tensor]:
        looked_at.append(picture)
        return [picture] * len(part.layers["demo"])

    class Even:
        """A model whose pictures are all of one grey."""

        vae_scale_factor, dtype = tiny.vae_scale_factor, torch.float32

        def decode(self, code: Tensor) -> Tensor:
            return torch.full((3, SIDE, SIDE), 0.8) + 0 * code.sum()

    part, clean = Feature(), latent(tiny, 1)
    monkeypatch.setattr(Feature, "features", lambda self, device: features)
    frames = Frame(5, torch.zeros(3, SIDE, SIDE)), Frame(0, torch.zeros(3, SIDE, SIDE))
    flow = Drift().between(*frames)
    assert flow.occluded.sum() == 0 and flow.offset.abs().min(1).values.max() == 0
    still = scene(tiny, latent(tiny, 2))
    reference = Reference(still.previous.translation, lambda: flow)
    moved = replace(still, anchor=reference, previous=reference)
    assert torch.equal(edited(part, moved, Even(), clean), clean)  # type: ignore[arg-type]
    assert torch.allclose(looked_at[0], torch.full_like(looked_at[0], 0.8), atol=1e-6)


def test_what_is_hidden_does_not_count(tiny: StableDiffusion) -> None:
    occluded = torch.zeros(1, 1, SIDE, SIDE)
    occluded[..., : SIDE // 2] = 1
    clean, before = latent(tiny, 1), latent(tiny, 2)
    hidden = soften(occluded)[0] == 1
    decoded = tiny.decode(before)
    other = torch.where(hidden, 1 - decoded, decoded)
    assert not torch.equal(other, decoded)

    class Shown:
        """The model, but the key frame before decodes to a picture that is given."""

        def __init__(self, picture: Tensor) -> None:
            self.picture = picture

        def __getattr__(self, name: str) -> Any:
            return getattr(tiny, name)

        def decode(self, code: Tensor) -> Tensor:
            return self.picture if torch.equal(code, before) else tiny.decode(code)

    one, two = (
        edited(Feature(), scene(tiny, before, occluded), Shown(picture), clean)  # type: ignore[arg-type]
        for picture in (decoded, other)
    )
    assert torch.equal(one, two)
    assert not torch.equal(one, clean)
    nothing = Feature().bind(scene(tiny, before, torch.ones(1, 1, SIDE, SIDE)), tiny)
    assert nothing.clean is None


def test_it_changes_key_frames_after_the_first_in_its_window(tiny: StableDiffusion) -> None:
    without = translated(tiny, parts(), 3)
    late = translated(tiny, parts((Feature(start=0.5, step_size=0.1),)), 3)
    assert torch.equal(late[0].image, without[0].image)
    steps = range(len(late[1].trace.clean))
    same = [torch.equal(late[1].trace.clean[s], without[1].trace.clean[s]) for s in steps]
    assert same == [step < len(steps) // 2 for step in steps]
    together = translated(tiny, parts((Feature(start=0.5, step_size=0.1),), batch_size=3), 3)
    assert torch.allclose(late[2].image, together[2].image, atol=1e-4)


def stock_vgg19() -> nn.Sequential:
    torch.manual_seed(0)
    network: nn.Sequential = vgg.make_layers(vgg.cfgs["E"], batch_norm=False).eval()
    return network


def test_vgg19_is_torchvisions(tmp_path: Path) -> None:
    stock = stock_vgg19()
    state = {f"features.{name}": value for name, value in stock.state_dict().items()}
    torch.save({**state, "classifier.0.bias": torch.zeros(3)}, tmp_path / "vgg.pth")
    sha256 = hashlib.sha256((tmp_path / "vgg.pth").read_bytes()).hexdigest()
    layers = {"vgg19": {"relu1_1": 1.0, "relu3_4": 0.0, "relu4_2": 0.5}}
    part = Feature(weights=str(tmp_path / "vgg.pth"), sha256=sha256[:10], layers=layers)
    image = torch.rand(1, 3, 32, 48, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        found = part.features(torch.device("cpu"))(image)
        hidden = (image - torch.tensor([0.485, 0.456, 0.406]).view(1, 3, 1, 1)) / torch.tensor(
            [0.229, 0.224, 0.225]
        ).view(1, 3, 1, 1)
        expected = {}
        for place, layer in enumerate(stock):
            hidden = layer(hidden.clone())
            expected[place] = hidden
    # torchvision's own names: relu1_1 is features.1, relu4_2 is features.22
    assert [tuple(each.shape) for each in found] == [(1, 64, 32, 48), (1, 512, 4, 6)]
    assert torch.allclose(found[0], expected[1], atol=1e-6)
    assert torch.allclose(found[1], expected[22], atol=1e-5)


def test_the_default_layers_are_there() -> None:
    assert {"relu1_1", "relu5_1"} < set(_backbones.VGG19)
    assert len(_backbones.VGG19) == 16


def refused(**settings: Any) -> RerenderError:
    with pytest.raises(RerenderError) as error:
        Feature(**settings)
    return error.value


def test_wrong_weights_and_layers_are_refused_before_any_work(tmp_path: Path) -> None:
    missing = refused(weights=str(tmp_path / "vgg19-dcbb9e9d.pth"))
    assert isinstance(missing, WeightsError) and "download.pytorch.org" in str(missing)
    (tmp_path / "vgg19-dcbb9e9d.pth").write_bytes(b"something else")
    assert "not dcbb9e9d" in str(refused(weights=str(tmp_path / "vgg19-dcbb9e9d.pth")))
    (tmp_path / "mine.pth").write_bytes(b"something else")
    unsaid = refused(weights=str(tmp_path / "mine.pth"))
    assert isinstance(unsaid, ConfigError) and "constraint.feature.sha256" in str(unsaid)
    assert "relu6_1" in str(refused(layers={"vgg19": {"relu6_1": 1.0}}))
    assert "no layer of demo" in str(refused(layers={"demo": {"stage1": 0.0}}))
