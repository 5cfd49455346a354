"""Every way to fail has its code and one line without control characters."""

from __future__ import annotations

import ast
import importlib
import logging
import os
import resource
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import av
import av.error
import numpy as np
import pytest
from PIL import Image

from rerender import errors
from rerender.config.build import missing_library
from rerender.data import picture
from rerender.exits import OURS, Parser, Terminated, command, failure, report, warned

ROOT = Path(__file__).resolve().parents[1]
# The modules that are run as commands; benches and the training of the demo model are our tools.
COMMANDS = sorted(
    ".".join(file.relative_to(ROOT).with_suffix("").parts)
    for package in OURS
    for file in (ROOT / package).rglob("*.py")
    if '\nif __name__ == "__main__":' in file.read_text(encoding="utf-8")
    and not file.relative_to(ROOT).as_posix().startswith(("experiments/bench/", "rerender/demo/"))
)
# What these do with every argument is to compute; all others load what they compute with when they
# know that they will. A command that is new is light, or is written down here.
COMPUTES = {
    "eval.score",
    "experiments.animation",
    "experiments.combinations",
    "experiments.degradations",
    "experiments.encoding_cycles",
    "experiments.tutorials",
    "rerender.jobs.device_worker",
    "rerender.propagate.__main__",
}


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (errors.ConfigError("a", "b", "c"), 2),
        (errors.InputError("a", "b", "c"), 3),
        (errors.WeightsError("a", "b", "c"), 4),
        (errors.ResourceError("a", "b", "c"), 5),
        (OSError(28, "No space left on device", "video.mp4"), 5),
        (MemoryError(), 5),
        (PermissionError(13, "Permission denied", "keys"), 5),
        (FileNotFoundError(2, "No such file or directory", "gone.png"), 3),
        (FileExistsError(17, "File exists", "out"), 5),
        (OSError(39, "Directory not empty", "out"), 5),
        (OSError(6, "No such device or address", "socket.mp4"), 5),
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


