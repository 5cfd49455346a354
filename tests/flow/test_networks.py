"""RAFT and GMFlow: their inputs and files; what random weights find is of no interest."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Literal

import pytest
import torch
from torch import Tensor
from torchvision.models.optical_flow import raft_large, raft_small

from rerender.errors import ConfigError, WeightsError
from rerender.flow._first_guess import led
from rerender.flow._weights import digest
from rerender.flow.gmflow import GmFlow
from rerender.flow.raft import Raft
from rerender.video import Frame
from tests.propagation.scenes import texture

FAKE = '''
import torch
from torch import nn

class GMFlow(nn.Module):
    """Finds, for each pixel of the first image, a quarter of its first channel."""

    def __init__(self, **settings):
        super().__init__()
        assert settings["num_transformer_layers"] == 6
        self.multiple = 8 * {1: 2, 2: 4}[settings["num_scales"]]
        self.scale = nn.Parameter(torch.zeros(1))

    def forward(self, first, second, attn_splits_list, corr_radius_list, prop_radius_list,
                pred_bidir_flow):
        assert pred_bidir_flow and len(attn_splits_list) == self.multiple // 16
        assert first.shape[-1] % self.multiple == 0 and first.shape[-2] % self.multiple == 0
        assert first.max() > 1
        both = torch.cat([first, second])[:, :2] * self.scale
        return {"flow_preds": [both]}
'''


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> Path:
    torch.manual_seed(0)
    path = tmp_path_factory.mktemp("weights") / "small.pth"
    torch.save(raft_small(weights=None).state_dict(), path)
    return path


def frame(index: int, height: int = 50, width: int = 70) -> Frame:
    return Frame(index, texture(height, width, index))


def test_raft_takes_any_size_and_repeats_itself(small: Path) -> None:
    raft = Raft("small", small, digest(small), updates=2)
    first = raft.offset(frame(0), frame(1))
    assert first.shape == (1, 2, 50, 70) and first.isfinite().all()
    assert torch.equal(first, raft.offset(frame(0), frame(1)))
    half = [Frame(i, frame(i).image.half()) for i in (0, 1)]
    assert torch.allclose(first, raft.offset(half[0], half[1]), atol=0.1)


def test_threads_do_not_disturb_each_other(small: Path) -> None:
    """torchvision's network keeps a state between its steps; propagation asks from many threads."""
    raft, pairs = Raft("small", small, updates=2), [(frame(i), frame(i + 1)) for i in range(8)]
    alone = [raft.offset(*pair) for pair in pairs]
    with ThreadPoolExecutor(4) as threads:
        together = list(threads.map(lambda pair: raft.offset(*pair), 3 * pairs))
    assert all(torch.equal(*both) for both in zip(3 * alone, together, strict=True))


def test_the_digest_is_checked(small: Path) -> None:
    with pytest.raises(WeightsError, match="its sha256 is"):
        Raft("small", small, "0" * 64).offset(frame(0), frame(1))
    with pytest.raises(ConfigError, match="hex digits"):
        Raft("small", small, "good").offset(frame(0), frame(1))
    named = small.with_name("small-01234567.pth")
    named.write_bytes(small.read_bytes())
    with pytest.raises(WeightsError, match="01234567"):
        Raft("small", named).offset(frame(0), frame(1))


def test_missing_damaged_and_foreign_files_are_refused(small: Path, tmp_path: Path) -> None:
    with pytest.raises(WeightsError, match="no such file; put torchvision's raft_large"):
        Raft(weights=tmp_path / "none.pth").offset(frame(0), frame(1))
    broken = tmp_path / "broken.pth"
    broken.write_bytes(small.read_bytes()[:1000])
    with pytest.raises(WeightsError, match="cannot be used"):
        Raft("small", broken).offset(frame(0), frame(1))
    with pytest.raises(WeightsError, match=r"of another size; .*flow\.network=small"):
        Raft("large", small).offset(frame(0), frame(1))


AUTHORS = {
    "large": {"convs": 2, "gates": ("1", "2"), "corr": 2, "shortcut": "norm3"},
    "small": {"convs": 3, "gates": ("",), "corr": 1, "shortcut": "norm4"},
}
"""What differs between the authors' two networks: convolutions in a block, directions of the
recurrent unit, layers for correlation, the name of a shortcut's normalisation."""


