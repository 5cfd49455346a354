"""Clips come with their prompts, checked before anything heavy starts."""

from __future__ import annotations

import shutil
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from rerender import files
from rerender.codec import SUFFIXES
from rerender.data.demo import Demo
from rerender.data.folder import Folder
from rerender.data.names import natural
from rerender.data.pictures import exact_rate
from rerender.data.video import VideoFile
from rerender.demo.world import World
from rerender.errors import ConfigError, InputError
from tests.codec.making import make, picture, pictures


def save(folder: Path, names: list[str], size: tuple[int, int] = (48, 64)) -> Path:
    folder.mkdir(exist_ok=True, parents=True)
    for index, name in enumerate(names):
        Image.fromarray(picture(index, size)).save(folder / name)
    return folder


def test_video_file(tmp_path: Path) -> None:
    path = make(tmp_path / "my clip.mp4", pictures(20))
    (clip,) = VideoFile(path, "oil", "photo", "blurry", start=5, frames=10).clips()
    assert (clip.name, clip.prompt, clip.source_prompt, clip.negative_prompt) == (
        "my clip",
        "oil",
        "photo",
        "blurry",
    )
    assert len(clip.video) == 10
    assert clip.video.timestamps[0] == Fraction(5, 25)
    assert VideoFile(path, "oil", name="other").clips()[0].name == "other"


@pytest.mark.parametrize("prompt", [None, "", "  \n"])
def test_a_prompt_is_needed(tmp_path: Path, prompt: str | None) -> None:
    with pytest.raises(ConfigError, match="prompt: is empty"):
        VideoFile(tmp_path / "never opened.mp4", prompt).clips()


def test_a_truncated_file_may_be_allowed(tmp_path: Path) -> None:
    whole = make(tmp_path / "a.mp4", pictures(60), muxing={"movflags": "faststart"}).read_bytes()
    (tmp_path / "a.mp4").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(InputError, match="of 60 frames decode"):
        VideoFile(tmp_path / "a.mp4", "oil").clips()
    (clip,) = VideoFile(tmp_path / "a.mp4", "oil", allow_truncated=True).clips()
    assert 10 < len(clip.video) < 60


def test_natural_order() -> None:
    names = ["f10.png", "f9.png", "F1.png", "a2b10", "a2b9"]
    assert sorted(names, key=natural) == ["a2b9", "a2b10", "F1.png", "f9.png", "f10.png"]


def test_pictures_in_natural_order(tmp_path: Path) -> None:
    save(tmp_path / "frames", [f"f{i}.png" for i in range(12)])
    (clip,) = Folder(tmp_path / "frames", "oil", rate=23.976).clips()
    assert clip.name == "frames"
    assert clip.video.timestamps[1] == Fraction(1001, 24_000)
    assert clip.video.end == 12 * Fraction(1001, 24_000)
    for index in range(12):
        expected = torch.from_numpy(picture(index)).permute(2, 0, 1) / 255
        torch.testing.assert_close(clip.video[index], expected)


@pytest.mark.parametrize(
    ("rate", "exact"),
    [
        (23.976, Fraction(24_000, 1001)),
        (29.97, Fraction(30_000, 1001)),
        (59.94, Fraction(60_000, 1001)),
        (25.0, Fraction(25)),
        (1.0, Fraction(1)),
        (12.5, Fraction(25, 2)),
        (0.5, Fraction(1, 2)),
    ],
)
def test_rates_mean_what_they_say(rate: float, exact: Fraction) -> None:
    assert exact_rate(rate) == exact


def test_a_window_of_pictures(tmp_path: Path) -> None:
    save(tmp_path, [f"{i}.png" for i in range(6)])
    (clip,) = Folder(tmp_path, "oil", start=2, frames=3).clips()
    assert len(clip.video) == 3
    with pytest.raises(ConfigError, match=r"data\.frames: frames 4 to 6 are not in"):
        Folder(tmp_path, "oil", start=4, frames=3).clips()
    with pytest.raises(ConfigError, match=r"data\.start"):
        Folder(tmp_path, "oil", start=6).clips()


