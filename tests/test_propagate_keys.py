"""The command line for key frames from elsewhere, from files to a file."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
import torch

from eval.score import main as score
from rerender import compiled, files, write_video
from rerender.codec import Planes, encode, open_video, planes
from rerender.data import picture
from rerender.data.demo import Demo
from rerender.data.pictures import Pictures
from rerender.errors import ConfigError
from rerender.fitting import resize
from rerender.flow.dis import Dis
from rerender.jobs import render_clip
from rerender.jobs.load_job import JobRun
from rerender.keyframes._numbered import numbered, rounded
from rerender.propagate import propagate
from rerender.propagate.harmonise import harmony
from rerender.propagate_keys import main, translations
from rerender.propagation.warp import Warp
from rerender.run import main as run
from rerender.run_folder import read_facts
from rerender.video import MemoryVideo, Video
from tests.propagation.scenes import Drift, moving, texture


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, MemoryVideo]:
    video = moving(9, 48, 64)
    path = tmp_path_factory.mktemp("clip") / "a clip.mp4"
    with files.writing(path) as file:
        encode([video[index] for index in range(9)], video, file)
    return path, video


def keyed(folder: Path, video: MemoryVideo, indices: tuple[int, ...]) -> Path:
    for index in indices:
        files.put(folder / f"key-{index:04d}.png", files.png(1 - video[index]))
    return folder


def test_a_folder_of_key_frames_becomes_a_video(
    tmp_path: Path, clip: tuple[Path, MemoryVideo], capsys: pytest.CaptureFixture[str]
) -> None:
    path, video = clip
    keys = keyed(tmp_path / "keys", video, (0, 4, 8))
    out = tmp_path / "out.mp4"
    assert main(["--keys", str(keys), "--video", str(path), "--out", str(out)]) == 0
    made = open_video(out)
    assert len(made) == 9 and made.size == (48, 64)
    assert "9 frames from 3 key frames" in capsys.readouterr().out
    for index in (0, 2, 4, 6):
        inner = (made[index] - (1 - video[index]))[:, 8:-8, 12:-12]
        assert inner.abs().mean() < 0.04


@pytest.mark.parametrize("form", ["png", "exr"])
def test_a_folder_of_pictures_that_cannot_be_made_is_refused_before_work(
    form: str,
    tmp_path: Path,
    clip: tuple[Path, MemoryVideo],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr("rerender.propagate_keys.open_video", lambda *more: pytest.fail("opened"))
    keys = keyed(tmp_path / "keys", clip[1], (0, 8))
    files.put(tmp_path / "file", b"mine")
    out = tmp_path / "file" / "frames"
    options = ["--keys", str(keys), "--video", str(clip[0]), "--out", str(out)]
    assert main([*options, f"format={form}"]) == 2
    assert "file is a file" in capsys.readouterr().err
    assert main([*options[:-1], str(tmp_path / "new"), f"format={form}", "devices=[cuda:7]"]) == 2
    assert "devices: there is no cuda:7 here" in capsys.readouterr().err


def test_loops_that_cannot_be_kept_are_told(
    tmp_path: Path,
    clip: tuple[Path, MemoryVideo],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(compiled, "_unkept", ["a loop"])
    keys, out = keyed(tmp_path / "keys", clip[1], (0, 8)), tmp_path / "out" / "a" / "source.mp4"
    options = ["--keys", str(keys), "--video", str(clip[0]), "--out", str(out)]
    assert main([*options, "propagation=hold"]) == 0
    assert capsys.readouterr().err.count("NUMBA_CACHE_DIR") == 1
    files.put(tmp_path / "source.mp4", clip[0].read_bytes())
    asked = ["data=video", f"data.path={tmp_path}/source.mp4", "prompt=a", "metrics=[integrity]"]
    assert score([str(out.parents[1]), *asked, "--no-floors"]) == 0
    assert capsys.readouterr().err.count("NUMBA_CACHE_DIR") == 1


def test_the_video_is_brought_to_the_size_of_the_keys(
    tmp_path: Path, clip: tuple[Path, MemoryVideo]
) -> None:
    path, _ = clip
    files.put(tmp_path / "keys" / "3.png", files.png(texture(24, 32)))
    out = tmp_path / "out.mp4"
    options = ["--keys", str(tmp_path / "keys"), "--video", str(path), "--out", str(out)]
    assert main([*options, "--one-shot", "propagation=warp"]) == 0
    assert open_video(out).size == (24, 32)


def refused(tmp_path: Path, *options: str) -> int:
    out = tmp_path / "out.mp4"
    code = main([*options, "--out", str(out)])
    assert not out.exists() and not list(tmp_path.glob(".tmp*"))
    return code


def test_key_frames_of_a_run_keep_the_shape_of_the_video(tmp_path: Path) -> None:
    """They are of the size that a model works at, which misses the shape: 96 wide instead of 90."""
    video = moving(5, 48, 90)
    with files.writing(tmp_path / "a.mp4") as file:
        encode([video[index] for index in range(5)], video, file)
    for index in (0, 4):
        files.put(tmp_path / "keys" / f"{index}.png", files.png(resize(video[index], (48, 96))))
    out = tmp_path / "out.mp4"
    options = ["--keys", str(tmp_path / "keys"), "--video", str(tmp_path / "a.mp4")]
    assert main([*options, "--out", str(out)]) == 0
    made = open_video(out)
    assert made.size == (48, 90)
    assert (made[2] - video[2])[:, 8:-8, 12:-12].abs().mean() < 0.04


@pytest.mark.parametrize(
    ("size", "shape", "fits"),
    [
        ((128, 256), (252, 480), True),  # 243.8 wide, in multiples of 64
        ((256, 128), (480, 252), True),
        ((512, 912), (1080, 1920), True),
        ((128, 192), (252, 480), False),
        ((256, 128), (252, 480), False),
        ((48, 64), (48, 48), False),
        ((123, 250), (252, 480), False),  # no model's sizes
    ],
)
def test_sizes_that_a_model_rounds_a_shape_to(
    size: tuple[int, int], shape: tuple[int, int], fits: bool
) -> None:
    assert rounded(size, shape) is fits


def test_refusals(
    tmp_path: Path, clip: tuple[Path, MemoryVideo], monkeypatch: pytest.MonkeyPatch
) -> None:
    path, video = clip
    keys = str(keyed(tmp_path / "keys", video, (0, 4)))
    film = ("--video", str(path))
    late = keyed(tmp_path / "late", video, (0,))
    files.put(late / "20.png", files.png(video[0]))
    assert refused(tmp_path, "--keys", str(late), *film) == 3  # frame 20 of 9
    assert refused(tmp_path, "--keys", keys, "--video", str(tmp_path / "none.mp4")) == 3
    assert refused(tmp_path, "--keys", keys, *film, "flow=truth") == 3
    assert refused(tmp_path, "--keys", keys, *film, "flow=magic") == 2
    assert refused(tmp_path, "--keys", keys, *film, "propagation=../flow/dis") == 2
    assert refused(tmp_path, "--keys", keys, *film, "--ahead", "0") == 2
    assert refused(tmp_path, "--keys", keys, *film, "--first", "-1") == 2
    monkeypatch.setenv("PATH", str(tmp_path))  # no program there, and no film is looked at
    nowhere = ("--keys", "none", "--video", "none.mp4")
    assert refused(tmp_path, *nowhere, "propagation=ebsynth") == 2
    assert refused(tmp_path, "--keys", str(tmp_path / "nothing"), *film) == 3
    files.put(tmp_path / "wide" / "0.png", files.png(torch.zeros(3, 16, 64)))
    assert refused(tmp_path, "--keys", str(tmp_path / "wide"), *film) == 3


def test_keys_beyond_the_end_are_refused_by_name(
    tmp_path: Path, clip: tuple[Path, MemoryVideo], capsys: pytest.CaptureFixture[str]
) -> None:
    path, video = clip
    keys = tmp_path / "keys"
    for index in (0, 4, 8):  # counted from 1
        files.put(keys / f"ComfyUI_{index + 1:05d}_.png", files.png(1 - video[index]))
    options = ["--keys", str(keys), "--video", str(path), "propagation=hold"]
    assert refused(tmp_path, *options) == 3
    said = capsys.readouterr().err
    assert "ComfyUI_00009_.png: is of frame 9, the video has frames 0 to 8; say --first 1" in said
    assert main([*options, "--first", "1", "--out", str(tmp_path / "out.mp4")]) == 0
    assert "9 frames from 3 key frames" in capsys.readouterr().out


def test_the_source_and_the_keys_are_not_written_over(
    tmp_path: Path, clip: tuple[Path, MemoryVideo], capsys: pytest.CaptureFixture[str]
) -> None:
    path, video = clip
    film, keys = tmp_path / "film.mp4", keyed(tmp_path / "keys", video, (0, 8))
    files.copy(path, film)
    files.copy(next(keys.iterdir()), keys / "9.png")
    (keys / "10.png").symlink_to(tmp_path / "picture.mp4")
    files.copy(keys / "9.png", tmp_path / "picture.mp4")
    (tmp_path / "link.mp4").symlink_to(film)
    (tmp_path / "hard.mp4").hardlink_to(film)
    (tmp_path / "round").symlink_to(tmp_path)
    before = {file: file.read_bytes() for file in tmp_path.rglob("*") if file.is_file()}
    outs = ["film.mp4", "link.mp4", "hard.mp4", "round/film.mp4", "keys/../film.mp4", "picture.mp4"]
    outs += ["new/../film.mp4", "new/more/../../round/film.mp4"]
    for out in outs:
        arguments = ["--keys", keys, "--video", film, "--out", tmp_path / out]
        assert main([str(each) for each in arguments]) == 2
        assert "is the input" in capsys.readouterr().err
    mask = ["--video", str(path), "mask=file", f"mask.path={film}", "--out", str(film)]
    assert main(["--keys", str(keys), *mask]) == 2
    assert "is the input" in capsys.readouterr().err
    assert {file: file.read_bytes() for file in tmp_path.rglob("*") if file.is_file()} == before


@pytest.mark.parametrize(
    ("out", "code", "words"),
    [
        ("folder.mp4", 2, "is a folder"),
        ("file/out.mp4", 2, "is a file, a folder is needed"),
        ("pipe.mp4", 2, "is no plain file"),
        ("out.gif", 2, "an mp4 is written, received 'out.gif'"),
        ("out", 2, "an mp4 is written"),
        ("keys/0000.png", 2, "an mp4 is written"),
        ("a" * 300 + ".mp4", 2, "cannot be opened (file name too long)"),
        ("shut/deep/out.mp4", 5, "may not be written"),
    ],
)
def test_an_output_that_cannot_be_is_refused_first(
    tmp_path: Path,
    out: str,
    code: int,
    words: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    (tmp_path / "folder.mp4").mkdir()
    (tmp_path / "shut").mkdir()
    (tmp_path / "file").write_bytes(b"")
    os.mkfifo(tmp_path / "pipe.mp4")
    access = os.access  # to the superuser every folder is open
    monkeypatch.setattr(
        os, "access", lambda path, mode: "shut" not in str(path) and access(path, mode)
    )
    before = sorted(tmp_path.rglob("*"))
    nowhere = ["--keys", "none", "--video", "none.mp4"]  # nothing of them is looked at
    assert main([*nowhere, "--out", str(tmp_path / out)]) == code
    assert words in capsys.readouterr().err
    assert sorted(tmp_path.rglob("*")) == before


def test_the_command_cuts_where_the_video_does(tmp_path: Path) -> None:
    """Key frames 0, 8, 16 and 23, a cut at 12: frame 12 is of the new shot."""
    (cut,) = Demo(motion="cut", frames=24, size=64).clips()
    film, keys = tmp_path / "film.mp4", tmp_path / "keys"
    with files.writing(film) as file:
        encode([cut.video[index] for index in range(24)], cut.video, file)
    for index in (0, 8, 16, 23):
        files.put(keys / f"{index:06d}.png", files.png(torch.full((3, 64, 64), index / 32)))
    made = {}
    for name, options in {"cut": [], "one": ["--one-shot"]}.items():
        out = tmp_path / f"{name}.mp4"
        arguments = ["--keys", str(keys), "--video", str(film), "--out", str(out), *options]
        assert main([*arguments, "propagation=hold"]) == 0
        video = open_video(out)
        made[name] = [round(float(video[index].mean()) * 32) for index in range(8, 17)]
    assert made["cut"] == [8, 8, 8, 8, 16, 16, 16, 16, 16]
    assert made["one"] == [8, 8, 8, 8, 8, 16, 16, 16, 16]


def test_names_carry_the_frame_number(tmp_path: Path) -> None:
    for name in ("b10.png", "a2.png", "notes.txt"):
        files.put(tmp_path / name, files.png(texture(8, 8)))
    assert [(index, path.name) for index, path in numbered(tmp_path).items()] == [
        (2, "a2.png"),
        (10, "b10.png"),
    ]
    for name, problem in (("x010.png", "has the number of"), ("last.png", "does not hold a frame")):
        files.put(tmp_path / name, files.png(texture(8, 8)))
        with pytest.raises(Exception, match=problem):
            numbered(tmp_path)
        (tmp_path / name).unlink()


def test_settings_are_those_of_a_run(
    tmp_path: Path, clip: tuple[Path, MemoryVideo], capsys: pytest.CaptureFixture[str]
) -> None:
    path, video = clip
    keys = keyed(tmp_path / "keys", video, (0, 3))
    files.put(tmp_path / "mask.png", files.png(torch.zeros(3, 48, 64)))
    out = tmp_path / "out.mp4"
    options = ["--keys", str(keys), "propagation=hold", "--video", str(path), "--out", str(out)]
    settings = ["data.start=2", "data.frames=5", "smooth=median"]
    mask = ["mask=file", f"mask.path={tmp_path / 'mask.png'}"]
    assert main([*options, *settings, *mask, "debug=true"]) == 0
    made, source = open_video(out), open_video(path, 2, 5)
    assert len(made) == 5
    for index in range(5):  # nothing is restyled
        assert (made[index] - source[index]).abs().mean() < 0.06
    capsys.readouterr()
    for wrong, words in (
        ("model=demo", "is no setting that this command reads"),
        ("data.path=x.mp4", "is no setting"),
        ("flow", "is no setting"),
        ("--flow=raft", "write flow=raft"),
        ("--propagation", "write propagation=NAME"),
        ("propagation=warp,hold", "one result is made, 2 are asked for"),
        ("data.start=99", "frame 99 is not in"),
    ):
        assert main([*options, wrong]) == 2
        assert words in capsys.readouterr().err


@pytest.mark.parametrize("form", ["h264_lossless", "ffv1", "png16"])
def test_the_formats_are_those_of_a_run(
    form: str,
    tmp_path: Path,
    clip: tuple[Path, MemoryVideo],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """The command's file, and that of `write_video`, is the one that lies beside a run's mp4."""
    monkeypatch.chdir(tmp_path)
    path, video = clip
    keys = keyed(tmp_path / "keys", video, (1, 7))
    said = ["data=video", f"data.path={path}", "propagation=warp", "out=run"]
    assert run([*said, "keyframes=folder", "keyframes.path=keys", f"format={form}", *RUN]) == 0
    facts = read_facts(Path("run"))["clips"][0]
    place = Path("run") / facts["master"]

    def contents(made: Path) -> list[bytes]:
        return [file.read_bytes() for file in sorted(made.glob("*"))] or [made.read_bytes()]

    films = ["--keys", "keys", "--video", str(path), "propagation=warp", f"format={form}"]
    out = Path(f"by_command{place.suffix}")
    assert main([*films, "--out", str(out)]) == 0
    assert contents(out) == contents(place)
    again = open_video(path)
    frames = propagate(
        again,
        translations((1, 7), Pictures(tuple(numbered(keys).values()), rate=1), []),
        Warp(),
        Dis(),
    )
    name = f"by_program{place.suffix}"
    assert write_video(name, frames, again, form).frames == 9  # type: ignore[arg-type]
    assert contents(Path(f"by_program{place.suffix}")) == contents(place)
    capsys.readouterr()
    if form == "png16":
        assert main([*films, "--out", str(out)]) == 2
        assert "has files already" in capsys.readouterr().err
        assert main([*films, "--out", str(path)]) == 2
    else:
        assert main([*films, "--out", "out.mp4"]) == 2
        assert f"ends in {place.suffix}" in capsys.readouterr().err


def test_frames_too_many_or_too_few_are_no_file(tmp_path: Path) -> None:
    video = moving(3, 48, 64)
    for count in (2, 4):
        frames = [video[index % 3] for index in range(count)]
        for form, name in (("ffv1", "out.mkv"), ("png", "frames")):
            with pytest.raises(ValueError):
                write_video(tmp_path / f"{count}{name}", frames, video, form)  # type: ignore[arg-type]
            assert not (tmp_path / f"{count}{name}").is_file()
    with pytest.raises(ConfigError, match="unknown format"):
        write_video(tmp_path / "x.mkv", [], video, "divx")  # type: ignore[arg-type]


def test_keys_that_differ_in_colour_are_brought_together(
    tmp_path: Path, clip: tuple[Path, MemoryVideo]
) -> None:
    path, video = clip
    for index, (gain, offset) in {0: (1.0, 0.0), 4: (0.9, 0.04), 8: (1.05, -0.02)}.items():
        picture = (0.8 * video[index] + 0.1) * gain + offset
        files.put(tmp_path / "keys" / f"{index}.png", files.png(picture))
    jumps = {}
    for name, flags in {"plain": [], "even": ["--harmonise"]}.items():
        out = tmp_path / f"{name}.mp4"
        options = ["--keys", str(tmp_path / "keys"), "--video", str(path), "--out", str(out)]
        assert main([*options, *flags, "propagation=hold"]) == 0
        made = open_video(out)
        tone = [(made[index] - (0.8 * video[index] + 0.1)).mean() for index in (0, 4, 8)]
        jumps[name] = max(tone) - min(tone)
    assert jumps["even"] < 0.4 * jumps["plain"]


def test_the_frame_to_paint_next_is_said_and_shown(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A clip that changes wholly at frame 14: without a key frame after it, that is what lacks."""
    (cut,) = Demo(motion="cut", frames=28, size=64).clips()
    film, out = tmp_path / "film.mp4", tmp_path / "next.png"
    with files.writing(film) as file:
        encode([cut.video[index] for index in range(28)], cut.video, file)
    keys = keyed(tmp_path / "keys", MemoryVideo([cut.video[i] for i in range(28)]), (0, 13))
    options = ["--keys", str(keys), "--video", str(film), "--suggest", "3", "--out", str(out)]
    assert main(options) == 0
    said = capsys.readouterr().out.splitlines()
    numbers = [int(line.split()[1].rstrip(":")) for line in said[:3]]
    gains = [float(line.split()[2]) for line in said[:3]]
    assert numbers[0] >= 14 and gains[0] > 3
    assert len(set(numbers)) == 3 and not {0, 13} & set(numbers)
    assert "the most useful first" in said[3]
    assert picture.read(out).image.shape[0] == 3
    assert main([*options[:-1], str(tmp_path / "next.mp4")]) == 2
    assert main(["--suggest", "0", *options[:4], "--out", str(out)]) == 2
    (tmp_path / "also keys").symlink_to(keys)
    for place in (keys, tmp_path / "also keys"):  # where it would be a key frame the next time
        assert main([*options[:-1], str(place / "0020.png")]) == 2
    assert "would be read as one of its pictures" in capsys.readouterr().err


