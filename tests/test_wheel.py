"""What `pip install .` installs starts and finds what is its own, wherever the checkout is."""

from __future__ import annotations

import os
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from rerender.config.paths import CONF, ROOT
from rerender.store.provenance import code_digest

DEMO = tuple(f"rerender/demo/weights{name}" for name in ("", "_natural", "_vae_mse"))
TRAVELS = ("conf", *DEMO, "experiments/page", "experiments/vendor")
COPIED = ("rerender", "eval", "experiments", "conf", "LICENSE", "README.md")


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Built by what is installed here (no network), outside the checkout, which stays as it is."""
    tree = tmp_path_factory.mktemp("tree")
    for name in (*COPIED, "pyproject.toml", "setup.py"):
        (tree / name).symlink_to(ROOT / name)
    built = tmp_path_factory.mktemp("wheel")
    code = "import sys; from setuptools.build_meta import build_wheel; build_wheel(sys.argv[1])"
    done = subprocess.run(
        [sys.executable, "-c", code, built], cwd=tree, capture_output=True, text=True, timeout=250
    )
    assert done.returncode == 0, done.stderr
    (found,) = built.glob("*.whl")
    return found


@pytest.fixture(scope="module")
def installed(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel, unpacked where no checkout is near."""
    folder = tmp_path_factory.mktemp("installed")
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(folder)
    return folder


def ran(installed: Path, here: Path, *words: str, timeout: int = 250) -> str:
    """What a command of the installed package prints."""
    environment = {**os.environ, "PYTHONPATH": str(installed), "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        [sys.executable, *words],
        cwd=here,
        env=environment,
        capture_output=True,
        text=True,
        timeout=timeout,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_everything_that_a_run_needs_travels(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        names = set(archive.namelist())
    wanted = {
        file.relative_to(ROOT).as_posix()
        for place in TRAVELS
        for file in (ROOT / place).rglob("*")
        if file.is_file()
    }
    wanted |= {"experiments/published.yaml", "rerender/__init__.pyi", "rerender/py.typed"}
    wanted = {f"rerender/{name}" if name.startswith("conf/") else name for name in wanted}
    assert wanted <= names
    assert {"experiments/benchmark/export.py", "experiments/study/build.py"} <= names
    assert not [name for name in names if name.startswith("experiments/bench/")]
    tops = {name.partition("/")[0] for name in names}
    assert {top for top in tops if not top.endswith(".dist-info")} == {
        "rerender",
        "eval",
        "experiments",
    }
    with zipfile.ZipFile(wheel) as archive:
        (points,) = (name for name in names if name.endswith("entry_points.txt"))
        assert b"rerender = rerender.run:main" in archive.read(points)


def test_the_installed_package_is_the_one_that_runs(installed: Path, tmp_path: Path) -> None:
    """Its conf/ is inside it; the same code has the same digest; a relative folder of weights is
    found in it."""
    code = (
        "from rerender.config.paths import CONF, choices_of\n"
        "from rerender.config.allowlist import allowed\n"
        "from rerender.store.provenance import code_digest\n"
        "from rerender.model.pretrained import Pretrained\n"
        "Pretrained('rerender/demo/weights', {'canny': 'controlnet'}).check(['canny'])\n"
        "parts = {'canny': 'controlnet'}, 'rerender/demo/weights/vae'\n"
        "Pretrained('rerender/demo/weights_natural', *parts).check(['canny'])\n"
        "parts = {'canny': 'controlnet'}, 'rerender/demo/weights_vae_mse'\n"
        "Pretrained('rerender/demo/weights', *parts).check(['canny'])\n"
        "print(CONF, code_digest(), len(allowed()) > 40, choices_of('model'), sep='|')\n"
    )
    conf, digest, enough, models = ran(installed, tmp_path, "-c", code).strip().split("|")
    assert Path(conf) == installed / "rerender" / "conf"
    assert (digest, enough) == (code_digest(), "True")
    assert models == str(sorted(file.stem for file in (CONF / "model").glob("*.yaml")))


def test_the_installed_command_composes_and_plans(installed: Path, tmp_path: Path) -> None:
    shown = ran(installed, tmp_path, "-m", "rerender.run", "--cfg", "job", "prompt=a cat, sitting")
    assert "prompt: a cat, sitting" in shown
    assert "1 job" in ran(installed, tmp_path, "-m", "rerender.run", "+exp=smoke", "--dry")
    assert not list(tmp_path.iterdir())


@pytest.mark.slow
@pytest.mark.timeout(1200)
def test_the_installed_command_runs(installed: Path, tmp_path: Path) -> None:
    """As the script on the PATH does it; results lie below the working folder."""
    code = "import sys; from rerender.run import main; sys.exit(main())"
    ran(installed, tmp_path, "-c", code, "+exp=smoke", timeout=1000)
    (folder,) = (tmp_path / "outputs").iterdir()
    assert (folder / "video.mp4").is_file() and (folder / "metrics.json").is_file()
    assert not [file for file in installed.rglob("*") if file.name in ("outputs", ".store")]
    ran(installed, tmp_path, "-m", "experiments.report", "outputs")
