"""Rerender: text-guided, temporally coherent video translation with image diffusion models.

The method of "Rerender A Video: Zero-Shot Text-Guided Video-to-Video Translation"
(arXiv 2306.07954) as a declarative experiment pipeline. From Python:

    from rerender import Clip, fit, load_model, open_video, parts, render, write_video

    model = load_model("demo")
    video = fit(open_video("cat.mp4"), short_side=128, multiple=model.size_multiple)
    clip = Clip("cat", video, prompt="an oil painting")
    write_video("painted.mp4", render(clip, model, parts("keyframes.interval=5")), video)
"""

import os
import sys
from importlib import import_module
from typing import Any

# Threads that wait by spinning without end slow each other down tenfold on a busy machine, and
# those that sleep at once halve the speed of a quiet one: spin for a moment, then sleep. OpenMP
# reads this when torch is imported, so it is set here, where every entry point passes first.
os.environ.setdefault("GOMP_SPINCOUNT", "5000")

__version__ = "0.1.0"

# While ``python -m`` looks for a module, argv is "-m" and what stands behind the module's name.
if sys.argv[:1] == ["-m"]:
    _asked = sys.orig_argv[len(sys.orig_argv) - len(sys.argv)].removeprefix("-m")
    if _asked.partition(".")[0] in ("rerender", "eval", "experiments"):
        import_module("rerender.exits").loading()

# name: the module it comes from. They are imported when they are asked for, since torch takes
# seconds; what type checkers and editors see stands in __init__.pyi.
_HOMES = {
    "Clip": "rerender.video",
    "RerenderError": "rerender.errors",
    "fit": "rerender.fitting",
    "load_model": "rerender.api",
    "open_video": "rerender.codec",
    "parts": "rerender.api",
    "render": "rerender.pipeline",
    "write_video": "rerender.api",
}
__all__ = ["__version__", *_HOMES]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = globals()[name] = getattr(import_module(_HOMES[name]), name)
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *_HOMES})
