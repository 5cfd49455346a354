"""The scripts of examples/ run, and the package says what it promises to Python users."""

from __future__ import annotations

import runpy
import subprocess
import sys
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import rerender
from rerender import Clip, load_model, open_video, parts, write_video
from rerender.config.parts import Parts
from rerender.config.paths import ROOT
from rerender.data.demo import Demo
from rerender.errors import ConfigError, WeightsError
from rerender.translate import translate

QUICK = ("sampling.steps=4", "sampling.strength=1.0", "propagation=warp")


def script(name: str) -> dict[str, Any]:
    return runpy.run_path(str(ROOT / "examples" / f"{name}.py"))


@pytest.fixture
def source(tmp_path: Path) -> Path:
    (clip,) = Demo(frames=6, size=64).clips()
    write_video(tmp_path / "cat.mp4", [clip.video[i] for i in range(6)], clip.video)
    return tmp_path / "cat.mp4"


def test_render_clip(source: Path) -> None:
    out = source.with_name("painted.mp4")
    words = [str(source), "an oil painting", str(out), *QUICK, "keyframes.interval=5"]
    script("render_clip")["main"]([*words, "--model", "tiny", "--size", "64"])
    made = open_video(out)
    assert (len(made), made.size) == (6, (64, 64))
    assert not torch.allclose(made[0], open_video(source)[0], atol=0.1)


