"""Quality without a reference: n/a with the cure, or what a network of pyiqa says of frames."""

from __future__ import annotations

import importlib.util
import sys
import types
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from eval.metrics import quality
from eval.metrics.quality import Quality
from rerender.errors import ConfigError, WeightsError
from tests.eval.toys import measure


class Brightness(nn.Module):
    """Says ``factor`` times the mean value of an image."""

    def __init__(self) -> None:
        super().__init__()
        self.factor = nn.Parameter(torch.zeros(1))

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        assert image.shape[0] == 1
        return self.factor * image.mean((1, 2, 3), keepdim=True)


class Wrapped(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.net = Brightness()

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        return self.net(image)


@pytest.fixture
def package(monkeypatch: pytest.MonkeyPatch) -> list[dict[str, Any]]:
    """A stand-in for pyiqa with one known network; what it was asked for."""
    asked: list[dict[str, Any]] = []

    def create_metric(name: str, device: Any, **settings: Any) -> Wrapped:
        asked.append({"name": name, **settings})
        return Wrapped()

    fake = types.ModuleType("pyiqa")
    fake.__spec__ = importlib.machinery.ModuleSpec("pyiqa", None)
    fake.create_metric = create_metric  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "pyiqa", fake)
    quality.load.cache_clear()
    return asked


def saved(path: Path, state: Any) -> str:
    torch.save(state, path)
    return str(path)


def test_the_mean_over_frames_of_a_known_network(
    package: list[dict[str, Any]], tmp_path: Path
) -> None:
    weights = saved(tmp_path / "musiq.pth", {"params": {"module.factor": torch.tensor([50.0])}})
    frames = [torch.full((3, 24, 32), level) for level in (0.2, 0.4, 0.9)]
    row = measure(Quality(weights=weights), frames, frames)
    assert row.value == pytest.approx(25)
    assert row.curve == pytest.approx((10, 20, 45))
    assert (row.metric, row.direction) == ("quality_musiq", "higher")
    assert row.note.startswith("musiq musiq.pth sha256:")
    assert package == [{"name": "musiq", "pretrained": False}], "nothing is fetched"


def test_niqe_is_better_when_lower() -> None:
    assert Quality(network="niqe").direction == "lower"
    assert Quality(network="niqe").name == "quality_niqe"


def test_without_package_or_weights_it_is_said_how_to_get_them(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    frames = [torch.zeros(3, 24, 32)]
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    note = measure(Quality(), frames, frames).note
    assert (
        note
        == "n/a: needs pyiqa, which is missing (pip install -c constraints.txt -e '.[quality]')"
    )
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: object())
    assert "n/a: weights not found (none given; get" in measure(Quality(), frames, frames).note
    missing = Quality(weights=str(tmp_path / "no.pth"))
    assert "no.pth; get pyiqa's file of musiq" in measure(missing, frames, frames).note


@pytest.mark.parametrize("state", [{"params": {}}, {"other": torch.zeros(2)}, [1], "text"])
def test_other_weights_are_refused(
    state: Any, package: list[dict[str, Any]], tmp_path: Path
) -> None:
    weights = saved(tmp_path / "w.pth", state)
    frames = [torch.zeros(3, 24, 32)]
    with pytest.raises(WeightsError, match=r"w\.pth: cannot be read") as caught:
        measure(Quality(weights=weights), frames, frames)
    assert "\n" not in str(caught.value)


def test_code_in_a_file_of_weights_is_not_run(
    package: list[dict[str, Any]], tmp_path: Path
) -> None:
    class Evil:
        def __reduce__(self) -> Any:
            return (Path(tmp_path / "ran").touch, ())

    weights = saved(tmp_path / "w.pth", {"params": Evil()})
    frames = [torch.zeros(3, 24, 32)]
    with pytest.raises(WeightsError):
        measure(Quality(weights=weights), frames, frames)
    assert not (tmp_path / "ran").exists()


def test_an_unknown_network_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"metrics\.quality_musiq\.network: must be one of musiq"):
        Quality(network="dover")  # type: ignore[arg-type]
