"""Our solvers against diffusers' own schedulers, step by step, for several step counts."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
import torch

from rerender.contracts import Sampler
from rerender.errors import ConfigError
from rerender.model._noising import alphas_of
from rerender.model.tiny import SCHEDULER
from rerender.sampler.ddim import DDIM
from rerender.sampler.dpm import DPM
from rerender.sampler.lcm import LCM
from rerender.sampler.tcd import TCD
from rerender.sampler.unipc import UniPC
from rerender.scene import State

SHAPE = (1, 4, 8, 8)
SPACINGS = ("leading", "trailing", "linspace")


def checkpoint(**changes: Any) -> Any:
    """A stand-in for a model: noise schedule and spacing are all that a sampler reads."""
    config = {**SCHEDULER, **changes}
    return SimpleNamespace(alphas_cumprod=alphas_of(config), scheduler_config=config, config=config)


def network(noisy: torch.Tensor, time: int) -> torch.Tensor:
    """A smooth stand-in for the noise prediction."""
    return 0.9 * noisy + 0.1 * torch.sin(3 * noisy + time / 500)


def noise(role: str, step: int) -> torch.Tensor:
    return torch.randn(SHAPE, generator=torch.Generator().manual_seed(step))


def ours(sampler: Sampler, model: Any, steps: int) -> list[torch.Tensor]:
    schedule = sampler.schedule(steps, model)
    noisy, history, seen = noise("start", 99), None, []
    direction = torch.zeros_like(noisy)
    for step, time in enumerate(schedule.timesteps):
        alpha = schedule.alphas_cumprod[step]
        estimate = network(noisy, time)
        clean = (noisy - (1 - alpha) ** 0.5 * estimate) / alpha**0.5
        state = State(step, alpha, noisy, direction, history)
        noisy, direction, history = sampler.step(schedule, state, clean, estimate, noise)
        following = schedule.alphas_cumprod[step + 1]
        seen.append(noisy)
        if not isinstance(sampler, LCM):
            assert torch.allclose(noisy, following**0.5 * clean + direction, atol=1e-5)
    return seen


def theirs(scheduler: Any, steps: int, **options: Any) -> list[torch.Tensor]:
    scheduler.set_timesteps(steps, **options)
    noisy, seen = noise("start", 99), []
    for time in scheduler.timesteps:
        noisy = scheduler.step(network(noisy, int(time)), time, noisy).prev_sample
        seen.append(noisy)
    return seen


def assert_same(mine: list[torch.Tensor], other: list[torch.Tensor]) -> None:
    assert len(mine) == len(other)
    for step, (a, b) in enumerate(zip(mine, other, strict=True)):
        assert torch.allclose(a, b, atol=2e-5), f"step {step}: {(a - b).abs().max()}"


@pytest.mark.parametrize("steps", [1, 4, 20, 50])
@pytest.mark.parametrize("spacing", ["leading", "trailing"])
def test_ddim_is_diffusers_ddim(spacing: str, steps: int) -> None:
    """Spacings whose stride is constant; for others diffusers' DDIM does not step to the next
    timestep, so there is nothing to compare with."""
    from diffusers import DDIMScheduler

    model = checkpoint(timestep_spacing=spacing)
    scheduler = DDIMScheduler.from_config(model.config)
    assert_same(ours(DDIM(), model, steps), theirs(scheduler, steps))


@pytest.mark.parametrize("steps", [1, 2, 4, 20])
@pytest.mark.parametrize("spacing", SPACINGS)
def test_dpm_is_diffusers_multistep(spacing: str, steps: int) -> None:
    from diffusers import DPMSolverMultistepScheduler

    model = checkpoint(timestep_spacing=spacing)
    scheduler = DPMSolverMultistepScheduler.from_config(model.config, lower_order_final=False)
    assert_same(ours(DPM(), model, steps), theirs(scheduler, steps))


@pytest.mark.parametrize("steps", [1, 2, 4, 20])
@pytest.mark.parametrize("spacing", SPACINGS)
def test_unipc_is_diffusers_unipc(spacing: str, steps: int) -> None:
    from diffusers import UniPCMultistepScheduler

    model = checkpoint(timestep_spacing=spacing)
    scheduler = UniPCMultistepScheduler.from_config(model.config)
    assert_same(ours(UniPC(), model, steps), theirs(scheduler, steps))


@pytest.mark.parametrize("steps", [1, 4, 8])
def test_lcm_is_diffusers_lcm(steps: int, monkeypatch: pytest.MonkeyPatch) -> None:
    from diffusers import LCMScheduler
    from diffusers.schedulers import scheduling_lcm

    model = checkpoint()
    scheduler = LCMScheduler.from_config(model.config)
    drawn = iter(range(100))
    monkeypatch.setattr(
        scheduling_lcm, "randn_tensor", lambda *args, **kwargs: noise("lcm", next(drawn))
    )
    assert_same(ours(LCM(), model, steps), theirs(scheduler, steps))


def test_official_timesteps_and_signal_levels() -> None:
    """The published code at 20 steps visits 951, 901, ..., 1 with these sqrt(alpha)."""
    schedule = DDIM().schedule(20, checkpoint())
    assert schedule.timesteps == tuple(range(951, 0, -50))
    levels = dict(zip(schedule.timesteps, schedule.alphas_cumprod, strict=False))
    expected = {951: 0.0903, 801: 0.1912, 701: 0.2862, 451: 0.5878, 401: 0.6503, 1: 0.9991}
    for time, level in expected.items():
        assert levels[time] ** 0.5 == pytest.approx(level, abs=5e-5)


@pytest.mark.parametrize("sampler", [DDIM(), DPM(), UniPC(), LCM()])
def test_impossible_step_counts_are_refused(sampler: Sampler) -> None:
    with pytest.raises(ConfigError, match=r"sampling\.steps"):
        sampler.schedule(1000, checkpoint())
    with pytest.raises(ConfigError, match=r"sampling\.steps"):
        sampler.schedule(0, checkpoint())


TRAINED = {
    "zero SNR": {"rescale_betas_zero_snr": True, "prediction_type": "v_prediction"},
    "zero SNR, trailing": {
        "rescale_betas_zero_snr": True,
        "prediction_type": "v_prediction",
        "timestep_spacing": "trailing",
    },
    "trained betas": {"trained_betas": [0.0005 + 0.00001 * i for i in range(1000)]},
    "cosine": {"beta_schedule": "squaredcos_cap_v2"},
    "velocity": {"prediction_type": "v_prediction"},
    "clean": {"prediction_type": "sample"},
    "few timesteps": {"num_train_timesteps": 300},
    "no offset": {"steps_offset": 0},
    "ends at one": {"set_alpha_to_one": True},
}


@pytest.mark.parametrize("steps", [4, 20])
@pytest.mark.parametrize("keys", list(TRAINED.values()), ids=list(TRAINED))
@pytest.mark.parametrize("sampler", [DDIM(), DPM(), UniPC()], ids=["ddim", "dpm", "unipc"])
def test_keys_of_the_training_are_diffusers_own(
    sampler: Sampler, keys: dict[str, Any], steps: int
) -> None:
    """Every solver, on the network's raw output as diffusers' schedulers take it."""
    import diffusers

    model = checkpoint(**keys)
    kind = {DDIM: "DDIMScheduler", DPM: "DPMSolverMultistepScheduler"}.get(type(sampler))
    cls = getattr(diffusers, kind or "UniPCMultistepScheduler")
    options = {"lower_order_final": False} if isinstance(sampler, DPM) else {}
    theirs_config = cls.from_config(model.config, **options)
    mine, other = raw(sampler, model, steps), theirs(theirs_config, steps)
    for step, (a, b) in enumerate(zip(mine, other, strict=True)):
        # At 2^-24 of signal a clean latent is told from its noise to about 3e-4 in float32.
        assert torch.allclose(a, b, atol=2e-3, rtol=1e-3), f"step {step}: {(a - b).abs().max()}"


def raw(sampler: Sampler, model: Any, steps: int) -> list[torch.Tensor]:
    """As `ours`, with the network's output turned into noise by the model's own code."""
    from rerender.model.diffusion import StableDiffusion

    schedule = sampler.schedule(steps, model)
    holder: Any = SimpleNamespace(
        parts=SimpleNamespace(scheduler=model.config), alphas_cumprod=model.alphas_cumprod
    )
    noisy, history, seen = noise("start", 99), None, []
    for step, time in enumerate(schedule.timesteps):
        alpha = schedule.alphas_cumprod[step]
        query: Any = SimpleNamespace(timestep=time, noisy=noisy)
        estimate = StableDiffusion._noise(holder, query, network(noisy, time))
        clean = (noisy - (1 - alpha) ** 0.5 * estimate) / alpha**0.5
        state = State(step, alpha, noisy, torch.zeros_like(noisy), history)
        noisy, _, history = sampler.step(schedule, state, clean, estimate, noise)
        seen.append(noisy)
    return seen


@pytest.mark.parametrize("steps", [1, 4, 20])
@pytest.mark.parametrize("sampler", [DPM(), UniPC()], ids=["dpm", "unipc"])
def test_the_last_level_of_multistep_solvers_is_the_checkpoints(
    sampler: Sampler, steps: int
) -> None:
    import diffusers

    model = checkpoint(final_sigmas_type="sigma_min")
    assert sampler.schedule(steps, model).alphas_cumprod[-1] == float(model.alphas_cumprod[0])
    if isinstance(sampler, DPM):
        cls, options = diffusers.DPMSolverMultistepScheduler, {"lower_order_final": False}
    else:
        cls, options = diffusers.UniPCMultistepScheduler, {}
    scheduler = cls.from_config(model.config, **options)
    scheduler.set_timesteps(steps)
    level = float(1 / (1 + scheduler.sigmas[-1] ** 2))
    assert sampler.schedule(steps, model).alphas_cumprod[-1] == pytest.approx(level, abs=1e-6)


def test_steps_that_lead_beyond_the_last_timestep_are_refused() -> None:
    with pytest.raises(ConfigError, match="steps_offset=1"):
        DPM().schedule(999, checkpoint())


@pytest.mark.parametrize("eta", [0.0, 0.3, 1.0])
@pytest.mark.parametrize("steps", [1, 4, 8])
def test_tcd_is_diffusers_tcd(steps: int, eta: float, monkeypatch: pytest.MonkeyPatch) -> None:
    from diffusers import TCDScheduler
    from diffusers.schedulers import scheduling_tcd

    drawn = iter(range(99))
    monkeypatch.setattr(
        scheduling_tcd, "randn_tensor", lambda *args, **more: noise("tcd", next(drawn))
    )
    model = checkpoint()
    scheduler = TCDScheduler.from_config(model.config)
    scheduler.set_timesteps(steps)
    noisy, other = noise("start", 99), []
    for time in scheduler.timesteps:
        noisy = scheduler.step(network(noisy, int(time)), time, noisy, eta=eta).prev_sample
        other.append(noisy)
    assert_same(ours(TCD(eta=eta), model, steps), other)