def test_pictures_of_two_sizes_name_both(tmp_path: Path) -> None:
    save(tmp_path, ["a.png", "b.png"])
    save(tmp_path, ["c.png"], (32, 64))
    with pytest.raises(InputError, match=r"c\.png: is 64x32, a\.png is 64x48"):
        Folder(tmp_path, "oil").clips()


def test_a_damaged_picture_is_named(tmp_path: Path) -> None:
    save(tmp_path, ["a.png", "b.jpg"])
    data = (tmp_path / "b.jpg").read_bytes()
    files.put(tmp_path / "b.jpg", data[: len(data) // 2])
    with pytest.raises(InputError, match=r"b\.jpg: cannot be read as a picture"):
        Folder(tmp_path, "oil").clips()


def test_grey_deep_and_transparent_pictures(tmp_path: Path) -> None:
    Image.fromarray(np.full((8, 8), 128, np.uint8)).save(tmp_path / "1.png")
    Image.fromarray(np.full((8, 8), 128 * 257, np.uint16)).save(tmp_path / "2.png")
    Image.new("RGBA", (8, 8), (128, 128, 128, 7)).save(tmp_path / "3.png")
    (clip,) = Folder(tmp_path, "oil").clips()
    for index, level in enumerate((128, 128, round(128 * 7 / 255))):
        torch.testing.assert_close(clip.video[index], torch.full((3, 8, 8), level / 255))


def many(tmp_path: Path) -> Path:
    tmp_path.mkdir(exist_ok=True)
    make(tmp_path / "clip10.mp4", pictures(4))
    make(tmp_path / "clip9.mp4", pictures(5))
    save(tmp_path / "shots", ["1.png", "2.png"])
    (tmp_path / "notes.txt").write_text("not a clip")
    (tmp_path / ".hidden.mp4").write_text("neither")
    return tmp_path


def test_a_folder_of_clips(tmp_path: Path) -> None:
    clips = Folder(many(tmp_path), "oil").clips()
    assert [(c.name, len(c.video), c.prompt) for c in clips] == [
        ("clip9", 5, "oil"),
        ("clip10", 4, "oil"),
        ("shots", 2, "oil"),
    ]


def test_prompts_from_a_table(tmp_path: Path) -> None:
    table = tmp_path / "prompts.csv"
    table.write_text(
        'name,prompt,source_prompt\nclip9,"a cat, sitting = ${x} 猫",\nshots,ink,a photo',
        encoding="utf-8",
    )
    clips = Folder(many(tmp_path), "oil", "src", prompts=table).clips()
    assert [(c.prompt, c.source_prompt) for c in clips] == [
        ("a cat, sitting = ${x} 猫", "src"),
        ("oil", "src"),
        ("ink", "a photo"),
    ]


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("name,prompt\nclip8,oil\n", "line 2 names 'clip8', which is not in the folder"),
        ("name,prompt\nclip9,a\nclip9,b\n", "line 3 names 'clip9' a second time"),
        ("clip,prompt\nclip9,a\n", "has the columns clip, prompt"),
        ("name;prompt\nclip9;a\n", "has the columns name;prompt"),
        ("name,prompt,prompt\nclip9,a,b\n", "has the columns name, prompt, prompt"),
        ("prompt\na\n", "has the columns prompt"),
        ("clip9: a\nshots: b\n", "has the columns clip9: a"),  # yaml
        ("", "has the columns none"),
        ("name,prompt\nclip9,a cat, sitting\nshots,b\n", "line 2 has 3 cells for 2 columns"),
        ("name,prompt\r\nclip9,a\r\nshots\r\n", "line 3 has 1 cell for 2 columns"),
        ('name,prompt\nclip9,"a\nb"\n\nshots,a,b\n', "line 5 has 3 cells for 2 columns"),
        ('name,prompt\nclip9,"a cat\nshots,b\n', "cannot be read"),
        ('name,prompt\nclip9,"a" cat\n', "cannot be read"),
    ],
)
def test_a_bad_table(tmp_path: Path, text: str, words: str) -> None:
    (tmp_path / "prompts.csv").write_text(text, newline="")
    with pytest.raises(InputError, match=rf"prompts\.csv: .*{words}"):
        Folder(many(tmp_path), "oil", prompts=tmp_path / "prompts.csv").clips()