def authors_names(network: str) -> dict[str, str]:
    """torchvision's name of each module with weights, by that in the authors' release."""
    kind = AUTHORS[network]
    convs, names = int(str(kind["convs"])), dict[str, str]()
    for theirs, ours in (("fnet", "feature_encoder"), ("cnet", "context_encoder")):
        names[f"{theirs}.conv1"] = f"{ours}.convnormrelu.0"
        names[f"{theirs}.norm1"] = f"{ours}.convnormrelu.1"
        names[f"{theirs}.conv2"] = f"{ours}.conv"
        for block in ("layer1.0", "layer1.1", "layer2.0", "layer2.1", "layer3.0", "layer3.1"):
            for part in ("downsample.0", "downsample.1"):
                names[f"{theirs}.{block}.{part}"] = f"{ours}.{block}.{part}"
            for i in range(1, convs + 1):
                names[f"{theirs}.{block}.conv{i}"] = f"{ours}.{block}.convnormrelu{i}.0"
                names[f"{theirs}.{block}.norm{i}"] = f"{ours}.{block}.convnormrelu{i}.1"
    theirs, ours = "update_block.encoder", "update_block.motion_encoder"
    for i in range(1, int(str(kind["corr"])) + 1):
        names[f"{theirs}.convc{i}"] = f"{ours}.convcorr{i}.0"
    names |= {f"{theirs}.convf{i}": f"{ours}.convflow{i}.0" for i in (1, 2)}
    names[f"{theirs}.conv"] = f"{ours}.conv.0"
    for gate in "zrq":
        for i in kind["gates"]:  # type: ignore[attr-defined]
            ours = f"update_block.recurrent_block.convgru{i or 1}.conv{gate}"
            names[f"update_block.gru.conv{gate}{i}"] = ours
    names |= {f"update_block.flow_head.conv{i}": f"update_block.flow_head.conv{i}" for i in (1, 2)}
    names["update_block.mask.0"] = "mask_predictor.convrelu.0"
    names["update_block.mask.2"] = "mask_predictor.conv"
    return names


def as_released(network: str, state: dict[str, Tensor]) -> dict[str, Tensor]:
    """Weights of torchvision's network as the authors' release holds them: saved from a model
    spread over GPUs, the normalisation of shortcuts twice."""
    theirs = {ours: name for name, ours in authors_names(network).items()}
    released = {}
    for name, tensor in state.items():
        module, _, leaf = name.rpartition(".")
        released[f"module.{theirs[module]}.{leaf}"] = tensor
        if module.endswith("downsample.1"):
            double = theirs[module].replace("downsample.1", str(AUTHORS[network]["shortcut"]))
            released[f"module.{double}.{leaf}"] = tensor
    return released


@pytest.mark.parametrize("network", ["small", "large"])
def test_the_authors_files_give_the_flow_of_the_same_weights(
    network: Literal["small", "large"], tmp_path: Path
) -> None:
    torch.manual_seed(1)
    ours = (raft_small if network == "small" else raft_large)(weights=None)
    for name, tensor in ours.state_dict().items():  # statistics that are not all zero and one
        if "running" in name:
            tensor.uniform_(0.5, 1.5)
    torch.save(ours.state_dict(), tmp_path / "ours.pth")
    released = as_released(network, ours.state_dict())
    assert not any(name.endswith("convnormrelu.0.weight") for name in released)
    torch.save(released, tmp_path / "released.pth")
    expected = Raft(network, tmp_path / "ours.pth", updates=1).offset(frame(0), frame(1))
    found = Raft(network, tmp_path / "released.pth", updates=1).offset(frame(0), frame(1))
    assert expected.abs().max() > 0
    assert torch.equal(found, expected)


def test_a_refusal_names_the_first_weight_that_does_not_fit(small: Path, tmp_path: Path) -> None:
    state = torch.load(small)
    cut = as_released("small", {n: t for n, t in state.items() if "flow_head.conv2" not in n})
    torch.save(cut, tmp_path / "cut.pth")
    with pytest.raises(WeightsError, match=r"has no update_block\.flow_head\.conv2\.weight"):
        Raft("small", tmp_path / "cut.pth").offset(frame(0), frame(1))
    torch.save({**as_released("small", state), "fnet.extra": torch.zeros(1)}, tmp_path / "more.pth")
    with pytest.raises(WeightsError, match=r"has a feature_encoder\.extra more"):
        Raft("small", tmp_path / "more.pth").offset(frame(0), frame(1))
    torch.save([1, 2], tmp_path / "list.pth")
    with pytest.raises(WeightsError, match="holds a list"):
        Raft("small", tmp_path / "list.pth").check()
    torch.save({"epoch": 3}, tmp_path / "epoch.pth")
    with pytest.raises(WeightsError, match="holds a dict"):
        Raft("small", tmp_path / "epoch.pth").check()


