"""Ready-made control maps: given as they are, frame for frame, and refused where they cannot be."""

from __future__ import annotations

from dataclasses import replace
from fractions import Fraction
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from rerender import files
from rerender.codec import encode
from rerender.control.canny import Canny
from rerender.control.file import MapFile
from rerender.control.imagined import Imagined
from rerender.errors import ConfigError, InputError
from rerender.fitting import fit
from rerender.propagate.ranges import translated as in_ranges
from rerender.run import main
from rerender.scene import Watch
from rerender.translation.references import ResumePoint
from rerender.video import Clip, Frame, MemoryVideo, PromptRange
from tests.scenes import SCENE, moving, parts, translated

CANNY = Canny(low=20, high=40)


def drawn(folder: Path, maps: list[Tensor], first: int = 0) -> Path:
    for index, each in enumerate(maps, first):
        files.put(folder / f"{index:04d}.png", files.png(each))
    return folder


def film(path: Path, maps: list[Tensor], rate: int = 25) -> Path:
    with files.writing(path) as file:
        encode(maps, MemoryVideo(maps, Fraction(rate)), file)
    return path


def edges(clip: Clip = SCENE) -> list[Tensor]:
    return [CANNY.map(image) for image in clip.video]


def given(path: Path, **more: Any) -> MapFile:
    return MapFile(path=path, controlnet="canny", **more)


class Kept(Watch):
    """Remembers control maps by name and frame."""

    def __init__(self) -> None:
        self.maps: dict[tuple[str, int], Tensor] = {}

    def picture(self, name: str, index: int, image: Tensor) -> None:
        if name.startswith("control"):
            self.maps[name, index] = image


def test_canny_maps_from_a_folder_give_the_bytes_of_canny(tiny: Any, tmp_path: Path) -> None:
    folder = drawn(tmp_path / "maps", edges(), first=7)
    made = replace(parts(), control=(CANNY,))
    ready = replace(parts(), control=(given(folder),))
    ready.check(SCENE)
    for one, two in zip(translated(tiny, made), translated(tiny, ready), strict=True):
        assert torch.equal(one.image, two.image)
    other = drawn(tmp_path / "other", [1 - each for each in edges()])
    changed = translated(tiny, replace(parts(), control=(given(other),)))
    assert not torch.equal(changed[0].image, translated(tiny, made, 1)[0].image)


def test_several_stand_side_by_side_and_begin_where_it_is_said(tmp_path: Path) -> None:
    numbered = [torch.full((3, 64, 64), level / 10) for level in range(10)]
    path = film(tmp_path / "depth.mp4", numbered)
    folder = drawn(tmp_path / "pose", [each.flip(0) for each in edges()])
    control = (given(path, first=3, name="file"), given(folder, name="pose"))
    chosen, watch = replace(parts(), control=control), Kept()
    chosen.check(SCENE)
    from rerender.model.tiny import Tiny

    translated(Tiny().load(chosen.names()), chosen, 4, watch=watch)
    for index in range(4):
        level = watch.maps["control_file", index]
        assert level.shape == (3, 32, 32)
        assert (level - (index + 3) / 10).abs().max() < 0.02
        assert torch.equal(watch.maps["control_pose", index], edges()[index])


def test_ranges_of_prompts_take_their_own_frames(tiny: Any, tmp_path: Path) -> None:
    folder = drawn(tmp_path / "maps", [torch.full((3, 32, 32), i / 5) for i in range(4)])
    ranges = (PromptRange(0, 2, "a cat"), PromptRange(2, 4, "a dog"))
    clip, watch = replace(SCENE, ranges=ranges), Kept()
    chosen = replace(parts(), control=(given(folder),))
    list(in_ranges(clip, tiny, chosen, 0, watch, ResumePoint()))
    for index in range(4):
        assert (watch.maps["control_file", index] - index / 5).abs().max() < 1 / 255


def test_refusals(tmp_path: Path) -> None:
    four = edges()
    folder, short = drawn(tmp_path / "maps", four), drawn(tmp_path / "short", four[:3])
    wide = drawn(tmp_path / "wide", [torch.zeros(3, 16, 64)] * 4)
    mixed = drawn(drawn(tmp_path / "mixed", four[:3]), [torch.zeros(3, 16, 16)], first=3)
    slow = film(tmp_path / "slow.mp4", [torch.zeros(3, 64, 64)] * 4, rate=12)
    (tmp_path / "empty").mkdir()
    (tmp_path / "words.txt").write_text("no maps")
    for control, problem in (
        (given(short), "has 3 control maps, the clip has 4 frames"),
        (given(folder, first=1), "needs those from 1 to 4"),
        (given(wide), "control maps are 64x16, the clip is 32x32"),
        (given(mixed), "give frames of one size"),
        (given(slow), "bring both to one rate"),
        (given(tmp_path / "empty"), "holds no pictures"),
        (given(tmp_path / "words.txt"), "neither a folder of pictures nor a video"),
        (given(tmp_path / "none.mp4"), r"none\.mp4"),
    ):
        with pytest.raises(InputError, match=problem) as found:
            replace(parts(), control=(control,)).check(SCENE)
        assert "\n" not in str(found.value)
    with pytest.raises(ConfigError, match="received maps from a file"):
        Imagined(detector=given(folder))
    with pytest.raises(ConfigError, match="can make none of another picture"):
        given(folder).map(four[0])


def test_maps_of_the_sources_size_are_brought_to_the_models(tmp_path: Path) -> None:
    source = Clip("c", moving(2, 96), "a cat")
    clip = replace(source, video=fit(source.video, 32, 8))
    control = given(drawn(tmp_path / "maps", [torch.ones(3, 96, 96)] * 2))
    control.check(source)
    assert torch.equal(control.frame_map(Frame(1, clip.video[1])), torch.ones(3, 32, 32))


def test_a_run_knows_what_the_maps_hold(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    base = ["model=tiny", "data.size=32", "data.frames=4", "keyframes.interval=3", "metrics=[]"]
    base += ["tracker=none", "constraint=[]", "control=file", "control.file.controlnet=canny"]
    base += ["control.file.path=maps"]
    drawn(tmp_path / "maps", edges())
    assert main([*base, "out=one"]) == 0
    first = {path.name for path in (tmp_path / ".store/keys").iterdir()}
    drawn(tmp_path / "maps", [1 - each for each in edges()])
    assert main([*base, "out=two"]) == 0
    assert {path.name for path in (tmp_path / ".store/keys").iterdir()} > first
    one, two = ((tmp_path / name / "video.mp4").read_bytes() for name in ("one", "two"))
    assert one != two
    assert main([*base, "data.frames=3", "out=no"]) == 3
    assert not (tmp_path / "no").exists()
