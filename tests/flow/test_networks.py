"""RAFT and GMFlow: their inputs and files; what random weights find is of no interest."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torchvision.models.optical_flow import raft_small

from rerender.errors import ConfigError, WeightsError
from rerender.flow.gmflow import GmFlow
from rerender.flow.raft import Raft
from rerender.flow.weights import digest
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
        self.scale = nn.Parameter(torch.zeros(1))

    def forward(self, first, second, attn_splits_list, corr_radius_list, prop_radius_list,
                pred_bidir_flow):
        assert pred_bidir_flow and first.shape[-1] % 16 == 0 and first.shape[-2] % 16 == 0
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
    with pytest.raises(WeightsError, match="cannot be used"):
        Raft("large", small).offset(frame(0), frame(1))


def test_gmflow_gets_levels_and_gives_both_directions(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "gmflow").mkdir()
    (tmp_path / "gmflow" / "__init__.py").write_text("")
    (tmp_path / "gmflow" / "gmflow.py").write_text(FAKE)
    torch.save({"model": {"scale": torch.tensor([0.25])}}, tmp_path / "flow.pth")
    flow = GmFlow(tmp_path, tmp_path / "flow.pth")
    there, back = flow.pair(frame(0), frame(1))
    assert torch.allclose(there.offset[0], frame(0).image[:2] * 255 / 4)
    assert torch.allclose(back.offset[0], frame(1).image[:2] * 255 / 4)
    assert torch.equal(flow.offset(frame(0), frame(1)), there.offset)


def test_gmflow_without_code_or_weights_is_refused(tmp_path: Path) -> None:
    with pytest.raises(WeightsError, match=r"holds no gmflow/gmflow\.py"):
        GmFlow(tmp_path, tmp_path / "flow.pth").offset(frame(0), frame(1))