def test_raft_takes_a_guess(small: Path) -> None:
    raft, target, source = Raft("small", small, updates=2), frame(0), frame(1)
    guess = torch.full((1, 2, 50, 70), 4.0)
    found = raft.offset(target, source, guess)
    assert torch.equal(found, led(raft.found, target.image, source.image, guess))
    assert not torch.allclose(found, raft.offset(target, source), atol=0.5)
    # No motion as a guess is as good as none.
    assert torch.allclose(
        raft.offset(target, source, 0 * guess), raft.offset(target, source), atol=1e-2
    )


def test_gmflow_gets_levels_and_gives_both_directions(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "gmflow").mkdir()
    (tmp_path / "gmflow" / "__init__.py").write_text("")
    (tmp_path / "gmflow" / "gmflow.py").write_text(FAKE)
    torch.save({"model": {"scale": torch.tensor([0.25])}}, tmp_path / "flow.pth")
    flow, first, second = GmFlow(tmp_path, tmp_path / "flow.pth"), large(0), large(1)
    there, back = flow.pair(first, second)
    assert torch.allclose(there.offset[0], first.image[:2] * 255 / 4)
    assert torch.allclose(back.offset[0], second.image[:2] * 255 / 4)
    assert torch.equal(flow.offset(first, second), there.offset)


def large(index: int) -> Frame:
    return frame(index, 325, 330)


def test_gmflow_sees_small_images_enlarged(tmp_path: Path) -> None:
    """Its offsets are those of the small image, in x and in y."""
    (tmp_path / "gmflow").mkdir()
    needs = "assert first.max() > 1 and min(first.shape[-2:]) >= 320"
    (tmp_path / "gmflow" / "gmflow.py").write_text(FAKE.replace("assert first.max() > 1", needs))
    torch.save({"model": {"scale": torch.tensor([0.25])}}, tmp_path / "flow.pth")
    plain = [
        Frame(i, torch.tensor([0.2, 0.4, 0.6])[:, None, None].expand(3, 64, 100)) for i in (0, 1)
    ]
    found = GmFlow(tmp_path, tmp_path / "flow.pth").offset(plain[0], plain[1])
    expected = 255 / 4 * torch.tensor([0.2, 0.4]).view(1, 2, 1, 1) / 5  # five times as large
    assert found.shape == (1, 2, 64, 100)
    assert torch.allclose(found, expected.expand_as(found), atol=1e-3)


def test_gmflow_with_refinement_takes_coarser_sides(tmp_path: Path) -> None:
    (tmp_path / "gmflow").mkdir()
    (tmp_path / "gmflow" / "gmflow.py").write_text(FAKE.replace("both = torch", "both = -torch"))
    torch.save({"model": {"scale": torch.tensor([0.25])}}, tmp_path / "flow.pth")
    flow = GmFlow(tmp_path, tmp_path / "flow.pth", scales=2)
    # The code of this repository is used, not that of one imported before.
    found = flow.offset(large(0), large(1))
    assert torch.allclose(found[0], -large(0).image[:2] * 255 / 4)
    guess = torch.full((1, 2, 325, 330), 3.0)
    assert torch.allclose(flow.offset(large(0), large(1), guess), found + 3)


def test_gmflow_without_code_or_weights_is_refused(tmp_path: Path) -> None:
    with pytest.raises(WeightsError, match=r"holds no gmflow/gmflow\.py"):
        GmFlow(tmp_path, tmp_path / "flow.pth").check()
    (tmp_path / "gmflow").mkdir()
    (tmp_path / "gmflow" / "gmflow.py").write_text(FAKE)
    with pytest.raises(WeightsError, match=r"no such file; set flow\.weights"):
        GmFlow(tmp_path, tmp_path / "flow.pth").check()
    torch.save({"scale": torch.zeros(2)}, tmp_path / "flow.pth")
    with pytest.raises(WeightsError, match=r"of another size; .*flow\.scales=2"):
        GmFlow(tmp_path, tmp_path / "flow.pth").check()
