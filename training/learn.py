"""One training loop for every stage: budget, schedule, moving average, checkpoints, losses.

A checkpoint is one safetensors file (weights, their average, the optimisers' state) whose header
holds step and minutes; nothing is ever unpickled.
"""

from __future__ import annotations

import json
import time
from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor, nn
from tqdm import tqdm

from rerender.contracts import Tracker
from rerender.errors import ConfigError
from training.muon import Muon

_AVERAGE = 0.998


def same_training(file: Path, said: Mapping[str, Any], option: str) -> None:
    """Note what decides a training, or refuse to go on with one that was decided otherwise.

    Args:
        file: json, written where there is none.
        said: what decides it.
        option: what sets another folder, for messages.

    Raises:
        ConfigError: naming the first value that differs.
    """
    if not file.is_file():
        file.write_text(json.dumps(said, indent=2) + "\n")
        return
    before = json.loads(file.read_text())
    for key, value in said.items():
        if before.get(key) != value:
            problem = f"a training with {key}={before.get(key)} lies there, received {value}"
            raise ConfigError(
                file.parent, problem, f"choose another {option}, or remove the folder"
            )


class TrainingStage(ABC):
    """One thing to train.

    Attributes:
        name: of its folder.
        modules: what is trained, by the name of its folder in the shipped weights.
        rate: peak learning rate of AdamW; Muon gets twice as much.
        warm_up: steps until the rate is reached.
        save_every: seconds between checkpoints.
    """

    name: str
    modules: nn.ModuleDict
    rate: float
    warm_up: int = 100
    save_every: float = 300.0

    @abstractmethod
    def loss(self, step: int) -> Tensor:
        """The loss of batch number ``step``."""

    def optimisers(self, parameters: dict[str, Tensor]) -> list[torch.optim.Optimizer]:
        """What moves the trained weights."""
        return optimisers(parameters, self.rate)

    @abstractmethod
    def preview(self, path: Path) -> None:
        """Write a picture of what the trained modules can do to ``path`` (png)."""


@dataclass(frozen=True)
class Budget:
    """A stage ends after so many steps or so many minutes, whichever comes first."""

    steps: int
    minutes: float

    def spent(self, step: int, minutes: float) -> float:
        """Part of the budget that is used up, 0..1."""
        return float(min(1.0, max(step / self.steps, minutes / self.minutes)))


def rate_factor(step: int, spent: float, warm_up: int = TrainingStage.warm_up) -> float:
    """Warm up, hold, and fall to zero over the second half of the budget (cosine-shaped)."""
    falling = max(0.0, spent - 0.5) * 2
    return float(min(1.0, (step + 1) / warm_up) * (1 - falling) ** 1.2)


def learn(
    stage: TrainingStage, budget: Budget, folder: Path, tracker: Tracker | None = None
) -> None:
    """Train a stage until its budget is spent, resuming from ``folder`` where it has begun.

    Losses go to ``loss.jsonl`` in the folder and, where there is one, to a started tracker.

    Leaves the averaged weights in ``stage.modules`` and, as ``final.safetensors``, in ``folder``.
    """
    folder.mkdir(parents=True, exist_ok=True)
    parameters: dict[str, Tensor] = {
        name: value for name, value in stage.modules.named_parameters() if value.requires_grad
    }
    average = {name: value.detach().clone() for name, value in parameters.items()}
    drives = stage.optimisers(parameters)
    step, before = _resume(folder / "checkpoint.safetensors", parameters, average, drives)
    began = saved = time.monotonic()
    minutes = before
    with (
        tqdm(total=100, desc=stage.name, unit="%") as bar,
        (folder / "loss.jsonl").open("a") as log,
    ):
        while (spent := budget.spent(step, minutes)) < 1:
            for drive in drives:
                for group in drive.param_groups:
                    group["lr"] = drive.defaults["lr"] * rate_factor(step, spent, stage.warm_up)
            loss = stage.loss(step)
            torch.autograd.backward(loss)
            nn.utils.clip_grad_norm_(parameters.values(), 1.0)
            for drive in drives:
                drive.step()
                drive.zero_grad()
            _follow(average, parameters, step)
            step += 1
            minutes = before + (time.monotonic() - began) / 60
            if step % 10 == 0:
                line = {"step": step, "minutes": round(minutes, 3), "loss": loss.item()}
                log.write(json.dumps(line) + "\n")
                if tracker is not None:
                    tracker.log({f"{stage.name}/{key}": value for key, value in line.items()})
                bar.update(round(100 * spent, 1) - bar.n)
                bar.set_postfix(step=step, loss=f"{loss.item():.4f}")
            if time.monotonic() - saved > stage.save_every:
                log.flush()
                _save(folder / "checkpoint.safetensors", parameters, average, drives, step, minutes)
                _show(stage, parameters, average, folder / "preview.png")
                saved = time.monotonic()
    _save(folder / "checkpoint.safetensors", parameters, average, drives, step, minutes)
    _show(stage, parameters, average, folder / "preview.png")
    with torch.no_grad():
        for name, value in parameters.items():
            value.copy_(average[name])
    packed = {name: value.contiguous().cpu() for name, value in average.items()}
    save_file(packed, folder / "final.safetensors", {"step": str(step), "minutes": str(minutes)})


