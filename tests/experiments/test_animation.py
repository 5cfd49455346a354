"""An animated picture shows source, results and truth at the speed of the video."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from experiments.animation import main
from rerender.run import main as run

SETTINGS = ["model=tiny", "data.size=32", "sampling.steps=4", "metrics=[]", "tracker=none"]


@pytest.fixture(scope="module")
def ran(tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = tmp_path_factory.mktemp("runs")
    quick = [*SETTINGS, "constraint=[]", "propagation=hold", "store=null"]
    assert run([*quick, "data.frames=5", f"out={place / 'one'}"]) == 0
    assert run([*quick, "data.frames=5", "data.seeds=[1000001]", f"out={place / 'two'}"]) == 0
    return place


@pytest.mark.parametrize("suffix", [".webp", ".gif"])
def test_panels_frames_and_speed(ran: Path, tmp_path: Path, suffix: str) -> None:
    out = tmp_path / f"a{suffix}"
    arguments = [str(out), str(ran / "one"), "--every", "2", "--height", "48", "--quality", "90"]
    assert main([*arguments, "--labels", "ours"]) == 0
    with Image.open(out) as picture:
        assert picture.n_frames == 3  # type: ignore[attr-defined]
        assert picture.size == (3 * 48 + 2 * 4, 48 + 18)  # source, ours, truth
        frames = []
        for number in range(3):
            picture.seek(number)
            picture.load()
            assert picture.info["duration"] == pytest.approx(80, abs=10)
            frames.append(np.asarray(picture.convert("RGB"), float))
    assert np.abs(frames[0][18:, :48] - frames[2][18:, :48]).max() > 20, "the source moves"
    assert np.abs(frames[0][18:, :48] - frames[0][18:, 104:]).max() > 20, "the truth is another"


def test_what_does_not_fit_is_refused(
    ran: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    one, two, out = str(ran / "one"), str(ran / "two"), str(tmp_path / "a.webp")
    for arguments, said in (
        ([out, one, two], "different clips"),
        ([out, one, "--labels", "a", "b"], "2 for 1 runs"),
        ([str(tmp_path / "a.mp4"), one], "is no .webp or .gif"),
        ([out, one, "--every", "0"], "must lie in 1..10000"),
        ([out, one, "--quality", "101"], "must lie in 1..100"),
    ):
        assert main(arguments) == 2
        assert said in capsys.readouterr().err
    assert main([out, str(tmp_path)]) == 3
    assert not list(tmp_path.iterdir())


def test_a_picture_is_not_written_over_the_source_of_a_run(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    source = tmp_path / "cat.gif"
    frames = [Image.new("RGB", (32, 32), (50 * i, 99, 9)) for i in range(3)]
    frames[0].save(source, save_all=True, append_images=frames[1:], duration=40)
    before = source.read_bytes()
    quick = [*SETTINGS, "constraint=[]", "propagation=hold", "store=null", "prompt=oil"]
    one = tmp_path / "one"
    assert run([*quick, "data=video", f"data.path={source}", f"out={one}"]) == 0
    assert main([str(source), str(one)]) == 2
    assert "is an input of" in capsys.readouterr().err
    assert source.read_bytes() == before
