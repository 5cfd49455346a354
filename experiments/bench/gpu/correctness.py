"""What the device makes against what the processor makes."""

from __future__ import annotations

import math
import subprocess
import sys
import time
import traceback
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch

from experiments.bench.gpu.setting import BenchSetting
from rerender import load_model, parts, render
from rerender.config.paths import choices_of

ROOT = Path(__file__).parents[3]


def methods(setting: BenchSetting) -> Iterator[dict[str, Any]]:
    """Every method of conf/method on a small clip with the demo model in float32, on the processor
    and on the device: what fails, and how far the results are apart."""
    side = 64 if setting.toy else 128
    clip = setting.clip(side, side, 3 if setting.toy else 5)
    models = {
        device: load_model("demo", ("canny",), f"model.device={device}", "model.dtype=float32")
        for device in ("cpu", str(setting.device))
    }
    steps = "sampling.steps=6" if setting.toy else "sampling.steps=10"
    for method in ("rerender",) if setting.toy else choices_of("method"):
        begun = time.monotonic()
        chosen = (f"+method={method}", steps, "keyframes.interval=2")
        row: dict[str, Any] = {"method": method}
        try:
            made = [
                torch.stack(list(render(clip, model, parts(*chosen)))).cpu()
                for model in models.values()
            ]
            error = (made[0] - made[-1]).square().mean().item()
            row["psnr"] = round(10 * math.log10(1 / error), 2) if error else None
        except Exception as error:
            row["error"] = f"{type(error).__name__}: {error}"[:300]
            traces = traceback.extract_tb(error.__traceback__)
            own = [each for each in traces if "rerender" in each.filename]
            row["raised"] = [f"{Path(each.filename).name}:{each.lineno}" for each in own[-4:]]
        yield {**row, "seconds": round(time.monotonic() - begun, 2)}


def marked() -> list[Path]:
    """The files of tests that have some marked ``gpu``."""
    files = sorted(ROOT.glob("tests/**/test_*.py"))
    return [file for file in files if "mark.gpu" in file.read_text(encoding="utf-8")]


def tests(setting: BenchSetting) -> Iterator[dict[str, Any]]:
    """The project's own tests that are marked ``gpu``."""
    command = [sys.executable, "-m", "pytest", "-q", "-m", "gpu", "-p", "no:cacheprovider"]
    files = marked()[:1] if setting.toy else marked()
    done = subprocess.run([*command, *files], capture_output=True, text=True, cwd=ROOT)
    lines = done.stdout.strip().splitlines() or done.stderr.strip().splitlines() or [""]
    failed = [line for line in lines if line.startswith("FAILED")]
    yield {"exit_code": done.returncode, "summary": lines[-1].strip("= "), "failed": failed}
