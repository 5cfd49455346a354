"""The ebsynth adapter against a stand-in program, and against the real one where there is one.

The stand-in does what was seen of the real one: it says its options, and its errors with them, on
standard output; it leaves with 1 when it refuses, and with 0 when it could not write its picture; a
grey style comes back as a picture of one channel; the makers' fork writes errors beside it.
"""

from __future__ import annotations

import shutil
import sys
import time
from pathlib import Path

import pytest
import torch

from rerender.errors import ConfigError, InputError, ResourceError
from rerender.flow.dis import Dis
from rerender.propagate import propagate
from rerender.propagation.ebsynth import EbSynth
from rerender.video import MemoryVideo
from tests.propagation.scenes import keys, moving, still, translated

STAND_IN = """#!{python}
import os, shutil, signal, struct, subprocess, sys, time
arguments = sys.argv[1:]
assert arguments.count("-guide") == 4 and arguments.count("-weight") == 5, arguments
assert arguments[arguments.index("-searchvoteiters") + 1] == "12"
style, output = arguments[1], arguments[arguments.index("-output") + 1]
print("uniformity: 3500")
print("backend: cpu")
{body}
print("result was written to", output)
"""
COPY = "shutil.copy(style, output)"
REAL = shutil.which("ebsynth")


def program(folder: Path, body: str, **fields: float) -> EbSynth:
    path = folder / "eb synth é"  # neither a blank nor a letter of another tongue must matter
    path.write_text(STAND_IN.format(python=sys.executable, body=body), encoding="utf-8")
    path.chmod(0o755)
    return EbSynth(program=str(path), **{"timeout": 20, **fields})  # type: ignore[arg-type]


def run(part: EbSynth, height: int = 48, width: int = 64) -> list[torch.Tensor]:
    video = still(3, height, width)
    return list(propagate(video, keys(video, [0, 2]), part, Dis()))


@pytest.mark.parametrize("size", [(48, 64), (11, 13), (37, 53)])
def test_the_style_comes_back_through_the_program(tmp_path: Path, size: tuple[int, int]) -> None:
    first, middle, _ = run(program(tmp_path, COPY), *size)
    assert (middle - first).abs().max() < 0.51 / 255


def test_a_grey_picture_comes_back_in_three_channels(tmp_path: Path) -> None:
    body = "import cv2; cv2.imwrite(output, cv2.imread(style, cv2.IMREAD_GRAYSCALE))"
    video = MemoryVideo([image.mean(0, keepdim=True).expand(3, -1, -1) for image in still(3)])
    part = program(tmp_path, body)
    first, middle, _ = propagate(video, keys(video, [0, 2]), part, Dis())
    assert middle.shape == first.shape and (middle - first).abs().max() < 0.51 / 255


def test_the_program_runs_on_the_threads_asked_for_and_cannot_wait_for_input(
    tmp_path: Path,
) -> None:
    body = f"{COPY}; assert os.environ['OMP_NUM_THREADS'] == '{{}}' and not sys.stdin.read()"
    run(program(tmp_path, body.format(1)))
    run(program(tmp_path, body.format(3), threads=3))


ERRORS = """
import cv2
mean = float(cv2.imread(style).mean())
shutil.copy(style, output)
with open(output.replace(".png", ".bin"), "wb") as file:
    file.write(struct.pack("q", 16 * 24) + struct.pack("f", 1e4 * mean) * {count})
"""


def test_the_programs_own_errors_decide_where_it_tells_them(tmp_path: Path) -> None:
    video = still(3, 16, 24)
    black, white = torch.zeros(3, 16, 24), torch.ones(3, 16, 24)
    styles = [translated(0, black), translated(2, white)]
    fair = list(propagate(video, iter(styles), program(tmp_path, COPY), Dis()))
    assert fair[1].mean() == pytest.approx(0.5, abs=0.01)
    part = program(tmp_path, ERRORS.format(count=16 * 24))
    told = list(propagate(video, iter(styles), part, Dis()))
    assert told[1].max() < 0.01


def test_errors_of_another_size_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ResourceError, match="wrote 1040 bytes of errors for a picture of 16x24"):
        run(program(tmp_path, ERRORS.format(count=258)), 16, 24)


def test_a_failing_program_is_named_with_what_it_said(tmp_path: Path) -> None:
    with pytest.raises(ResourceError, match="ends with code 3: no memory"):
        run(program(tmp_path, "print(end='\\n' * 200 + 'no memory'); sys.exit(3)"))


def test_its_line_of_errors_is_found_among_others(tmp_path: Path) -> None:
    body = """
print("error: failed to load 'style.png'")
print("can't fopen")
print("x" * 400, file=sys.stderr)
sys.exit(1)"""
    with pytest.raises(ResourceError, match=r"code 1: error: failed to load 'style.png'; run"):
        run(program(tmp_path, body))


def test_a_crash_is_told_by_its_signal(tmp_path: Path) -> None:
    with pytest.raises(ResourceError, match=r"is ended by SIGSEGV: .*backend: cpu"):
        run(program(tmp_path, "sys.stdout.flush(); os.kill(os.getpid(), signal.SIGSEGV)"))


def test_a_program_that_makes_nothing_is_refused_with_what_it_said(tmp_path: Path) -> None:
    with pytest.raises(ResourceError, match=r"made no picture of the right size: .*was written to"):
        run(program(tmp_path, "pass"))


def test_a_program_that_takes_too_long_is_not_waited_for(tmp_path: Path) -> None:
    """A wrapper script is killed, but not what it has started: that must not be waited for."""
    body = "subprocess.run(['sleep', '120'])"
    before = time.monotonic()
    with pytest.raises(ResourceError, match="more than 1 s for one frame"):
        run(program(tmp_path, body, timeout=1))
    assert time.monotonic() - before < 100


def test_frames_that_crash_the_program_are_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="needs 11 pixels a side, received 10x40"):
        run(program(tmp_path, COPY), 10, 40)


def test_a_missing_program_is_refused_before_anything_is_loaded() -> None:
    with pytest.raises(ConfigError, match="no program 'no-such-ebsynth'"):
        EbSynth(program="no-such-ebsynth").check()


def test_a_file_that_may_not_be_executed_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "ebsynth"
    path.write_bytes(b"")
    with pytest.raises(ConfigError, match=r"may not be executed; chmod \+x"):
        EbSynth(program=str(path)).check()


@pytest.mark.skipif(REAL is None, reason="needs the program ebsynth")
@pytest.mark.parametrize("size", [(64, 96), (11, 12), (45, 67)])
def test_the_real_program_follows_a_known_motion(size: tuple[int, int]) -> None:
    video = moving(4, *size, speed=2)
    part = EbSynth(votes=4, sweeps=4)
    images = list(propagate(video, keys(video, [0, 3]), part, Dis()))
    truth, held = 1 - video[1], 1 - video[0]
    assert all(image.shape == (3, *size) for image in images)
    if min(size) > 40:
        inner = (slice(None), slice(8, -8), slice(12, -12))
        error, none = ((image - truth)[inner].square().mean() for image in (images[1], held))
        assert error < 0.2 * none