def test_a_table_without_a_prompt_or_in_another_encoding(tmp_path: Path) -> None:
    table = tmp_path / "prompts.csv"
    table.write_text("name,prompt\nclip9,a\nshots,  \n")
    with pytest.raises(InputError, match="line 3 has no prompt for 'shots'"):
        Folder(many(tmp_path), prompts=table).clips()
    table.write_bytes("name,prompt\nclip9,café\n".encode("latin-1"))
    with pytest.raises(InputError, match="it is not UTF-8"):
        Folder(tmp_path, "oil", prompts=table).clips()
    with pytest.raises(InputError, match="is not a plain file"):
        Folder(tmp_path, "oil", prompts=tmp_path / "shots").clips()
    table.write_bytes("\ufeffname,prompt\r\n\r\nclip9,café\r\n".encode())
    assert Folder(tmp_path, "oil", prompts=table).clips()[0].prompt == "café"


def test_a_clip_without_a_prompt_is_named(tmp_path: Path) -> None:
    (tmp_path / "prompts.csv").write_text("name,prompt\nclip9,oil\n")
    with pytest.raises(ConfigError, match="there is none for clip10"):
        Folder(many(tmp_path), prompts=tmp_path / "prompts.csv").clips()


def test_folders_that_are_none(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="is not a folder"):
        Folder(tmp_path / "missing", "oil").clips()
    with pytest.raises(InputError, match="is not a folder"):
        Folder(make(tmp_path / "a.mp4", pictures(2)), "oil").clips()
    (tmp_path / "a.mp4").unlink()
    for key in ("path", "prompts"):
        with pytest.raises(InputError, match="file name too long"):
            Folder(**{"path": many(tmp_path / "m"), "prompt": "oil", key: Path("a" * 300)}).clips()
    shutil.rmtree(tmp_path / "m")
    with pytest.raises(InputError, match="neither videos nor pictures"):
        Folder(tmp_path, "oil").clips()
    make(tmp_path / "a.mp4", pictures(2))
    make(tmp_path / "a.mkv", pictures(2))
    with pytest.raises(InputError, match="has the same name as"):
        Folder(tmp_path, "oil").clips()


