"""Commands that only read results wait for no library that computes: it takes seconds to load."""

from __future__ import annotations

import math
import subprocess
import sys
from pathlib import Path

from eval import score_files
from eval.score_files import Score
from rerender.run_folder import SCORES
from tests.test_architecture import FILES, at_import_time, module, ours
from tests.test_exits import COMMANDS, COMPUTES

LOADED = ("torch", "torchvision", "diffusers", "transformers", "cv2", "av", "numba", "lpips")


def loads(command: str) -> set[str]:
    """Libraries of those above that a command imports before its first line is run."""
    files, found = {module(file): file for file in FILES}, set[str]()
    seen, pending = set[str](), {command}
    while pending:
        name = pending.pop()
        seen.add(name)
        names = at_import_time(files[name]) if name in files else set()
        found |= {library for n in names if (library := n.partition(".")[0]) in LOADED}
        names |= {n.rpartition(".")[0] for n in ours({name, *names}) if "." in n}  # its packages
        pending |= ours(names) - seen
    return found


def test_every_command_that_computes_is_written_down() -> None:
    assert {command for command in COMMANDS if loads(command)} == COMPUTES


def heavy_after(lines: str, *arguments: str) -> str:
    """What of those libraries a process has loaded after some lines."""
    code = f"import sys\n{lines}\nprint('LOADED', *({{*sys.modules}} & {{*{LOADED}}}))"
    command = [sys.executable, "-c", code, *arguments]
    done = subprocess.run(command, capture_output=True, text=True, timeout=250)
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()[-1]


def test_help_answers_at_once() -> None:
    lines = (
        "import runpy\n"
        "names, sys.argv[1:] = sys.argv[1:], ['--help']\n"
        "for name in names:\n"
        "    try: runpy.run_module(name, run_name='__main__')\n"
        "    except SystemExit as end: assert not end.code, name\n"
    )
    assert heavy_after(lines, *(name for name in COMMANDS if name not in COMPUTES)) == "LOADED"


def test_results_and_the_store_are_read_without_what_computes(tmp_path: Path) -> None:
    rows = [
        Score(f"c{clip}", method, 0, "warp_error", "1", math.exp(clip * scale), 9)
        for method, scale in (("base", 0.1), ("ours", 0.12))
        for clip in range(4)
    ]
    for row in rows:
        (tmp_path / row.method).mkdir(exist_ok=True)
        (tmp_path / row.method / f"{row.clip}.mp4").touch()
    (tmp_path / SCORES).write_bytes(score_files.dump(rows))
    lines = (
        "from experiments import power, report, tables\n"
        "from rerender.store import gc\n"
        "root, asked = sys.argv[1], ['--reference', 'base', '--primary', 'warp_error']\n"
        "assert tables.main([root, *asked]) == 0\n"
        "assert power.main([root, *asked]) == 0\n"
        "assert report.main([f'{root}/none']) == 3\n"
        "assert gc.main(['ls', root]) == 2\n"
    )
    assert heavy_after(lines, str(tmp_path)) == "LOADED"
    assert "ours" in (tmp_path / "table.md").read_text()