def optimisers(parameters: dict[str, Tensor], rate: float) -> list[torch.optim.Optimizer]:
    """Muon for the matrices inside the networks, AdamW for everything at their borders."""
    inner = {name: value for name, value in parameters.items() if _is_inner(name, value)}
    border = [value for name, value in parameters.items() if name not in inner]
    rest = torch.optim.AdamW(border, rate, betas=(0.9, 0.99), weight_decay=1e-3)
    return [Muon(inner.values(), 2 * rate, weight_decay=1e-3), rest] if inner else [rest]


def _is_inner(name: str, value: Tensor) -> bool:
    outer = (
        *("embed", "conv_in", "conv_out", "controlnet_", "projection", "classifier"),
        "lora_",  # a step of equal length in all directions would undo the low rank
    )
    return (
        value.dim() > 1
        and min(value.shape[:2]) >= 16
        and not any(o in name.split("module.")[-1] for o in outer)
    )


def load(modules: nn.ModuleDict, file: Path, prefix: str = "") -> None:
    """Put the weights of a ``final.safetensors`` (or a checkpoint's average) into modules."""
    with safe_open(file, "pt") as tensors:
        state = {
            key.removeprefix(prefix): tensors.get_tensor(key)
            for key in list(tensors.keys())
            if key.startswith(prefix)
        }
    missing = modules.load_state_dict(state, strict=False).unexpected_keys
    if missing:
        raise ValueError(f"{file}: holds {missing[:3]}, which the model lacks; train again")


@torch.no_grad()
def _follow(average: dict[str, Tensor], parameters: dict[str, Tensor], step: int) -> None:
    decay = min(_AVERAGE, (1 + step) / (10 + step))
    torch._foreach_lerp_(
        list(average.values()), [p.detach() for p in parameters.values()], 1 - decay
    )


@torch.no_grad()
def _show(
    stage: TrainingStage, parameters: dict[str, Tensor], average: dict[str, Tensor], path: Path
) -> None:
    """The preview is of the averaged weights, which are what is shipped."""
    kept = {name: value.clone() for name, value in parameters.items()}
    for name, value in parameters.items():
        value.copy_(average[name])
    stage.preview(path)
    for name, value in parameters.items():
        value.copy_(kept[name])


def _save(
    file: Path,
    parameters: dict[str, Tensor],
    average: dict[str, Tensor],
    drives: list[torch.optim.Optimizer],
    step: int,
    minutes: float,
) -> None:
    tensors = {f"now.{name}": value.detach() for name, value in parameters.items()}
    tensors |= {f"average.{name}": value for name, value in average.items()}
    for name, value in parameters.items():
        for drive in drives:
            state = drive.state.get(value, {})
            tensors |= {f"state.{name}.{key}": item for key, item in state.items()}
    tensors = {name: value.contiguous().cpu() for name, value in tensors.items()}
    part = file.with_suffix(".part")
    save_file(tensors, part, {"step": str(step), "minutes": str(minutes)})
    part.replace(file)


def _resume(
    file: Path,
    parameters: dict[str, Tensor],
    average: dict[str, Tensor],
    drives: list[torch.optim.Optimizer],
) -> tuple[int, float]:
    """Load a checkpoint where there is one; the step and the minutes it was taken at."""
    if not file.exists():
        return 0, 0.0
    names = {value: name for name, value in parameters.items()}
    with safe_open(file, "pt") as tensors, torch.no_grad():
        for name, value in parameters.items():
            value.copy_(tensors.get_tensor(f"now.{name}"))
            average[name].copy_(tensors.get_tensor(f"average.{name}"))
        for drive in drives:
            for value in (v for group in drive.param_groups for v in group["params"]):
                prefix = f"state.{names[value]}."
                keys = [key for key in list(tensors.keys()) if key.startswith(prefix)]
                drive.state[value] = {
                    key.removeprefix(prefix): _beside(tensors.get_tensor(key), value)
                    for key in keys
                }
        header = tensors.metadata()
    return int(header["step"]), float(header["minutes"])


def _beside(state: Tensor, value: Tensor) -> Tensor:
    """Adam's step counter stays on the CPU; moments live with their parameter."""
    return state if state.dim() == 0 else state.to(value)