def test_what_is_passed_over_is_said(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    folder = many(tmp_path)
    for name in ("prompts.csv", "Thumbs.db", ".DS_Store", "a.exr", "b.tga", "c.xyz", "shots/x.txt"):
        (folder / name).write_text("name\n")
    (folder / "__MACOSX").mkdir()
    (folder / "deeper" / "still").mkdir(parents=True)
    assert len(Folder(folder, "oil", prompts=folder / "prompts.csv").clips()) == 3
    assert caplog.messages == [
        f"{folder}: passed over: a.exr, b.tga, c.xyz, deeper/ and 1 more "
        "(videos and folders of pictures are used)",
        f"{folder / 'shots'}: passed over: x.txt (pictures are used)",
    ]


def test_stills_of_videos_are_no_clip(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    for name in "ab":
        make(tmp_path / f"{name}.mp4", pictures(2))
    save(tmp_path, ["a.png", "b.png"])
    assert [clip.name for clip in Folder(tmp_path, "oil").clips()] == ["a", "b"]
    assert caplog.messages[0].startswith(f"{tmp_path}: passed over: a.png, b.png")
    save(tmp_path, ["c.png"])
    with pytest.raises(InputError, match=r"holds 3 pictures .*beside 2 videos .*a\.mp4"):
        Folder(tmp_path, "oil").clips()


def test_a_gap_and_folders_in_a_folder_of_pictures(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    save(tmp_path, [f"f{i:04d}.png" for i in (0, 1, 2, 5, 6)])
    save(tmp_path / "masks", ["1.png"])
    (clip,) = Folder(tmp_path, "oil").clips()
    assert len(clip.video) == 5
    assert caplog.messages == [
        f"{tmp_path}: passed over: masks/ (pictures are used)",
        f"{tmp_path}: 2 numbers are missing (3 to 4); frames follow each other in order of name",
    ]
    caplog.clear()
    Folder(tmp_path, "oil", start=3).clips()  # the gap is not in what is used
    assert len(caplog.messages) == 1


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_every_container_that_is_opened_counts_as_a_video(tmp_path: Path, suffix: str) -> None:
    (tmp_path / f"a{suffix.upper()}").write_bytes(b"no video at all")
    with pytest.raises(InputError, match=f"a{suffix.upper()}"):
        Folder(tmp_path, "oil").clips()


def test_demo_clips_know_their_truth() -> None:
    clips = Demo((1_000_000, 1_000_001), frames=6, size=64).clips()
    assert [clip.name for clip in clips] == ["demo-slow-1000000", "demo-slow-1000001"]
    world = World(1_000_001, 6, (64, 64))
    clip = clips[1]
    assert len(clip.video) == 6
    assert clip.video.size == (64, 64)
    assert torch.equal(clip.video[3], world.frame(3))
    assert clip.source_prompt == world.caption
    assert clip.prompt == world.prompt("oil")
    assert clip.truth is not None
    assert torch.equal(clip.truth.flow(1, 4).offset, world.flow(1, 4).offset)
    true = clip.truth.translation(3)
    assert true is not None
    assert torch.equal(true, world.frame(3, "oil"))
    with pytest.raises(IndexError):
        clip.video[6]


def test_demo_clips_are_asked_for_a_style_where_no_prompt_is_given() -> None:
    (neon,) = Demo(frames=2, size=32, style="neon").clips()
    assert neon.prompt == World(1_000_000, 2, (32, 32)).prompt("neon")
    (own,) = Demo(frames=2, size=32, style="neon", prompt="").clips()
    assert own.prompt == ""
    with pytest.raises(ConfigError, match=r"unknown style 'cubism'.*watercolor"):
        Demo(style="cubism")


def test_a_clip_of_every_third_frame_is_the_clip_thinned_out() -> None:
    (whole,), (thin,) = Demo(frames=7, size=32).clips(), Demo(frames=3, every=3, size=32).clips()
    assert len(thin.video) == 3
    assert list(thin.video.timestamps) == list(whole.video.timestamps)[::3]
    assert all(torch.equal(thin.video[index], whole.video[3 * index]) for index in range(3))
    assert thin.truth is not None and whole.truth is not None
    one, other = thin.truth.flow(2, 1), whole.truth.flow(6, 3)
    assert torch.equal(one.offset, other.offset) and torch.equal(one.occluded, other.occluded)
    first, second = thin.truth.translation(2), whole.truth.translation(6)
    assert first is not None and second is not None and torch.equal(first, second)


def test_a_demo_prompt_of_ones_own() -> None:
    (clip,) = Demo(frames=2, size=64, prompt="something the world cannot draw").clips()
    assert clip.prompt == "something the world cannot draw"
    assert clip.truth is not None
    assert clip.truth.translation(0) is None


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"motion": "sideways"}, "unknown motion 'sideways'; choose one of slow"),
        ({"seeds": ()}, "received"),
        ({"seeds": (1, 1)}, r"each only once, received \[1, 1\]"),
    ],
)
def test_bad_demo_settings(values: dict[str, object], words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        Demo(**values)  # type: ignore[arg-type]