RUN = ["tracker=none", "metrics=[integrity]", "prompt=as painted", "data.output=source", "store=s"]


def test_key_frames_of_one_grey_need_no_harmony() -> None:
    """Nor where the source moves out by less than half a pixel: beyond the border is no black."""
    grey = torch.full((3, 8, 8), 0.8)
    found = harmony((0, 1), lambda _: grey, MemoryVideo([grey, grey]), Drift())
    assert abs(found.gain - 1).max() < 1e-6 and abs(found.offset).max() < 1e-6


@pytest.mark.parametrize("harmonise", [False, True])
def test_a_run_takes_key_frames_from_a_folder(
    harmonise: bool,
    tmp_path: Path,
    clip: tuple[Path, MemoryVideo],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The bytes of the command, without a model; stopped, it goes on from a key frame to them."""
    monkeypatch.chdir(tmp_path)
    path, video = clip
    keys = keyed(tmp_path / "keys", video, (1, 4, 7))
    files.put(keys / "key-0004.png", files.png(0.8 * (1 - video[4])))
    films = ["--keys", str(keys), "--video", str(path), "--out", "by_command.mp4"]
    assert main([*films, "propagation=warp", *(["--harmonise"] if harmonise else [])]) == 0

    said = ["data=video", f"data.path={path}", "data.size=32", "propagation=warp", "out=run"]
    said += ["keyframes=folder", "keyframes.path=keys", f"keyframes.harmonise={harmonise}"]
    monkeypatch.setattr(JobRun, "_load", lambda job: pytest.fail("the model is loaded"))
    made: list[int] = []

    def failing(image: torch.Tensor, video: Video, index: int) -> Planes:
        made.append(index)
        if made == [0, 1, 2, 3, 4, 5]:
            raise MemoryError
        return planes(image, video, index)

    monkeypatch.setattr(render_clip, "planes", failing)
    assert run([*said, *RUN]) == 5
    assert run([*said, *RUN]) == 0
    assert made == [0, 1, 2, 3, 4, 5, *range(5, 9)]
    assert Path("run/video.mp4").read_bytes() == Path("by_command.mp4").read_bytes()
    assert sorted(path.name for path in Path("run/keys").iterdir()) == [
        f"{index:06d}.png" for index in (1, 4, 7)
    ]
    facts = read_facts(Path("run"))
    assert facts["clips"][0]["keys"] == [1, 4, 7] and "keyframes.path" in facts["inputs"]


def test_a_run_refuses_what_the_command_refuses(
    tmp_path: Path,
    clip: tuple[Path, MemoryVideo],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    path, video = clip
    said = ["data=video", f"data.path={path}", "out=run", "keyframes=folder", *RUN]

    def code(*more: str) -> int:
        found = run([*said, *more])
        assert not Path("run").exists()
        return found

    late = keyed(tmp_path / "late", video, (0,))
    files.put(late / "9.png", files.png(video[0]))
    assert code("keyframes.path=late") == 3
    assert "is of frame 9, the video has frames 0 to 8" in capsys.readouterr().err
    files.put(tmp_path / "counted" / "9.png", files.png(video[0]))
    assert code("keyframes.path=counted") == 3
    assert "say keyframes.first=1" in capsys.readouterr().err
    assert code("keyframes.path=none") == 3
    mixed = keyed(tmp_path / "mixed", video, (0,))
    files.put(mixed / "3.png", files.png(texture(24, 32)))
    assert code("keyframes.path=mixed") == 3
    files.put(tmp_path / "square" / "3.png", files.png(texture(24, 24)))
    assert code("keyframes.path=square") == 3
    (tmp_path / "torn").mkdir()
    torn = files.png(video[0])
    (tmp_path / "torn" / "0.png").write_bytes(torn[: len(torn) // 2])
    assert code("keyframes.path=torn") == 3
    assert code("keyframes.path=late", "keyframes.cuts=[5,5]") == 2
