"""Control maps: what canny sees, and annotators from small local weights."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import cv2
import pytest
import torch
from safetensors.torch import save_file

from rerender.control.canny import Canny
from rerender.control.depth import Depth
from rerender.control.hed import HED, Network
from rerender.errors import ConfigError, WeightsError


def square() -> torch.Tensor:
    image = torch.zeros(3, 32, 32)
    image[:, 8:24, 8:24] = 1
    return image


def test_canny_is_opencvs_canny_in_three_channels() -> None:
    noisy = torch.rand(3, 32, 32, generator=torch.Generator().manual_seed(0))
    edges = Canny(low=50, high=100).map(noisy)
    gray = cv2.cvtColor((noisy * 255).round().byte().permute(1, 2, 0).numpy(), cv2.COLOR_RGB2GRAY)
    assert torch.equal(edges[0], torch.from_numpy(cv2.Canny(gray, 50, 100)).float() / 255)
    assert torch.equal(edges[0], edges[2])


def test_canny_outlines_a_square_and_blur_thins_noise() -> None:
    edges = Canny(low=50, high=100).map(square())[0]
    assert edges[12:20, 12:20].max() == 0
    assert edges.sum() > 40
    noisy = square() + 0.2 * torch.randn(3, 32, 32, generator=torch.Generator().manual_seed(0))
    raw, blurred = (Canny(low=50, high=100, blur=b).map(noisy).sum() for b in (0.0, 1.5))
    assert blurred < raw


@pytest.mark.parametrize("bad", [{"low": 200, "high": 100}, {"blur": -1}, {"weight": -1}])
def test_bad_values_are_refused(bad: dict[str, Any]) -> None:
    with pytest.raises(ConfigError, match=r"control\.canny"):
        Canny(**bad)


def test_hed_is_the_mean_of_its_sides(tmp_path: Path) -> None:
    torch.manual_seed(0)
    network = Network()
    torch.nn.init.constant_(network.norm, 120.0)
    file = tmp_path / "hed.safetensors"
    save_file(network.state_dict(), file)
    edges = HED(path=str(file)).map(square())
    assert edges.shape == (3, 32, 32)
    sides = network(square()[None] * 255)
    assert [side.shape[-1] for side in sides] == [32, 16, 8, 4, 2]
    sized = [torch.nn.functional.interpolate(s, (32, 32), mode="bilinear") for s in sides]
    expected = torch.sigmoid(sum(sized) / 5)[0, 0]  # type: ignore[arg-type]
    assert torch.allclose(edges[1], expected, atol=1e-5)


def test_hed_weights_must_be_there_and_fit(tmp_path: Path) -> None:
    with pytest.raises(WeightsError, match=r"nowhere\.safetensors"):
        HED(path="nowhere.safetensors")
    wrong = tmp_path / "wrong.safetensors"
    save_file({"weight": torch.zeros(1)}, wrong)
    with pytest.raises(WeightsError, match=r"wrong\.safetensors"):
        HED(path=str(wrong)).map(square())
    wrong.write_bytes(b"not weights")
    with pytest.raises(WeightsError, match=r"wrong\.safetensors"):
        HED(path=str(wrong)).map(square())


def test_depth_from_a_small_local_model(tmp_path: Path) -> None:
    from transformers import DPTConfig, DPTForDepthEstimation

    torch.manual_seed(0)
    config = DPTConfig(
        hidden_size=16,
        num_hidden_layers=4,
        num_attention_heads=2,
        intermediate_size=32,
        image_size=32,
        patch_size=8,
        backbone_out_indices=[0, 1, 2, 3],
        neck_hidden_sizes=[8, 8, 8, 8],
        reassemble_factors=[4, 2, 1, 0.5],
        fusion_hidden_size=8,
        is_hybrid=False,
        readout_type="ignore",
    )
    DPTForDepthEstimation(config).save_pretrained(tmp_path / "dpt")
    depth = Depth(path=str(tmp_path / "dpt")).map(square())
    assert depth.shape == (3, 32, 32)
    assert depth.min() == 0
    assert depth.max() == pytest.approx(1.0, abs=1e-5)
    with pytest.raises(WeightsError, match="nowhere"):
        Depth(path=str(tmp_path / "nowhere"))
