"""What loading takes: memory, and nothing at all where all stages are there already."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest
import torch

from experiments.bench.loading import LIMIT, measure, written
from rerender.model.pretrained import Pretrained
from rerender.store.cache import Cache
from rerender.store.checkpoint import Loading
from rerender.video import sha256_file
from tests.model.making import ours, save

SMALL: dict[str, Any] = {
    "unet": {"block_out_channels": [64, 128, 256, 256], "cross_attention_dim": 96},
    "vae": {"block_out_channels": [32, 32, 32, 32]},
    "text_encoder": {"hidden_size": 96, "intermediate_size": 96, "num_hidden_layers": 2},
}


@pytest.mark.parametrize("dtype", ["bfloat16", pytest.param("float32", marks=pytest.mark.slow)])
def test_loading_holds_the_weights_and_little_more(tmp_path: Path, dtype: str) -> None:
    """In a process of its own: over 100 MB of files in full precision, computed in either type."""
    folder = written(tmp_path / "sd", torch.float32, **SMALL)
    cost = measure(folder, dtype)
    assert cost.weights > 50
    # Words of the tokenizer, code that is imported late and the like do not grow with the weights:
    # 99 to 124 MiB were seen in all, twice the weights would be 151 and more.
    assert cost.peak <= LIMIT * cost.weights + 36, cost


def test_files_are_hashed_again_only_when_they_have_changed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from rerender.store import checkpoint

    chosen = ours(save(tmp_path / "sd"))
    hashed: list[Path] = []

    def noted(file: Path) -> str:
        hashed.append(file)
        return sha256_file(file)

    monkeypatch.setattr(checkpoint, "sha256_file", noted)
    cache = Cache(tmp_path / "store")
    cache.open()
    first = Loading(chosen, ("canny",), cache)
    digest = first.digest
    assert len(hashed) >= 4
    hashed.clear()
    monkeypatch.setattr(Pretrained, "load", lambda *args: pytest.fail("weights were loaded"))
    again = Loading(chosen, ("canny",), cache)
    assert again.digest == digest
    assert again.size_multiple == first.size_multiple
    assert not hashed
    (file,) = (Path(chosen.path) / "unet").glob("*.safetensors")
    state = file.stat()
    os.utime(file, ns=(state.st_atime_ns, state.st_mtime_ns + 1_000_000))
    assert Loading(chosen, ("canny",), cache).digest == digest  # the same content
    assert [each.name for each in hashed] == [file.name]
