"""The figures of the source tree, of a toy one."""

from __future__ import annotations

from pathlib import Path

from experiments.bench.house import figures

FILES = {
    "rerender/__init__.py": "",
    "rerender/low.py": "class Named:\n    pass\n",
    "rerender/middle/__init__.py": "from rerender import low\n",
    "rerender/middle/deep.py": "import rerender.middle.other\n\ndef _once(): ...\n\n_once()\n",
    "rerender/middle/other.py": "from rerender.middle import deep\n\nclass Named: ...\n",
    "rerender/high.py": "def late():\n    from rerender.middle import deep\n" + "    ...\n" * 60,
    "eval/told.py": 'def told():\n    """\n' + "    word\n" * 60 + '    """\n',
    "eval/long.py": "def _twice(): ...\n_twice(_twice)\n" + "\n" * 300,
}


def test_a_toy_tree(tmp_path: Path) -> None:
    for name, text in FILES.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
    assert figures(tmp_path) == {
        "files on the top level of rerender/": 3,
        "rooms": 3,
        "arrows between rooms": 2,
        "floors": 3,
        "import circles of modules": 1,
        "public class names that exist twice": 1,
        "private functions": 2,
        "of these used once in their file": 1,
        "files": 8,
        "files over 300 lines": 1,
        "functions over 50 lines": 2,
        "of these without their docstring": 1,
    }