@pytest.mark.parametrize(
    "error",
    [
        RuntimeError(
            "[enforce fail at alloc_cpu.cpp:118] err == 0. DefaultCPUAllocator: can't allocate "
            "memory: you tried to allocate 943718400000 bytes. Error code 12"
        ),
        RuntimeError("could not create a primitive"),
        RuntimeError("could not create a memory object"),
        RuntimeError("std::bad_alloc"),
        RuntimeError("CUDA error: out of memory"),
        RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`"),
        RuntimeError("MPS backend out of memory (MPS allocated: 1 GB)"),
        RuntimeError("can't start new thread"),
        ImportError("libtorch_cpu.so: failed to map segment from shared object"),
        OSError(12, "Cannot allocate memory"),
        MemoryError("Unable to allocate 8.00 EiB for an array with shape (1,)"),
        MemoryError("Allocation failed (probably too large)."),
    ],
    ids=lambda error: str(error)[:30],
)
def test_memory_that_runs_out_is_no_bug(error: Exception) -> None:
    found = failure(error)
    assert found.code == 5
    assert "lower data.size" in found.message
    assert "\n" not in found.message


@pytest.mark.parametrize("module", [name.removesuffix(".__main__") for name in COMMANDS])
def test_libraries_for_which_there_is_no_memory_are_one_line(module: str, tmp_path: Path) -> None:
    """A tenth of what torch takes to load."""
    given = {"rerender.run": ["prompt=oil", "tracker=none"], "rerender.studio": []}
    heavy = module in given or {module, f"{module}.__main__"} & COMPUTES
    done = subprocess.run(
        [sys.executable, "-m", module, *given.get(module, ["--help"])],
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_AS, (7 * 10**8,) * 2),
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(ROOT), "OPENBLAS_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
    )
    assert done.returncode == (5 if heavy else 0), done.stderr
    assert done.stderr.count("\n") == bool(heavy)
    assert done.stderr.startswith("error: memory: " if heavy else "")


@pytest.mark.parametrize(
    ("failure", "code"),
    [
        ("raise KeyboardInterrupt", 130),
        ("raise ImportError('libGL.so.1: cannot open shared object file')", 5),
        ("1 / 0", 70),
    ],
)
def test_a_command_that_cannot_be_loaded_ends_as_all_end(
    failure: str, code: int, tmp_path: Path
) -> None:
    """In place of a library stands a file that fails. What others start is left alone."""
    (tmp_path / "torch.py").write_text(failure, encoding="utf-8")
    (tmp_path / "others.py").write_text("import rerender, torch", encoding="utf-8")
    environment = {**os.environ, "PYTHONPATH": f"{tmp_path}{os.pathsep}{ROOT}"}
    for asked in (["-meval.score", "--help"], ["-X", "dev", "-m", "rerender.propagate"]):
        done = subprocess.run(
            [sys.executable, *asked], env=environment, capture_output=True, text=True
        )
        assert done.returncode == code
        assert done.stderr.startswith("error: ") and done.stderr.count("\n") == 1
    done = subprocess.run(
        [sys.executable, "-m", "others"], env=environment, capture_output=True, text=True
    )
    assert done.stderr.startswith("Traceback")


@pytest.mark.parametrize(
    ("cause", "code"),
    [
        (RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to"), 5),
        (MemoryError(), 5),
        (OSError(11, "Resource temporarily unavailable"), 5),
        (OSError(24, "Too many open files", "x.png"), 5),
        (ValueError("a field is damaged"), 3),
        (av.error.MemoryError(12, "Cannot allocate memory", "x.mp4"), 3),  # of a huge claim
    ],
)
def test_a_file_is_not_called_damaged_where_the_machine_lacks_something(
    cause: Exception, code: int
) -> None:
    """Whoever reads pictures, videos or weights takes any error of a library for damage."""
    for kind in (errors.InputError, errors.WeightsError, errors.ConfigError):
        error = kind("x.png", "cannot be read as a picture (it is damaged)", "replace it")
        error.__cause__ = KeyError("in between")
        error.__cause__.__cause__ = cause
        found = failure(error)
        assert found.code == (code if code == 5 else kind.exit_code)
        assert ("damaged" in found.message) == (code != 5)


def test_a_picture_for_which_there_is_no_memory_is_not_damaged(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "whole.png"
    Image.new("RGB", (8, 8)).save(file)

    def lacking(*given: object) -> None:
        raise RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory")

    monkeypatch.setattr(picture, "_tensor", lacking)
    with pytest.raises(errors.InputError) as caught:
        picture.read(file)
    assert failure(caught.value).code == 5


def test_memory_that_really_runs_out_is_no_bug() -> None:
    """What torch, NumPy and OpenCV really raise for more than any machine has."""
    import cv2
    import torch

    huge = 2**45
    for ask in (
        lambda: torch.empty(huge),
        lambda: np.ones(huge),
        lambda: cv2.resize(np.zeros((2, 2), np.float64), (2**30, 2**12)),
    ):
        with pytest.raises(Exception) as caught:
            ask()
        assert failure(caught.value).code == 5, caught.value


# -- the skeleton of every command -----------------------------------------------------------------


def end(error: BaseException) -> Any:
    def run(given: list[str]) -> int:
        raise error

    return run


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (errors.InputError("a", "b", "c"), 3),
        (KeyboardInterrupt(), 130),
        (Terminated(), 143),
        (ValueError("surprise"), 70),
        (RecursionError("too deep"), 70),
        (SystemExit(0), 0),
        (SystemExit(2), 2),
    ],
)
def test_a_command_ends_with_one_line(
    error: BaseException, code: int, capsys: pytest.CaptureFixture[str]
) -> None:
    assert command(end(error), []) == code
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == (not isinstance(error, SystemExit))
    assert command(end(error), ["debug=true"]) == code
    assert ("Traceback" in capsys.readouterr().err) == bool(lines)


def test_a_signal_and_a_warning_reach_every_command(capsys: pytest.CaptureFixture[str]) -> None:
    def run(given: list[str]) -> None:
        with warned():  # as a run does inside its command: said once all the same
            for name in OURS:
                logging.getLogger(f"{name}.somewhere").warning("a.png: passed over")
        os.kill(os.getpid(), signal.SIGTERM)

    assert command(run, []) == 143
    warning, error = capsys.readouterr().err.splitlines()
    assert warning == "warning: a.png: passed over"
    assert error.startswith("error: stopped by a signal")


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_has_this_skeleton(
    name: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Its main hands over to `command`; an unknown option is one line with code 2."""
    file = ROOT.joinpath(*name.split(".")).with_suffix(".py")
    main = getattr(importlib.import_module(name), "main", None)
    if main is None:  # another module holds it, imported when the command runs
        tree = ast.parse(file.read_text(encoding="utf-8"))
        (source,) = [
            node.module
            for node in ast.walk(tree)
            if isinstance(node, ast.ImportFrom) and [a.name for a in node.names] == ["main"]
        ]
        main = importlib.import_module(str(source)).main
    assert "command" in main.__code__.co_names
    monkeypatch.setenv("RERENDER_DEBUG", "0")
    assert main(["--no-such-option"]) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert "error: " in err.splitlines()[-1]
    if name != "rerender.run":  # Hydra's parser adds how it is used
        assert err.count("\n") == 1


def test_a_command_line_is_refused_in_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    parser = Parser(prog="python -m tool")
    parser.add_argument("--number", type=int, required=True)

    def parse(given: list[str]) -> None:
        parser.parse_args(given)

    for given in ([], ["--number", "x"], ["--num", "1"]):
        assert command(parse, given) == 2
        assert capsys.readouterr().err.count("\n") == 1
    assert command(parse, ["--help"]) == 0


def test_an_error_that_is_its_own_cause_is_told_once(capsys: pytest.CaptureFixture[str]) -> None:
    first = errors.ConfigError("seed", "is odd", "take another")
    second = ValueError("odd")
    for chain in ((first,), (first, second)):
        for error, cause in zip(chain, (*chain[1:], chain[0]), strict=True):
            error.__cause__ = cause

        def fail(_: list[str]) -> None:
            raise first

        assert command(fail, []) == 2
        assert capsys.readouterr().err == "error: seed: is odd; take another\n"


def test_a_locale_that_lacks_letters_of_a_name_is_told(tmp_path: Path) -> None:
    """A file of a name that is known from elsewhere than the command line."""
    (tmp_path / "looks.py").write_text(
        "import sys; from pathlib import Path; from rerender.exits import command\n"
        "sys.exit(command(lambda given: Path('r\\xe4um').stat() and None))"
    )
    locale = {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}
    environment = {**os.environ, "PYTHONPATH": str(ROOT), **locale}
    done = subprocess.run(
        [sys.executable, tmp_path / "looks.py"], env=environment, capture_output=True, text=True
    )
    assert done.returncode == 2
    assert done.stderr.startswith("error: locale: its encoding, ascii, has no '\\xe4'")
    assert done.stderr.count("\n") == 1


def test_a_working_folder_that_is_gone_is_told(tmp_path: Path) -> None:
    (tmp_path / "stays.py").write_text(
        "import os, sys; from rerender.exits import command\n"
        "os.mkdir('gone'); os.chdir('gone'); os.rmdir(os.getcwd())\n"
        "sys.exit(command(lambda given: os.path.abspath('out') and None))"
    )
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run(
        [sys.executable, "stays.py"],
        cwd=tmp_path,
        env=environment,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 5
    assert done.stderr.startswith("error: working folder: was removed while the command ran in it")


SAYS = r"""
import sys
from rerender.exits import command
def run(given):
    for _ in range(2000):
        print("ein langer Satz mit Käse und 猫 \udcff")
        print("und hier auch: 猫", file=sys.stderr)
sys.exit(command(run))
"""


@pytest.mark.parametrize(
    ("shell", "code"),
    [
        ("{} | head -n 1", 0),  # a reader that goes away
        ("{} 2>&1 | head -n 1", 0),
        ("PYTHONIOENCODING=ascii {}", 0),
        ("PYTHONIOENCODING=latin-1 {}", 0),
        ("LC_ALL=C PYTHONUTF8=0 PYTHONCOERCECLOCALE=0 {}", 0),
        ("{} >&-", 0),
        ("{} 2>&-", 0),
        ("{} > /dev/full", 5),
    ],
)
def test_no_terminal_stops_a_command(shell: str, code: int, tmp_path: Path) -> None:
    (tmp_path / "says.py").write_text(SAYS, encoding="utf-8")
    typed = f"set -o pipefail; {shell.format(f'{sys.executable} {tmp_path}/says.py')}"
    done = subprocess.run(
        ["bash", "-c", typed],
        capture_output=True,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        timeout=250,
    )
    assert done.returncode == code, done.stderr
    assert b"Traceback" not in done.stderr
    assert b"Exception ignored" not in done.stderr
    if "ascii" in shell:
        assert done.stdout.splitlines()[0] == b"ein langer Satz mit K?se und ? ?"
