"""Results at the size of the source: detail led by the source, sizes, what stays as it was."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from rerender import files
from rerender.codec import encode, open_video
from rerender.demo import perceptual
from rerender.demo.world import STYLES, World
from rerender.fitting import fit_clip, resize
from rerender.pipeline import render
from rerender.propagate.detail import RADIUS, limited, transfer
from rerender.run import main
from rerender.run_folder import read_facts
from rerender.video import Clip, MemoryVideo
from tests.scenes import moving, parts


def worlds(side: int) -> list[tuple[Tensor, Tensor]]:
    """Source and truth of eight clips, each in a style of its own."""
    clips = (World(1_000_000 + number, size=(side, side)) for number in range(8))
    return [
        (clip.frame(7), clip.frame(7, style)) for clip, style in zip(clips, STYLES, strict=True)
    ]


def _error(image: Tensor, truth: Tensor) -> Tensor:
    return (image - truth).square().mean()


@pytest.mark.parametrize("low", [128, 256])
def test_it_beats_bicubic_on_every_clip(low: int) -> None:
    gains, network, closer = [], perceptual.load(), 0.0
    for source, truth in worlds(512):
        small, guide = resize(truth, (low, low)), resize(source, (low, low))
        made, plain = transfer(small, guide, source), resize(small, (512, 512))
        gains.append(float(_error(plain, truth) / _error(made, truth)))
        both = perceptual.distance(network, torch.stack([made, plain]), truth.repeat(2, 1, 1, 1))
        closer += float(both[1] - both[0])
    decibels = torch.tensor(gains).log10() * 10
    assert decibels.min() > 0
    assert decibels.mean() > 5  # about 10; the goal is 1
    assert closer > 0


def test_made_small_again_it_is_the_key_frame() -> None:
    source, truth = worlds(256)[2]
    small = resize(truth, (64, 64))
    again = resize(transfer(small, resize(source, (64, 64)), source), (64, 64))
    assert (again - small).abs().mean() < 1 / 255


def test_no_value_leaves_the_range_of_the_key_frame_around_it() -> None:
    generator = torch.Generator().manual_seed(0)
    small, guide = torch.rand(3, 24, 20, generator=generator), torch.rand(3, 24, 20)
    large = torch.rand(3, 96, 80, generator=generator)
    made, reach = transfer(small, guide, large), RADIUS + 1  # one more for interpolation
    edged = F.pad(small[None], (reach,) * 4, mode="replicate")
    high = F.max_pool2d(edged, 2 * reach + 1, 1)[0].repeat_interleave(4, -1)
    low = -F.max_pool2d(-edged, 2 * reach + 1, 1)[0].repeat_interleave(4, -1)
    assert (made <= high.repeat_interleave(4, -2) + 1e-6).all()
    assert (made >= low.repeat_interleave(4, -2) - 1e-6).all()
    assert torch.equal(limited(made, small), made)


def test_a_source_without_edges_gives_what_interpolation_gives() -> None:
    """Where the source says nothing, nothing is invented."""
    small = resize(worlds(64)[0][1], (32, 32))
    flat = torch.full((3, 32, 32), 0.5)
    made = transfer(small, flat, torch.full((3, 128, 128), 0.5))
    assert (made - resize(small, (128, 128))).abs().mean() < 0.01


@pytest.mark.parametrize(
    ("source", "short", "processed"),
    [((506, 960), 64, (64, 120)), ((96, 54), 32, (56, 32)), ((33, 47), 64, (64, 88))],
)
def test_frames_have_the_size_of_the_source(
    source: tuple[int, int], short: int, processed: tuple[int, int], tiny: Any
) -> None:
    height, width = source
    video = MemoryVideo([torch.rand(3, height, width) for _ in range(2)])
    clip = fit_clip(Clip("clip", video, "a cat"), short, 8, full=True)
    assert clip.video.size == processed and clip.output is video
    made = list(render(clip, tiny, parts(())))
    assert [tuple(image.shape) for image in made] == [(3, height, width)] * 2
    assert all(float(image.min()) >= 0 and float(image.max()) <= 1 for image in made)


def test_equal_sizes_change_nothing(tiny: Any) -> None:
    clip = Clip("clip", moving(3), "a cat")
    asked = fit_clip(clip, 32, 8, full=True)
    assert asked.full is None and asked.output is asked.video
    plain = render(fit_clip(clip, 32, 8), tiny, parts(()))
    assert all(
        torch.equal(a, b) for a, b in zip(plain, render(asked, tiny, parts(())), strict=True)
    )


def test_one_key_frame_is_held_whatever_the_length(tiny: Any, monkeypatch: Any) -> None:
    """Each is brought to the size of the source when it is asked for."""
    made: list[int] = []

    def counted(image: Tensor, source: Tensor, guide: Tensor) -> Tensor:
        made.append(1)
        return resize(image, (guide.shape[-2], guide.shape[-1]))

    monkeypatch.setattr("rerender.propagate.detail.transfer", counted)
    frames = render(replace(Clip("c", moving(6), "a cat"), full=moving(6, 64)), tiny, parts(()))
    for number in range(6):
        next(frames)
        assert len(made) <= number + 1


def test_a_run_writes_the_size_of_the_source(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    pictures = [torch.rand(3, 46, 70) for _ in range(3)]
    with files.writing(tmp_path / "film.mp4") as file:
        encode(pictures, MemoryVideo(pictures), file)
    base = ["data=video", "data.path=film.mp4", "prompt=a cat", "model=tiny", "data.size=32"]
    base += ["tracker=none", "metrics=[warp_error]", "constraint=[]", "keyframes.interval=2"]
    assert main([*base, "out=small"]) == 0
    assert open_video(tmp_path / "small/video.mp4").size == (32, 48)
    keys = sorted((tmp_path / ".store/keys").iterdir())
    assert main([*base, "out=large", "data.output=source"]) == 0
    assert open_video(tmp_path / "large/video.mp4").size == (46, 70)
    assert sorted((tmp_path / ".store/keys").iterdir()) == keys  # not translated again
    facts = read_facts(tmp_path / "large")["clips"][0]
    assert (facts["processed_size"], facts["size"]) == ([32, 48], [46, 70])
