"""Consistency distillation: the teacher's step, the boundary, the grid, resuming, the result."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from diffusers import DDIMScheduler
from safetensors.torch import load_file
from torch import Tensor

from rerender.demo import weights
from rerender.exits import command
from rerender.model._requests import guidance_embedding
from rerender.model.pretrained import Pretrained
from rerender.sampler.lcm import LCM
from training import distill, distill_bench, distillation
from training.distill_pictures import DistillSettings, TrainingPictures, draw_pictures
from training.distillation import Distillation, EmbeddedPrompts
from training.learn import Budget, learn

SETTINGS = DistillSettings(pictures=6, batch=2, seed=3)


@pytest.fixture(scope="module")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> TrainingPictures:
    file = tmp_path_factory.mktemp("drawn") / "pictures.safetensors"
    return draw_pictures(file, SETTINGS, weights.FOLDER, "cpu", 1)


@pytest.fixture
def stage(pictures: TrainingPictures) -> Distillation:
    return Distillation(pictures, SETTINGS)


def given(stage: Distillation, time: int) -> tuple[Tensor, ...]:
    """Noisy latent, time, prompt, control and weights of it, of two pictures."""
    g = torch.Generator().manual_seed(0)
    noisy = torch.randn(stage.codes[:2].shape, generator=g)
    return noisy, torch.tensor([time] * 2), stage.texts[:2], stage.hints[:2], torch.ones(2)


def test_pictures_are_kept_and_drawn_again_where_others_are_asked_for(tmp_path: Path) -> None:
    file = tmp_path / "work" / "pictures.safetensors"
    settings = DistillSettings(pictures=2)
    first = draw_pictures(file, settings, weights.FOLDER, "cpu", 1)
    stamp = file.stat().st_mtime_ns
    again = draw_pictures(file, settings, weights.FOLDER, "cpu", 1)
    assert torch.equal(first.codes, again.codes) and file.stat().st_mtime_ns == stamp
    other = draw_pictures(file, DistillSettings(pictures=3), weights.FOLDER, "cpu", 1)
    assert torch.equal(other.codes[:2], first.codes) and len(other.maps) == 3


def test_the_student_begins_as_the_teacher_whatever_it_is_told(stage: Distillation) -> None:
    noisy, time, text, hint, keep = given(stage, 499)
    residuals = stage.residuals(noisy, time, text, hint, keep)
    wanted = distillation._run(stage.teacher, noisy, time, text, residuals)
    for scale in (1.0, 3.3):
        told = guidance_embedding(torch.full((2,), scale), 64)
        found = distillation._run(stage.unet, noisy, time, text, residuals, told)
        assert torch.allclose(found, wanted, atol=1e-5)


def test_at_time_zero_the_student_answers_with_what_it_is_given(stage: Distillation) -> None:
    noisy, time, text, hint, keep = given(stage, 0)
    residuals = stage.residuals(noisy, time, text, hint, keep)
    told = guidance_embedding(torch.ones(2), 64)
    assert torch.equal(stage.answer(noisy, time, text, residuals, told), noisy)


@pytest.mark.parametrize("index", [20, 7, 1])
def test_the_teachers_step_is_that_of_diffusers(stage: Distillation, index: int) -> None:
    """DDIM of 20 steps on the grid, guided; the last one ends at the first training time."""
    late = int(stage.times[index])
    noisy, time, text, hint, keep = given(stage, late)
    residuals = stage.residuals(noisy, time, text, hint, keep)
    early = stage.times[index - 1].expand(2)
    scale = torch.tensor([1.5, 3.0])
    found = stage.earlier(noisy, time, early, text, hint, keep, scale, residuals)
    scheduler = DDIMScheduler.from_pretrained(weights.FOLDER / "scheduler", local_files_only=True)
    scheduler.set_timesteps(20)
    untold = stage.untold.expand(2, -1, -1)
    others = stage.residuals(noisy, time, untold, hint, keep)
    with torch.no_grad():
        said = distillation._run(stage.teacher, noisy, time, text, residuals)
        unsaid = distillation._run(stage.teacher, noisy, time, untold, others)
    velocity = unsaid + scale.view(-1, 1, 1, 1) * (said - unsaid)
    wanted = scheduler.step(velocity, late, noisy).prev_sample
    assert torch.allclose(found, wanted, atol=1e-4)


def test_the_grid_is_that_of_the_sampler(stage: Distillation) -> None:
    model: Any = Pretrained(str(weights.FOLDER)).load(())
    schedule = LCM(origin_steps=SETTINGS.steps).schedule(SETTINGS.steps, model)
    assert list(schedule.timesteps) == stage.times[1:].flip(0).tolist()
    assert schedule.alphas_cumprod[-1] == pytest.approx(float(stage.alphas[stage.times[0]]))


def test_its_samples_are_those_of_the_pipeline(stage: Distillation, tmp_path: Path) -> None:
    """The written student in the method's own model and sampler, with the same noise."""
    from rerender.contracts import NoiseRequest, guide
    from rerender.scene import State

    with torch.no_grad():
        stage.unet.time_embedding.cond_proj.weight.normal_(std=0.05)
        for value in stage.unet.parameters():
            value.copy_(value.half().float())
    shown = EmbeddedPrompts(stage.texts[:1], stage.hints[:1])
    wanted = stage.sample(shown, 3, 2.5)
    stage.save(tmp_path / "unet")
    checkpoint = Pretrained(
        str(weights.FOLDER), {"canny": "controlnet"}, unet=str(tmp_path / "unet")
    )
    checkpoint.check(("canny",))
    assert checkpoint.distilled()
    model: Any = checkpoint.load(("canny",))
    prompt, edges = drawn()
    condition = model.condition(prompt, "", (edges.expand(3, -1, -1),), True, 2.5)
    sampler = LCM(origin_steps=SETTINGS.steps)
    schedule = sampler.schedule(3, model)

    def noise(role: str, step: int) -> Tensor:
        g = torch.Generator().manual_seed(step + 1)
        return torch.randn(stage.codes[:1].shape, generator=g)

    noisy = torch.randn(stage.codes[:1].shape, generator=torch.Generator().manual_seed(0))
    for step, alpha in enumerate(schedule.alphas_cumprod[:-1]):
        request = NoiseRequest(noisy, schedule.timesteps[step], condition, (1.0,))
        estimate = guide(model.predict_noise([request])[0], 1.0)
        clean = (noisy - (1 - alpha) ** 0.5 * estimate) / alpha**0.5
        state = State(step, alpha, noisy, torch.zeros_like(noisy))
        noisy = sampler.step(schedule, state, clean, estimate, noise).noisy
    assert torch.allclose(model.decode(noisy).clamp(0, 1), wanted[0], atol=2e-3)


