"""Networks of metrics: damaged and foreign weights are named by file, none is filled at random."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest
from safetensors.torch import load_file, save_file

from eval.metrics import clip
from eval.metrics.weights import DEMO, opened
from rerender.errors import WeightsError


def kinds() -> list[tuple[Any, str]]:
    import transformers

    return [
        (transformers.CLIPModel, "clip"),
        (transformers.ResNetForImageClassification, "lpips_demo"),
    ]


@pytest.fixture(params=["clip", "lpips_demo"])
def network(request: pytest.FixtureRequest, tmp_path: Path) -> tuple[Any, Path]:
    (kind,) = [kind for kind, name in kinds() if name == request.param]
    return kind, Path(shutil.copytree(DEMO / request.param, tmp_path / request.param))


def test_whole_weights_open(network: tuple[Any, Path]) -> None:
    kind, folder = network
    assert not opened(kind, folder).training


@pytest.mark.parametrize("damage", ["cut", "html", "nan", "other", "config"])
def test_damaged_weights_are_named(network: tuple[Any, Path], damage: str) -> None:
    kind, folder = network
    file = folder / "model.safetensors"
    if damage == "cut":
        file.write_bytes(file.read_bytes()[:-64])
    elif damage == "html":
        file.write_bytes(b"<!DOCTYPE html>")
    elif damage == "config":
        (folder / "config.json").write_text("[]")
    else:
        weights = load_file(file)
        name = next(name for name, each in weights.items() if each.is_floating_point())
        if damage == "nan":
            weights[name].view(-1)[0] = float("nan")
        else:
            del weights[name]
        save_file(weights, file, {"format": "pt"})
    with pytest.raises(WeightsError, match=r"model\.safetensors: ") as caught:
        opened(kind, folder)
    if damage in ("nan", "other"):
        assert name in str(caught.value)


def test_a_damaged_tokenizer_is_named(tmp_path: Path) -> None:
    folder = Path(shutil.copytree(DEMO / "clip", tmp_path / "clip"))
    (folder / "tokenizer.json").write_text("{")
    with pytest.raises(WeightsError, match=r"clip: cannot be read"):
        clip.load(folder, "cpu")
