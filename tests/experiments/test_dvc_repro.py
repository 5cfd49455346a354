"""``dvc repro`` on toy sets in their genuine layouts, from the archive to the tables."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from rerender.config.paths import ROOT
from tests.datasets import genuine

DVC = shutil.which("dvc", path=f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}")
SETTINGS = {
    **{"model": "tiny", "seed": "0", "steps": 4, "interval": 2, "size": 24},
    **{"metrics": "warp_error,color_drift,background", "run": "tracker=none method=per_frame,vae"},
}
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(DVC is None, reason="needs dvc: pip install -c constraints.txt '.[dvc]'"),
]


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """A copy of the project, whose manifests ask for no number of clips."""
    place = tmp_path / "project"
    place.mkdir()
    for name in ("conf", "eval", "experiments", "rerender"):
        ignore = shutil.ignore_patterns("__pycache__", "bench")
        shutil.copytree(ROOT / name, place / name, ignore=ignore)
    for name in ("dvc.yaml", ".dvcignore"):
        shutil.copy(ROOT / name, place / name)
    for path in (place / "conf" / "dataset").glob("*.yaml"):
        said = yaml.safe_load(path.read_text())
        path.write_text(yaml.safe_dump({**said, "count": None, "pairs": None, "clips": []}))
    dvc(place, "init", "--no-scm", "-q")
    dvc(place, "config", "core.analytics", "false")
    return place


def dvc(place: Path, *words: str) -> str:
    """The output of a command, which must succeed."""
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    keep = {"PATH": path, "PYTHONPATH": str(place), "DVC_NO_ANALYTICS": "1"}
    done = subprocess.run(
        [str(DVC), *words],
        cwd=place,
        env={**os.environ, **keep},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout[-4000:] + done.stderr[-4000:]
    return done.stdout


def params(place: Path, **said: Any) -> None:
    whole = {"experiments": ["drift"], "shards": [0, 1], "of": 2, **SETTINGS, **said}
    (place / "params.yaml").write_text(yaml.safe_dump(whole))


@pytest.mark.timeout(1800)
def test_a_toy_tgve_goes_from_its_archive_to_a_table_for_each_kind(
    project: Path, tmp_path: Path
) -> None:
    tgve = genuine.tgve(tmp_path / "tgve", {"DAVIS": ["stunt"], "Videvo": ["swans"]}, frames=2)
    archive = shutil.make_archive(str(tmp_path / "loveu-tgve-2023"), "zip", tgve)
    params(
        project,
        dataset="tgve",
        fetch=f"licence=accept archive={archive}",
        clips="data.frames=null",
    )
    dvc(project, "repro")
    table = (project / "results/tgve/drift/table.md").read_text().replace("\\", "")
    for kind in ("style", "object", "background", "multiple"):
        assert f"Scores: {kind}" in table
    assert "Clips: LOVEU-TGVE-2023" in table and "Creative Commons" in table
    assert "n/a: no edit masks" in table
    assert (project / "results/tgve/drift/report/index.html").is_file()
    assert len(list((project / "runs/tgve/drift").glob("*/*/config.yaml"))) == 4
    assert "didn't change" in dvc(project, "repro"), "nothing is done twice"


@pytest.mark.timeout(1800)
def test_a_toy_davis_goes_from_its_folder_to_the_table_with_its_masks(
    project: Path, tmp_path: Path
) -> None:
    davis = genuine.davis(tmp_path / "davis", ["bear", "bmx-bumps"], frames=2)
    params(
        project,
        dataset="davis",
        fetch=f"licence=accept archive={davis}",
        clips="data.size=24 'prompt=an oil painting'",
    )
    dvc(project, "repro")
    table = (project / "results/davis/drift/table.md").read_text().replace("\\", "")
    assert "DAVIS Challenge" in table and "background (dB)" in table
    assert "no edit masks" not in table
    assert "Scores: " not in table, "one kind makes one table"
    assert not (project / "results/tgve").exists()
