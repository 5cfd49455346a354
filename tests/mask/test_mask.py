"""Regions: what is kept is kept to the level, masks follow motion, strength differs by region."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from rerender import api, files
from rerender.codec import encode, open_video, planes
from rerender.data.demo import Demo
from rerender.demo.world import World
from rerender.errors import ConfigError, InputError
from rerender.fitting import fit, shown
from rerender.flow.dis import Dis
from rerender.mask.file import MaskFile, rim
from rerender.mask.none import Everywhere
from rerender.pipeline import render
from rerender.run import main
from rerender.video import Clip, MemoryVideo
from tests.scenes import SCENE, Shift, moving, parts, translated


def sprites(world: World, index: int) -> Tensor:
    """Where exactly the sprites of a world are, ``[1,H,W]``."""
    owner = world._owner(index, *world._grid)
    return torch.from_numpy((owner > 0).astype(np.float32))[None]


def picture(path: Path, region: Tensor) -> Path:
    files.put(path, files.png(region.expand(3, -1, -1)))
    return path


def disc(side: int = 32) -> Tensor:
    y, x = torch.meshgrid(torch.arange(side), torch.arange(side), indexing="ij")
    return (((x - 15) ** 2 + (y - 17) ** 2) < 81).float()[None]


@pytest.mark.parametrize("motion", ["slow", "zoom"])
def test_a_mask_of_one_frame_follows_motion_both_ways(motion: str, tmp_path: Path) -> None:
    (clip,) = Demo(motion=motion, frames=31).clips()
    world = World(1_000_000, 31, motion=motion)
    path = picture(tmp_path / "mask.png", sprites(world, 12))
    found = list(MaskFile(path=path, frame=12).regions(clip.video, Dis()))
    assert len(found) == 31
    for index, mask in enumerate(found):
        mine, true = mask >= 0.5, sprites(world, index) > 0
        assert float((mine & true).sum() / (mine | true).sum()) >= 0.9, index


def test_masks_between_given_ones_come_from_both_sides(tmp_path: Path) -> None:
    video = moving(9, 32)
    shifted = [torch.roll(disc(), index - 4, -1) for index in range(9)]
    for index in (0, 8):
        picture(tmp_path / "masks" / f"{index:04d}.png", shifted[index])
    found = list(MaskFile(path=tmp_path / "masks").regions(video, Shift()))
    for mask, true in zip(found, shifted, strict=True):
        assert (mask - true).abs().mean() < 0.02


def test_a_folder_and_a_video_give_every_frame(tmp_path: Path) -> None:
    video, masks = moving(5, 32), [torch.roll(disc(), 3 * index, -2) for index in range(5)]
    for index, mask in enumerate(masks):
        picture(tmp_path / "masks" / f"m{index + 7}.png", mask)
    film = [mask.expand(3, -1, -1) for mask in masks]
    with files.writing(tmp_path / "masks.mp4") as file:
        encode(film, MemoryVideo(film), file)
    for name in ("masks", "masks.mp4"):
        found = MaskFile(path=tmp_path / name).regions(video, Shift())
        for mask, true in zip(found, masks, strict=True):
            assert (mask - true).abs().mean() < 0.01
            assert (mask[true == 0] == 0).float().mean() > 0.9


@pytest.mark.parametrize("size", [(32, 32), (24, 40)])
@pytest.mark.parametrize("keep", ["outside", "inside"])
def test_what_is_kept_has_the_levels_of_the_source(
    keep: Any, size: tuple[int, int], tmp_path: Path
) -> None:
    """In the planes that the encoder takes; also where frames are brought to another size."""
    source = MemoryVideo([torch.rand(3, 46, 46 * size[1] // size[0] // 2 * 2) for _ in range(2)])
    video = fit(source, 24, 8)
    mask = MaskFile(path=picture(tmp_path / "mask.png", disc(46)), keep=keep, feather=2)
    if size != (32, 32):
        mask = replace(mask, path=picture(tmp_path / "wide.png", torch.ones(1, 24, 40).triu(8)))
    made = mask.composite([1 - video[0], 1 - video[1]], video, Shift(0))
    regions = mask.regions(shown(video), Shift(0))
    for index, (image, region) in enumerate(zip(made, regions, strict=True)):
        kept = (region == 0 if keep == "outside" else region == 1)[0].numpy()
        height, width = kept.shape
        ours, theirs = planes(image, video, index), planes(shown(video)[index], video, index)
        luma = (ours[:height] != theirs[:height]) & kept
        chroma = (ours != theirs)[height:].reshape(2, height // 2, width // 2)
        shared = kept.reshape(height // 2, 2, width // 2, 2).any((1, 3))
        assert kept.any() and not kept.all()
        assert not luma.any() and not (chroma & shared).any()
        assert (ours != theirs).any()


def test_a_rim_rises_from_what_is_kept() -> None:
    region = torch.zeros(1, 32, 32)
    region[:, 8:, :] = 1
    weight = rim(region, feather=4)[0, :, 16]
    assert (weight[:8] == 0).all() and (weight[13:] == 1).all()
    assert (weight[8:14].diff() >= 0).all() and 0 < weight[9] < 1
    assert torch.equal(rim(region, 0), region)
    # 1/360 of the short side: next to nothing here, 2 pixels at 720p.
    assert rim(region, None)[0, 8, 16] > 0.9 and torch.equal(
        rim(region, None)[:, 9:], region[:, 9:]
    )
    tall = torch.zeros(1, 1280, 720)
    tall[:, 640:] = 1
    assert torch.equal(rim(tall, None), rim(tall, 2.0)) and 0 < rim(tall, None)[0, 640, 9] < 0.5
    assert torch.equal(rim(torch.ones(1, 7, 9), 4), torch.ones(1, 7, 9))


def test_frames_may_be_asked_for_from_the_middle(tmp_path: Path) -> None:
    video, mask = moving(6, 32), MaskFile(path=picture(tmp_path / "mask.png", disc()))
    frames = [torch.rand(3, 32, 32) for _ in range(6)]
    whole = list(mask.composite(frames, video, Shift()))
    rest = list(mask.composite(frames[3:], video, Shift(), first=3))
    assert all(torch.equal(a, b) for a, b in zip(whole[3:], rest, strict=True))


def test_outside_of_the_region_strength_is_less(tiny: Any, tmp_path: Path) -> None:
    half = torch.zeros(1, 32, 32)
    half[..., 16:] = 1
    path = picture(tmp_path / "mask.png", half)
    plain = parts()
    source = SCENE.video[0]

    def change(**settings: Any) -> tuple[float, float]:
        mask = MaskFile(path=path, keep="nothing", **settings)
        chosen = replace(plain, mask=mask, flow=Shift(0))
        clip = replace(SCENE, video=MemoryVideo([source] * 2))
        image = translated(tiny, chosen, 2, clip=clip)[1].image
        moved = (image - tiny.decode(tiny.encode(source)).cpu()).abs().mean((0, 1))
        return float(moved[:8].mean()), float(moved[24:].mean())

    whole = change(rest_strength=0.8)
    none = change(rest_strength=0.0)
    assert none[0] < 0.8 * whole[0]
    same = translated(tiny, plain, 1)[0].image
    full = replace(plain, mask=MaskFile(path=path, keep="nothing", rest_strength=0.8))
    assert torch.equal(translated(tiny, full, 1)[0].image, same)  # as without a mask
    assert change(rest_strength=0.8, rest_control=0.0) != whole


def test_no_mask_changes_nothing(tiny: Any) -> None:
    frames = [torch.rand(3, 32, 32)]
    assert next(Everywhere().composite(frames, moving(1), Shift())) is frames[0]
    assert all((mask == 1).all() for mask in Everywhere().regions(moving(2), Shift()))
    assert len(list(render(Clip("c", moving(2), "a cat"), tiny, parts()))) == 2


def test_refusals(tmp_path: Path) -> None:
    video, path = moving(3, 32), picture(tmp_path / "mask.png", disc())
    wide = picture(tmp_path / "wide.png", torch.ones(1, 16, 64))
    late = picture(tmp_path / "late" / "3.png", disc()).parent
    for mask, problem in (
        (MaskFile(path=path, frame=3), "is of frame 3, the clip has frames 0 to 2"),
        (MaskFile(path=wide), "is 64x16, the video is 32x32"),
        (MaskFile(path=late), "is of frame 3"),
        (MaskFile(path=tmp_path / "none.png"), "cannot be opened"),
    ):
        with pytest.raises(InputError, match=problem):
            mask.check(video)
    with pytest.raises(ConfigError, match="changes nothing"):
        MaskFile(path=path, keep="nothing").check(video)


def test_a_run_keeps_the_background(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    picture(tmp_path / "mask.png", disc(32))
    base = ["model=tiny", "data.size=32", "data.frames=4", "keyframes.interval=3", "metrics=[]"]
    base += ["tracker=none", "constraint=[]"]
    assert main([*base, "out=whole"]) == 0
    keys = sorted((tmp_path / ".store/keys").iterdir())
    assert main([*base, "out=kept", "mask=file", "mask.path=mask.png"]) == 0
    assert sorted((tmp_path / ".store/keys").iterdir()) == keys  # not translated again
    whole, kept = (open_video(tmp_path / name / "video.mp4")[0] for name in ("whole", "kept"))
    (clip,) = Demo(frames=4, size=32).clips()
    outside = disc()[0] == 0
    far = ((kept - clip.video[0]).abs().mean(0)[outside], (whole - clip.video[0]).abs().mean(0))
    assert far[0].mean() < 0.05 < far[1][outside].mean()
    assert main([*base, "out=no", "mask=file", "mask.path=none.png"]) == 3


@pytest.mark.slow
@pytest.mark.parametrize("motion", ["slow", "zoom"])
def test_inside_the_result_is_as_near_to_the_truth_as_without_a_mask(
    motion: str, tmp_path: Path
) -> None:
    model, seed = api.load_model("demo"), 1_000_000
    (clip,) = Demo(seeds=(seed,), motion=motion, frames=11).clips()
    truth, world = clip.truth, World(seed, motion=motion, frames=11)
    assert truth is not None
    path = picture(tmp_path / "mask.png", sprites(world, 0))
    regions = [sprites(world, index) > 0.5 for index in range(11)]

    def inside(*settings: str) -> float:
        chosen = api.parts("sampling.steps=10", "propagation=warp", *settings)
        errors = []
        for index, frame in enumerate(render(clip, model, chosen)):
            right = truth.translation(index)
            assert right is not None
            errors.append((frame - right).square().mean(0)[regions[index][0]].mean())
        return float(-10 * torch.stack(errors).mean().log10())

    whole = inside()
    for feather in ("null", "0"):
        kept = inside("mask=file", f"mask.path={path}", f"mask.feather={feather}")
        assert kept > whole - 0.2, feather
