"""Where results and stages cannot go is refused before anything is made, and the cure works."""

from __future__ import annotations

import os
import re
from collections.abc import Callable
from pathlib import Path

import pytest

from rerender import files
from rerender.errors import ResourceError
from rerender.run import main
from rerender.store import gc
from rerender.store.cache import Cache
from tests.faults import contents

SMOKE = ["+exp=smoke", "tracker=none", "data.size=32", "constraint=[]", "metrics=[]"]


def _file(here: Path, key: str) -> str:
    files.put(here / "taken", b"mine")
    return f"{key}=taken"


def _below_a_file(here: Path, key: str) -> str:
    files.put(here / "taken", b"mine")
    return f"{key}=taken/deeper/still"


def _dangling(here: Path, key: str) -> str:
    (here / "taken").symlink_to(here / "nothing")
    return f"{key}=taken"


def _read_only(here: Path, key: str) -> str:
    files.folder(here / "fixed")
    return f"{key}=fixed/deeper"


def _foreign(here: Path, key: str) -> str:
    files.put(here / "taken" / "photo.jpg", b"mine")
    return f"{key}=taken"


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working folder in which nothing in ``fixed`` may be written; tests may run as root, whom
    no mode stops."""
    access = os.access

    def denied(path: Path, mode: int) -> bool:
        return Path(path).name != "fixed" and access(path, mode)

    monkeypatch.setattr(os, "access", denied)
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.parametrize("key", ["out", "store"])
@pytest.mark.parametrize(
    ("case", "code"),
    [(_file, 2), (_below_a_file, 2), (_dangling, 2), (_read_only, 5), (_foreign, 2)],
)
def test_a_place_that_cannot_be_written_is_refused_early(
    case: Callable[[Path, str], str],
    code: int,
    key: str,
    here: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    argument = case(here, key)
    before = contents(here)
    planned = [] if case is _foreign and key == "out" else ["--dry"]  # refused by the run itself
    assert main([*SMOKE, argument, *planned]) == code
    said = capsys.readouterr().err
    assert said.startswith(f"error: {key}: ")
    assert said.count("\n") == 1
    assert contents(here) == before
    cure = re.search(rf"({key})=PATH", said)
    other = f"{cure[1] if cure else key}=another"
    assert main([*SMOKE, other, "--dry"]) == 0


def test_a_store_in_a_place_that_only_seems_writable_is_refused_before_the_model_loads(
    here: Path,
) -> None:
    """As in /proc: access is granted, and nothing can be made."""
    with pytest.raises(ResourceError, match=r"^store: .* cannot be written .*store=PATH"):
        Cache(Path("/proc/store")).open()


def test_the_output_folder_is_no_store(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([*SMOKE, "out=one", "store=./one", "--dry"]) == 2
    assert "error: store: one is the output folder" in capsys.readouterr().err


def test_what_making_room_suggests_works(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    files.put(here / "taken" / "photo.jpg", b"mine")
    assert gc.main(["gc", "taken", "--days", "0"]) == 2
    assert "name the folder of one (store=... of a run)" in capsys.readouterr().err
    assert main([*SMOKE, "out=out", "store=mine"]) == 0
    assert gc.main(["gc", "mine", "--days", "0"]) == 0
