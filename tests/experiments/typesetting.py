"""Tables in an article of two columns, as TeX sets them."""

from __future__ import annotations

import re
import shutil
import subprocess
from collections.abc import Iterable
from pathlib import Path

import pytest

from experiments.latex_table import PREAMBLE

needs_tex = pytest.mark.skipif(not shutil.which("pdflatex"), reason="no TeX at hand")


def typeset(texts: Iterable[str], place: Path) -> str:
    """Set texts, and hold that nothing sticks out to the side by 2 pt; TeX's log."""
    begin = rf"\documentclass[twocolumn]{{article}}{PREAMBLE}\begin{{document}}"
    (place / "page.tex").write_text("\n".join([begin, *texts, r"\end{document}"]))
    options = ["-interaction=nonstopmode", "-halt-on-error", "-no-shell-escape"]
    done = subprocess.run(
        ["pdflatex", *options, "page.tex"], cwd=place, capture_output=True, check=False
    )
    said = (place / "page.log").read_text(errors="replace")
    assert done.returncode == 0, said[-2000:]
    wide = [float(found) for found in re.findall(r"Overfull \\hbox \(([\d.]+)pt", said)]
    assert max(wide, default=0) < 2, said
    return said
