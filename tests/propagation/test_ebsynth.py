"""The ebsynth adapter against a stand-in program."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
import torch

from rerender.errors import ConfigError, ResourceError
from rerender.flow.dis import Dis
from rerender.propagate import propagate
from rerender.propagation.ebsynth import EbSynth
from tests.propagation.scenes import keys, still

STAND_IN = """#!{python}
import shutil, sys
arguments = sys.argv[1:]
assert arguments.count("-guide") == 4 and arguments.count("-weight") == 5, arguments
assert arguments[arguments.index("-searchvoteiters") + 1] == "12"
{body}
"""
COPY = "shutil.copy(arguments[1], arguments[arguments.index('-output') + 1])"


def program(folder: Path, body: str) -> EbSynth:
    path = folder / "eb synth"  # a blank in the path must not matter
    path.write_text(STAND_IN.format(python=sys.executable, body=body))
    path.chmod(0o755)
    return EbSynth(program=str(path), timeout=20)


def run(part: EbSynth) -> list[torch.Tensor]:
    video = still(3)
    return list(propagate(video, keys(video, [0, 2]), part, Dis()))


def test_the_style_comes_back_through_the_program(tmp_path: Path) -> None:
    first, middle, _ = run(program(tmp_path, COPY))
    assert (middle - first).abs().max() < 0.51 / 255


def test_a_failing_program_is_named_with_what_it_said(tmp_path: Path) -> None:
    with pytest.raises(ResourceError, match="ends with code 3: no memory"):
        run(program(tmp_path, "print('no memory', file=sys.stderr); sys.exit(3)"))


def test_a_program_that_makes_nothing_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ResourceError, match="made no picture"):
        run(program(tmp_path, "pass"))


def test_a_missing_program_is_refused() -> None:
    with pytest.raises(ConfigError, match="no program 'no-such-ebsynth'"):
        run(EbSynth(program="no-such-ebsynth"))