def drawn() -> tuple[str, Tensor]:
    from training import data

    _, prompts, maps = data.pictures(SETTINGS.seed, 0, 1)
    return prompts[0], maps[0]


def test_training_lowers_the_loss_and_goes_on_where_it_stopped(
    pictures: TrainingPictures, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Distillation, "preview", lambda self, path: None)
    whole = Distillation(pictures, SETTINGS)
    before = float(whole.loss(0).detach())
    learn(whole, Budget(8, 60), tmp_path / "whole")
    assert float(whole.loss(0).detach()) < before
    halves = Distillation(pictures, SETTINGS)
    original = halves.loss

    def stopping(step: int) -> Tensor:
        if step == 5:
            raise KeyboardInterrupt
        return original(step)

    monkeypatch.setattr(halves, "loss", stopping)
    halves.save_every = 0.0
    with pytest.raises(KeyboardInterrupt):
        learn(halves, Budget(8, 60), tmp_path / "halves")
    learn(Distillation(pictures, SETTINGS), Budget(8, 60), tmp_path / "halves")
    one, two = (load_file(tmp_path / name / "final.safetensors") for name in ("whole", "halves"))
    assert all(torch.allclose(one[name], two[name], atol=1e-5) for name in one)


def test_the_command_writes_a_unet_and_refuses_other_settings(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    common = ["--out", str(tmp_path / "lcm"), "--work", str(tmp_path / "work")]
    common += ["--tracker", "none", "--pictures", "2", "--batch", "1", "--steps", "1"]
    assert command(distill.run, common) == 0
    assert (tmp_path / "work" / "preview.png").is_file()
    Pretrained(str(weights.FOLDER), unet=str(tmp_path / "lcm")).check(())
    assert sum(file.stat().st_size for file in (tmp_path / "lcm").iterdir()) < 10e6
    capsys.readouterr()
    assert command(distill.run, [*common, "--seed", "1"]) == 2
    assert "seed=0" in capsys.readouterr().err
    assert command(distill.run, [*common, "--batch", "0"]) == 2


def test_figures_of_few_steps(stage: Distillation, tmp_path: Path) -> None:
    """The first line is the teacher in all steps, at distance 0 from itself; a student as it begins
    is the line that is not trained."""
    stage.save(tmp_path / "unet")
    figures = distill_bench.measure(tmp_path / "unet", distill_bench.StyledScenes(2))
    by_line = {(each["which"], each["steps"]): each for each in figures}
    first = by_line["teacher", 20]
    assert first["evaluations"] == 40 and first["to_teacher"] == pytest.approx(0, abs=1e-6)
    for steps in (4, 1):
        one, other = (by_line[which, steps] for which in ("not trained", "distilled"))
        assert one["to_truth"] == pytest.approx(other["to_truth"], rel=0.02)
        assert one["evaluations"] == steps
    text = distill_bench.page(figures, "command", 2)
    assert text.count("| teacher |") == 2 and "| 1.00 |" in text
