"""LoRA training: captions, the format of the result, resuming, what stays and what is refused."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import torch
from safetensors.torch import load_file
from torchvision.utils import save_image

from rerender.exits import command
from rerender.model.tiny import Tiny
from training import lora
from training.learn import Budget, learn
from training.lora import read_pictures
from training.lora_training import FILE, LAYERS, LoraSettings, LoraTraining

if TYPE_CHECKING:
    from rerender.model.diffusion import StableDiffusion

SETTINGS = LoraSettings(rank=4, batch=4, prior=2, size=32, rate=1e-2)


def fresh() -> StableDiffusion:
    """A model of its own: training changes it."""
    model: StableDiffusion = Tiny().load(())
    return model


def stage(model: StableDiffusion, **changes: Any) -> LoraTraining:
    frames = torch.rand(3, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    settings = LoraSettings(**{**SETTINGS.__dict__, **changes})
    return LoraTraining(model, (frames, ["a cat, ink"] * 3), ["a cat"], settings)


def predicted(model: StableDiffusion) -> torch.Tensor:
    noisy = torch.randn(1, 4, 16, 16, generator=torch.Generator().manual_seed(1))
    text = model.condition("a cat", "", (), False).prompt_embeds
    with torch.no_grad():
        found: torch.Tensor = model.parts.unet(noisy, 500, text).sample
    return found


def folder(path: Path) -> Path:
    path.mkdir()
    for name, side in (("b", (40, 64)), ("a", (32, 32)), ("c", (50, 40))):
        save_image(torch.full((3, *side), 0.5), path / f"{name}.png")
    (path / "a.txt").write_text("a cat on a sofa\n")
    (path / "b.txt").write_text("an INK dog")
    return path


def test_captions_stand_beside_pictures_and_call_for_the_look(tmp_path: Path) -> None:
    frames, captions = read_pictures(folder(tmp_path / "pics"), "ink", 32)
    assert frames.shape == (3, 3, 32, 32)
    assert captions == ["a cat on a sofa, ink", "an INK dog", "ink"]


def test_it_begins_at_the_model_itself_and_only_low_rank_weights_change() -> None:
    plain, model = fresh(), fresh()
    part = stage(model)
    assert torch.equal(predicted(model), predicted(plain))
    part.loss(0).backward()
    grads = {n for n, p in part.modules.named_parameters() if p.grad is not None}
    assert grads and all("lora_" in name for name in grads)


@pytest.mark.parametrize("layers", LAYERS)
def test_diffusers_reads_what_was_written(layers: str, tmp_path: Path) -> None:
    """The file, loaded by diffusers into the model as it was, gives what the trained one gives."""
    from diffusers import StableDiffusionPipeline

    trained, other = fresh(), fresh()
    part = stage(trained, layers=layers)
    with torch.no_grad():
        for name, value in part.modules.named_parameters():
            if "lora_B" in name:
                value.normal_(generator=torch.Generator().manual_seed(len(name)), std=0.1)
    tmp_path.joinpath("out").mkdir()
    part.save(tmp_path / "out")
    assert [file.name for file in (tmp_path / "out").iterdir()] == [FILE]
    state = load_file(tmp_path / "out" / FILE)
    assert all(name.startswith("unet.") and ".lora_" in name for name in state)
    weights, alphas = StableDiffusionPipeline.lora_state_dict(tmp_path / "out", weight_name=FILE)
    StableDiffusionPipeline.load_lora_into_unet(weights, alphas, other.parts.unet)
    assert torch.allclose(predicted(other), predicted(trained), atol=1e-5)
    assert not torch.allclose(predicted(trained), predicted(fresh()), atol=1e-3)


def test_what_is_to_stay_is_what_the_model_predicted() -> None:
    """With nothing but pictures of the look that is to stay, the loss is zero at the start, and
    its gradient too: the target is the model's own prediction."""
    part = stage(fresh(), keep=1.0)
    assert float(part.loss(3).detach()) == pytest.approx(0, abs=1e-9)
    assert float(stage(fresh(), keep=0.0).loss(3).detach()) > 0.01


def test_training_lowers_the_loss_and_goes_on_where_it_stopped(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(LoraTraining, "preview", lambda self, path: None)  # it takes its time
    losses = [float(stage(fresh(), keep=0.0).loss(step).detach()) for step in range(4)]
    whole, halves = stage(fresh(), keep=0.0), stage(fresh(), keep=0.0)
    learn(whole, Budget(24, 60), tmp_path / "whole")
    assert sum(float(whole.loss(step).detach()) for step in range(4)) < sum(losses)
    # The budget decides the rate's course, so that an interrupted run is stopped, not shortened.
    with pytest.raises(KeyboardInterrupt):
        original = halves.loss

        def stopping(step: int) -> torch.Tensor:
            if step == 15:
                raise KeyboardInterrupt
            return original(step)

        halves.loss = stopping  # type: ignore[method-assign]
        halves.save_every = 0.0
        learn(halves, Budget(24, 60), tmp_path / "halves")
    again = stage(fresh(), keep=0.0)
    taken: list[int] = []
    again_loss = again.loss

    def noted(step: int) -> torch.Tensor:
        taken.append(step)
        return again_loss(step)

    again.loss = noted  # type: ignore[method-assign]
    learn(again, Budget(24, 60), tmp_path / "halves")
    assert taken == [*range(15, 24)]
    one, two = (load_file(tmp_path / name / "final.safetensors") for name in ("whole", "halves"))
    assert all(torch.allclose(one[name], two[name], atol=1e-5) for name in one)


def test_the_command_refuses_in_one_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def code(*arguments: str) -> int:
        common = ["--word", "ink", "--tracker", "none", "--out", str(tmp_path / "out")]
        return command(lora.run, [*common, *arguments])

    (tmp_path / "empty").mkdir()
    assert code("--data", str(tmp_path / "empty")) == 3
    assert "holds no pictures" in capsys.readouterr().err
    assert code("--data", str(tmp_path / "empty"), "--keep", "2") == 2
    pictures = str(folder(tmp_path / "pics"))
    assert code("--data", pictures, "--model", str(tmp_path / "nothing")) == 4
    (tmp_path / "out" / "training").mkdir(parents=True)
    said = tmp_path / "out" / "training" / "settings.json"
    said.write_text(json.dumps({"rank": 99}))
    assert code("--data", pictures) == 2
    assert "rank=99" in capsys.readouterr().err
