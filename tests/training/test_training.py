"""Training: its material, its closed-form start, its optimiser, and that it resumes."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, ClassVar

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor, nn

from rerender.demo import weights
from rerender.demo.captions import STYLES
from rerender.demo.world import HELD_OUT, World
from rerender.tracker.none import Silent
from training import components, data, decoder_mse, learn, start
from training.muon import orthogonal


def test_the_closed_form_start_is_a_good_linear_code() -> None:
    frames = torch.stack([World(s).frame(0, style) for s in range(12) for style in STYLES]) * 2 - 1
    torch.manual_seed(0)
    model = components.autoencoder()
    start.fit(model, frames)
    fresh = torch.stack([World(HELD_OUT + s).frame(0, s_) for s, s_ in enumerate(STYLES)]) * 2 - 1
    with torch.no_grad():
        code = model.encode(fresh).latent_dist.mean
        decoded = model.decode(code).sample
    blocks = torch.nn.functional.pixel_unshuffle(fresh, 8).transpose(0, 1).flatten(1).T
    flat = code.transpose(0, 1).flatten(1)
    inputs = torch.cat([flat, torch.ones_like(flat[:1])]).T
    best = inputs @ torch.linalg.lstsq(inputs, blocks).solution
    assert -10 * torch.log10(((best - blocks) / 2).square().mean()) > 27, "the code keeps detail"
    assert -10 * torch.log10(((decoded - fresh) / 2).square().mean()) > 14, "colours from the start"


@pytest.mark.parametrize("shape", [(3, 16, 144), (2, 128, 32)])
def test_orthogonal_updates_have_no_preferred_direction(shape: tuple[int, ...]) -> None:
    matrices = torch.randn(shape, generator=torch.Generator().manual_seed(0))
    values = torch.linalg.svdvals(orthogonal(matrices))
    assert values.min() > 0.4 and values.max() < 1.4
    assert torch.linalg.svdvals(matrices).max() > 5


def test_material_is_a_function_of_its_number() -> None:
    frames, prompts, maps = data.pictures(0, 40, 3)
    again = data.pictures(0, 41, 1)
    assert torch.equal(frames[1:2], again[0]) and prompts[1] == again[1][0]
    assert torch.equal(maps[1:2], again[2])
    assert set(maps.flatten().tolist()) == {0.0, 1.0}
    assert not torch.equal(frames, data.pictures(1, 40, 3)[0])


@pytest.mark.parametrize("number", [0, 1, 2])
def test_look_alikes_differ_in_caption(number: int) -> None:
    frames, prompts = data.look_alikes(0, number, 12)
    assert len(frames) == len(prompts) == 12
    assert len(set(prompts)) >= 10


class Line(learn.TrainingStage):
    """A straight line to fit: the smallest stage there is."""

    name = "line"
    rate = 0.05

    def __init__(self) -> None:
        torch.manual_seed(0)
        self.last = nn.Linear(20, 1)
        # Channels-last weights are not contiguous: saving must cope with them.
        self.odd = nn.Conv2d(16, 16, 3).to(memory_format=torch.channels_last)
        self.modules = nn.ModuleDict({"a": nn.Linear(20, 20), "b": self.last, "c": self.odd})
        self.shown = 0

    def loss(self, step: int) -> Tensor:
        g = torch.Generator().manual_seed(step)
        x = torch.randn(32, 20, generator=g)
        guess = self.modules["b"](self.modules["a"](x))
        gap: Tensor = guess - x.sum(1, keepdim=True)
        return gap.square().mean() + self.odd.weight.square().mean()

    def preview(self, path: Path) -> None:
        self.shown += 1


def test_training_learns_logs_and_resumes(tmp_path: Path) -> None:
    whole = Line()
    first = whole.loss(10_000).item()
    learn.learn(whole, learn.Budget(200, 5), tmp_path / "whole")
    assert whole.loss(10_000).item() < 0.2 * first
    assert whole.shown == 1
    assert len((tmp_path / "whole" / "loss.jsonl").read_text().splitlines()) == 20

    half = Line()
    learn.learn(half, learn.Budget(100, 5), tmp_path / "parts")
    rest = Line()
    learn.learn(rest, learn.Budget(200, 5), tmp_path / "parts")
    steps = (tmp_path / "parts" / "loss.jsonl").read_text().splitlines()
    assert len(steps) == 20, "the second run starts where the first ended"
    assert rest.loss(10_000).item() < 0.2 * first


def test_a_finished_stage_loads_into_new_modules(tmp_path: Path) -> None:
    stage = Line()
    learn.learn(stage, learn.Budget(12, 5), tmp_path)
    other = Line()
    learn.load(other.modules, tmp_path / "final.safetensors")
    assert torch.equal(other.last.weight, stage.last.weight)
    third = Line()
    learn.load(third.modules, tmp_path / "checkpoint.safetensors", prefix="average.")
    assert torch.equal(third.last.weight, stage.last.weight)


def test_losses_go_to_the_tracker(tmp_path: Path) -> None:
    class Listening(Silent):
        rows: ClassVar[list[dict[str, Any]]] = []

        def log(self, values: Any, step: int | None = None) -> None:
            self.rows.append(dict(values))

    learn.learn(Line(), learn.Budget(20, 5), tmp_path, Listening())
    assert [row["line/step"] for row in Listening.rows] == [10, 20]
    assert all(row["line/loss"] > 0 for row in Listening.rows)


def test_the_budget_ends_by_steps_or_by_minutes() -> None:
    budget = learn.Budget(steps=100, minutes=10)
    assert budget.spent(50, 0) == 0.5 and budget.spent(50, 9) == 0.9 and budget.spent(200, 0) == 1
    assert learn.rate_factor(0, 0) < 0.05 and learn.rate_factor(500, 0.4) == 1
    assert learn.rate_factor(500, 1) == 0


def test_the_command_trains_a_stage(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from training import train

    asked = ["--stages", "lpips_demo", "--steps", "2", "--batch", "4", "--work", str(tmp_path)]
    monkeypatch.setattr("sys.argv", ["train", *asked])
    train.main()
    assert (tmp_path / "lpips_demo" / "final.safetensors").is_file()
    assert (tmp_path / "lpips_demo" / "preview.png").is_file()


def test_the_second_decoder_goes_on_from_the_shipped_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One step, after which the folder is an autoencoder that encodes as the shipped one does."""
    stage = decoder_mse.DecoderMse(0, 1, "cpu")
    gap = torch.tensor([0.5, -0.25])
    assert float(stage.error(gap)) == pytest.approx(0.15625)
    typed = ["decoder_mse", "--out", str(tmp_path / "vae"), "--work", str(tmp_path / "work")]
    monkeypatch.setattr("sys.argv", [*typed, "--steps", "1", "--batch", "1"])
    decoder_mse.main()
    weights.verify(tmp_path / "vae")
    made = load_file(tmp_path / "vae" / "diffusion_pytorch_model.safetensors")
    own = load_file(weights.FOLDER / "vae" / "diffusion_pytorch_model.safetensors")
    assert made.keys() == own.keys()
    moved = {name.partition(".")[0] for name in own if not torch.equal(own[name], made[name])}
    assert moved and moved <= {"decoder", "post_quant_conv"}
    config = json.loads((tmp_path / "vae" / "config.json").read_text())
    assert config == json.loads((weights.FOLDER / "vae" / "config.json").read_text())


def test_the_card_shows_the_figures(tmp_path: Path) -> None:
    from rerender.demo import weights
    from training import card

    figures = json.loads((weights.FOLDER / "figures.json").read_text())
    shipped = (weights.FOLDER / "README.md").read_text()
    assert card.table(figures) in shipped
    copy = tmp_path / "README.md"
    copy.write_text(shipped)
    card.write(copy, figures)
    assert copy.read_text() == shipped
    card.write(copy, {**figures, "vae": {"mean": 12.3}})
    assert "| 12.3 dB | 25 dB |" in copy.read_text()
