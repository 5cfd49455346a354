"""A video may be read from several threads at once, as propagation does."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import torch

from rerender import files
from rerender.codec import encode, open_video
from rerender.video import MemoryVideo


def test_threads_see_the_same_frames_as_one_reader(tmp_path: Path) -> None:
    image = torch.rand(3, 48, 80, generator=torch.Generator().manual_seed(0))
    source = MemoryVideo([image.roll(index, 2) for index in range(40)])
    with files.writing(tmp_path / "clip.mp4") as file:
        encode((source[index] for index in range(40)), source, file)
    alone, shared = (open_video(tmp_path / "clip.mp4") for _ in range(2))
    wanted = [(7 * turn) % 40 for turn in range(120)]
    with ThreadPoolExecutor(4) as pool:
        seen = list(pool.map(shared.__getitem__, wanted))
    assert all(torch.equal(alone[index], frame) for index, frame in zip(wanted, seen, strict=True))
