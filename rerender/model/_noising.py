"""The training noise schedule that a checkpoint's scheduler_config.json describes."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rerender.errors import WeightsError
from rerender.model._keys import SCHEDULER

if TYPE_CHECKING:
    from torch import Tensor

SPACINGS = ("leading", "trailing", "linspace")
PREDICTIONS = ("epsilon", "v_prediction", "sample")
SCHEDULES = ("linear", "scaled_linear", "squaredcos_cap_v2")
ENDS = ("zero", "sigma_min")
FLOOR = 2.0**-24
"""Signal share in place of an exact zero, as in diffusers' multistep solvers: the smallest that a
half can tell from zero, so that what is divided by it stays finite."""
SPACED_EVENLY = ("Euler", "Heun", "LMS", "KDPM2", "DPMSolver", "DEIS", "UniPC", "SASolver")
OTHER_FAMILIES = (
    *("FlowMatch", "EDM", "CosineDPM", "Score", "KarrasVe", "CMStochastic", "VQDiffusion"),
    *("UnCLIP", "RePaint", "Amused", "IPNDM", "BlockRefinement"),
)


def checked(config: Mapping[str, Any], file: Path) -> dict[str, Any]:
    """A scheduler's configuration with every key honoured or refused, and its gaps filled with the
    defaults of the class that wrote it.

    Args:
        config: what the file says.
        file: for messages.

    Raises:
        WeightsError: a key is missing, is of another type, or asks for what is not supported.
    """
    name = str(config.get("_class_name") or "")
    if name.startswith(OTHER_FAMILIES):
        raise _refused(file, f"{name} belongs to another family of models", None)
    total = _number(config, "num_train_timesteps", file, 2, 100_000, whole=True)
    _check_betas(config, file, int(total))
    _choice(config, "prediction_type", PREDICTIONS, file)
    _choice(config, "timestep_spacing", SPACINGS, file)
    _choice(config, "final_sigmas_type", ENDS, file)
    for key in ("set_alpha_to_one", "rescale_betas_zero_snr"):
        if not isinstance(config.get(key, False), bool):
            raise _refused(file, f"{key} must be true or false, received {config[key]!r}", key)
    if "steps_offset" in config:
        _number(config, "steps_offset", file, 0, total - 1, whole=True)
    SCHEDULER.check(config, file)
    filled = {**defaults(name), **config}
    if filled.get("rescale_betas_zero_snr") and filled["prediction_type"] == "epsilon":
        raise _refused(
            file,
            "rescale_betas_zero_snr needs prediction_type v_prediction or sample, received epsilon "
            "(where there is no signal, predicted noise says nothing of the picture)",
            "rescale_betas_zero_snr",
        )
    return filled


def defaults(name: str) -> dict[str, Any]:
    """What a class of diffusers takes for keys that its file does not have; a test compares."""
    spacing = "linspace" if name.startswith(SPACED_EVENLY) else "leading"
    return {
        "prediction_type": "epsilon",
        "timestep_spacing": spacing,
        "steps_offset": 0,
        "set_alpha_to_one": name != "PNDMScheduler",
        "final_sigmas_type": "zero",
    }


def alphas_of(config: Mapping[str, Any]) -> Tensor:
    """Signal shares (alpha-bar) of a checked configuration, ``[T]`` float64, decreasing."""
    import torch

    shares = torch.cumprod(1 - _betas(config), 0)
    if config.get("rescale_betas_zero_snr"):
        # Lin et al. 2024 (arXiv 2305.08891), algorithm 1: shifted so that the last is zero, scaled
        # so that the first stays.
        roots = shares.sqrt()
        shares = ((roots - roots[-1]) * roots[0] / (roots[0] - roots[-1])) ** 2
    return torch.where(shares > 0, shares, FLOOR)


def _betas(config: Mapping[str, Any]) -> Tensor:
    """The noise that each training timestep adds, ``[T]`` float64."""
    import torch

    if config.get("trained_betas") is not None:
        return torch.tensor(config["trained_betas"], dtype=torch.float64)
    total = int(config["num_train_timesteps"])
    if config["beta_schedule"] == "squaredcos_cap_v2":
        edges = [math.cos((i / total + 0.008) / 1.008 * math.pi / 2) ** 2 for i in range(total + 1)]
        betas = [min(1 - after / before, 0.999) for before, after in pairwise(edges)]
        return torch.tensor(betas, dtype=torch.float64)
    start, end = float(config["beta_start"]), float(config["beta_end"])
    if config["beta_schedule"] == "scaled_linear":
        return torch.linspace(start**0.5, end**0.5, total, dtype=torch.float64) ** 2
    return torch.linspace(start, end, total, dtype=torch.float64)


def _check_betas(config: Mapping[str, Any], file: Path, total: int) -> None:
    trained = config.get("trained_betas")
    if trained is None:
        _choice(config, "beta_schedule", SCHEDULES, file, required=True)
        start = _number(config, "beta_start", file, 0, 1)
        if _number(config, "beta_end", file, 0, 1) < start or start == 0:
            raise _refused(file, "beta_start must lie above 0 and below beta_end", "beta_start")
        return
    if not isinstance(trained, list) or not all(_is_number(beta) for beta in trained):
        raise _refused(file, "trained_betas must be a list of numbers", "trained_betas")
    if len(trained) != total:
        problem = f"trained_betas must hold num_train_timesteps={total} numbers"
        raise _refused(file, f"{problem}, received {len(trained)}", "trained_betas")
    if not (0 < trained[0] < 1 and all(0 <= beta <= 1 for beta in trained)):
        raise _refused(file, "trained_betas must lie in 0..1", "trained_betas")


def _choice(
    config: Mapping[str, Any], key: str, choices: Sequence[str], file: Path, required: bool = False
) -> None:
    if key not in config:
        if required:
            raise _missing(file, key)
    elif config[key] not in choices:
        named = f"{key} must be {', '.join(choices[:-1])} or {choices[-1]}"
        raise _refused(file, f"{named}, received {config[key]!r}"[:300], None)


def _number(
    config: Mapping[str, Any], key: str, file: Path, low: float, high: float, whole: bool = False
) -> float:
    if key not in config:
        raise _missing(file, key)
    found = config[key]
    if not _is_number(found) or not low <= found <= high or (whole and found != int(found)):
        kind = "a whole number" if whole else "a number"
        problem = f"{key} must be {kind} in {low}..{high}, received {found!r}"[:300]
        raise _refused(file, problem, key)
    return float(found)


def _is_number(value: object) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and value == value


def _missing(file: Path, key: str) -> WeightsError:
    usual = {"num_train_timesteps": "1000", "beta_start": "0.00085", "beta_end": "0.012"}
    value = usual.get(key, '"scaled_linear"')
    return WeightsError(
        file,
        f"has no {key}",
        f"add it as the model was trained (Stable Diffusion: {value})",
    )


def _refused(file: Path, problem: str, key: str | None) -> WeightsError:
    cure = f"correct {key} in that file, or take another checkpoint" if key else None
    return WeightsError(file, problem, cure or "take a Stable Diffusion 1 or 2 checkpoint")
