"""The command line for key frames from elsewhere, from files to a file."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from rerender import store
from rerender.codec import encode, open_video
from rerender.propagate_keys import main, numbered
from rerender.video import MemoryVideo
from tests.propagation.scenes import moving, texture


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, MemoryVideo]:
    video = moving(9, 48, 64)
    path = tmp_path_factory.mktemp("clip") / "a clip.mp4"
    with store.writing(path) as file:
        encode([video[index] for index in range(9)], video, file)
    return path, video


def keyed(folder: Path, video: MemoryVideo, indices: tuple[int, ...]) -> Path:
    for index in indices:
        store.put(folder / f"key-{index:04d}.png", store.png(1 - video[index]))
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


def test_the_video_is_brought_to_the_size_of_the_keys(
    tmp_path: Path, clip: tuple[Path, MemoryVideo]
) -> None:
    path, _ = clip
    store.put(tmp_path / "keys" / "3.png", store.png(texture(24, 32)))
    out = tmp_path / "out.mp4"
    options = ["--keys", str(tmp_path / "keys"), "--video", str(path), "--out", str(out)]
    assert main([*options, "--propagation", "warp", "--one-shot"]) == 0
    assert open_video(out).size == (24, 32)


def refused(tmp_path: Path, *options: str) -> int:
    out = tmp_path / "out.mp4"
    code = main([*options, "--out", str(out)])
    assert not out.exists() and not list(tmp_path.glob(".tmp*"))
    return code


def test_refusals(
    tmp_path: Path, clip: tuple[Path, MemoryVideo], monkeypatch: pytest.MonkeyPatch
) -> None:
    path, video = clip
    keys = str(keyed(tmp_path / "keys", video, (0, 4)))
    film = ("--video", str(path))
    late = keyed(tmp_path / "late", video, (0,))
    store.put(late / "20.png", store.png(video[0]))
    assert refused(tmp_path, "--keys", str(late), *film) == 3  # frame 20 of 9
    assert refused(tmp_path, "--keys", keys, "--video", str(tmp_path / "none.mp4")) == 3
    assert refused(tmp_path, "--keys", keys, *film, "--flow", "truth") == 3
    assert refused(tmp_path, "--keys", keys, *film, "--flow", "magic") == 2
    assert refused(tmp_path, "--keys", keys, *film, "--propagation", "../flow/dis") == 2
    assert refused(tmp_path, "--keys", keys, *film, "--ahead", "0") == 2
    monkeypatch.setenv("PATH", str(tmp_path))  # no program there, and no film is looked at
    nowhere = ("--keys", "none", "--video", "none.mp4")
    assert refused(tmp_path, *nowhere, "--propagation", "ebsynth") == 2
    assert refused(tmp_path, "--keys", str(tmp_path / "nothing"), *film) == 3
    store.put(tmp_path / "wide" / "0.png", store.png(torch.zeros(3, 16, 64)))
    assert refused(tmp_path, "--keys", str(tmp_path / "wide"), *film) == 3


def test_names_carry_the_frame_number(tmp_path: Path) -> None:
    for name in ("b10.png", "a2.png", "notes.txt"):
        store.put(tmp_path / name, store.png(texture(8, 8)))
    assert [(index, path.name) for index, path in numbered(tmp_path).items()] == [
        (2, "a2.png"),
        (10, "b10.png"),
    ]
    for name, problem in (("x010.png", "has the number of"), ("last.png", "does not hold a frame")):
        store.put(tmp_path / name, store.png(texture(8, 8)))
        with pytest.raises(Exception, match=problem):
            numbered(tmp_path)
        (tmp_path / name).unlink()
