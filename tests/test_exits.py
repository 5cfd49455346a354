"""Every way to fail has its code and one line without control characters."""

from __future__ import annotations

import pytest

from rerender import errors
from rerender.build import missing_library
from rerender.exits import Terminated, failure, report


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (errors.ConfigError("a", "b", "c"), 2),
        (errors.InputError("a", "b", "c"), 3),
        (errors.WeightsError("a", "b", "c"), 4),
        (errors.ResourceError("a", "b", "c"), 5),
        (OSError(28, "No space left on device", "video.mp4"), 5),
        (MemoryError(), 5),
        (errors.PartialSweepError("a", "b", "c"), 6),
        (ValueError("surprise"), 70),
        (OSError(2, "No such file or directory"), 70),
        (errors.LockedError("a", "b", "c"), 75),
        (KeyboardInterrupt(), 130),
        (Terminated(), 143),
    ],
)
def test_the_code_of_each_error(error: BaseException, code: int) -> None:
    found = failure(error)
    assert found.code == code
    assert "\n" not in found.message


def test_a_bug_says_where_it_is() -> None:
    try:
        raise ValueError("two\nlines")
    except ValueError as error:
        message = failure(error).message
    assert "ValueError: two lines at test_exits.py:" in message


def test_opencv_without_its_system_libraries_says_what_to_install() -> None:
    error = ImportError("libGL.so.1: cannot open shared object file: No such file or directory")
    found = failure(error)
    assert found.code == 5
    assert "libGL.so.1" in found.message
    assert "apt install libgl1 libglib2.0-0 libxcb1" in found.message
    assert missing_library(ImportError("No module named 'cv2'")) is None


def test_control_characters_do_not_reach_the_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    report("file\x1b]0;title\x07 猫\n.mp4")
    assert capsys.readouterr().err == "error: file\\x1b]0;title\\x07 猫\\n.mp4\n"