def test_score_frames(source: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (source.parent / "results" / "rival").mkdir(parents=True)
    (source.parent / "results" / "rival" / "cat.mp4").write_bytes(source.read_bytes())
    script("score_frames")["main"]([str(source.parent / "results"), str(source), "a painting"])
    rows = capsys.readouterr().out.splitlines()
    values = {(row.split()[0], row.split()[2]): row.split()[3] for row in rows if "  " in row}
    assert values["rival", "warp_error"] == values["source", "warp_error"]
    assert {metric for _, metric in values} >= {"warp_error", "flicker"}


def test_add_constraint() -> None:
    found = script("add_constraint")
    assert found["main"]("tiny", 64, *QUICK) > 0.001
    (clip,) = Demo(frames=2, size=64).clips()
    said = ("model=tiny", *QUICK)
    model = load_model("tiny")
    once, twice = (found["rendered"](clip, model, 0.1, *said) for _ in range(2))
    assert torch.equal(once, twice)


def recording(tmp_path: Path) -> Path:
    """What another program (here: this one, told to hand out its draws) leaves of four key frames
    under attention, shape and pixel fusion, whose encoder draws from the posterior."""
    (clip,) = Demo(frames=4, size=32).clips()
    frames = [(clip.video[i] * 255).round() for i in range(4)]
    arrays: dict[str, Any] = {
        "frames": torch.stack(frames).permute(0, 2, 3, 1).byte().numpy(),
        "prompt": "a painting",
        "negative_prompt": "bad",
    }
    arrays["control"] = arrays["frames"][:, ::-1].copy()
    drawn = torch.Generator().manual_seed(0)

    def draw(*shape: int) -> Any:
        return torch.randn(shape, generator=drawn).numpy()

    for a in range(4):
        for b in {0, a - 1} - {a, -1}:
            shift = np.full((2, 32, 32), 2.5 * (a - b), np.float32)
            arrays |= {f"flow_{a}_{b}": shift, f"flow_{b}_{a}": -shift}
        arrays[f"noise/{a}/start"] = draw(1, 4, 16, 16)
        arrays |= {f"noise/{a}/vae/{count}": draw(1, 4, 16, 16) for count in range(3)}
        arrays |= {f"noise/{a}/pixel/{step}": draw(1, 4, 16, 16) for step in range(10)}
    arrays["latents"] = np.zeros((4, 1, 4, 16, 16), np.float32)
    np.savez(tmp_path / "recording.npz", **arrays)
    return tmp_path / "recording.npz"


def test_recorded_tensors(tmp_path: Path) -> None:
    """Every recorded tensor decides the latents; the same ones give the same latents."""
    path, found = recording(tmp_path), script("recorded_tensors")
    for maker in ("load_model", "parts"):  # the same for every recording
        found["main"].__globals__[maker] = cache(found["main"].__globals__[maker])
    words = ["tiny", "constraint=[cross_frame,shape,pixel]", "sampling.steps=6", *QUICK[1:]]

    def compared(**changes: Any) -> list[float]:
        with np.load(path) as arrays:
            np.savez(tmp_path / "other.npz", **{**arrays, **changes})
        differences: list[float] = found["main"]([str(tmp_path / "other.npz"), *words])
        return differences

    names, made = found["differences"].__globals__, list[Any]()

    def translated(*given: Any, **more: Any) -> list[Any]:
        made.extend(translate(*given, **more))
        return made

    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(names, "translate", translated)
        assert min(compared()) > 0.1  # than the zeros that stand there
    latents = np.stack([each.trace.latent.numpy() for each in made])
    assert compared(latents=latents) == [0.0] * 4
    with np.load(path) as arrays:
        recorded = dict(arrays)
    for name in ("control", "flow_2_1", "noise/2/start", "noise/2/pixel/4", "noise/2/vae/1"):
        changed = recorded[name][::-1].copy() if name == "control" else recorded[name] + 0.5
        first, second, third, _ = compared(latents=latents, **{name: changed})
        assert third > 1e-4, name
        assert name == "control" or first == second == 0, name
    with pytest.raises(KeyError, match="noise/3/start"):
        found["main"]([str(_without(path, "noise/3/start")), *words])


def _without(path: Path, name: str) -> Path:
    with np.load(path) as arrays:
        np.savez(path.with_name("less.npz"), **{k: v for k, v in arrays.items() if k != name})
    return path.with_name("less.npz")


# -- what Python users import ---------------------------------------------------------------------


def test_importing_the_package_is_light_and_all_its_names_are_there() -> None:
    code = "import sys, rerender; print(sorted({'torch', 'hydra', 'av'} & {*sys.modules}))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT)
    assert done.stdout.strip() == "[]", done.stderr
    for name in vars(rerender)["__all__"]:
        assert name in dir(rerender)
        assert getattr(rerender, name).__doc__
    assert rerender.Clip is Clip
    with pytest.raises(AttributeError, match="has no attribute 'nothing'"):
        rerender.nothing  # type: ignore[attr-defined]  # noqa: B018


def test_what_type_checkers_see_is_what_is_there() -> None:
    stub = (ROOT / "rerender" / "__init__.pyi").read_text(encoding="utf-8")
    imports = [line.split() for line in stub.splitlines() if line.startswith("from ")]
    assert {(words[3], words[1]) for words in imports} == {*rerender._HOMES.items()}  # type: ignore[attr-defined]


def test_parts_are_those_of_the_configuration_but_for_the_settings() -> None:
    chosen = parts("constraint=[cross_frame,shape]", "keyframes.interval=5")
    assert isinstance(chosen, Parts)
    assert [constraint.name for constraint in chosen.constraint] == ["cross_frame", "shape"]
    assert parts("model=sd15").sampling.guidance != parts().sampling.guidance
    with pytest.raises(ConfigError, match="describe 2"):
        parts("seed=0,1")
    with pytest.raises(ConfigError, match="no choice 'shap'"):
        parts("constraint=[shap]")


def test_a_model_is_loaded_by_name_or_from_a_folder(tmp_path: Path) -> None:
    folder = ROOT / "rerender" / "demo" / "weights"
    from_name = load_model("demo", ())
    here = ("model.vae=null", "model.dtype=float32")
    assert load_model(folder, (), *here).digest() == from_name.digest()
    with pytest.raises(WeightsError, match="no such folder"):
        load_model(tmp_path / "nothing")
    with pytest.raises(ConfigError, match="no ControlNet for 'depth'"):
        load_model("demo", ("depth",))
