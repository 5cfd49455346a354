"""Shared by all tests: no network, one tiny model for the whole session."""

from __future__ import annotations

import gc
import os

os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("WANDB_MODE", "offline")
os.environ.setdefault("WANDB_SILENT", "true")
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
# Tiny tensors: a second thread costs more in waiting than it computes.
os.environ.setdefault("OMP_NUM_THREADS", "1")

import sys
from collections.abc import Generator, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from hypothesis import HealthCheck, settings

if TYPE_CHECKING:
    from rerender.model.diffusion import StableDiffusion


# Garbage is looked for at every ten thousand new objects, not at 700: what is composed, imported
# and collected is made of many small ones, and looking through them is a tenth of their time.
gc.set_threshold(10_000)

# No test is timed: on a busy machine a single draw may take a second.
settings.register_profile("untimed", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("untimed")


_frozen = 0  # how many modules were loaded


def pytest_collection_finish() -> None:
    """What thousands of collected tests and the imported libraries are made of stays until the end:
    not to be gone through by every collection of garbage, nor copied by it in every forked run."""
    freeze()


def pytest_runtest_setup() -> None:
    """What tests have imported since stays as well: torch and diffusers are a million objects, and
    every run of a job looks for garbage before it measures its memory."""
    if len(sys.modules) > _frozen + 20:
        freeze()


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport() -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """What a test has logged goes to the process that collects the results as UTF-8 text; names of
    files that are none are spelt out."""
    report = yield
    report.sections = [
        (name, text.encode(errors="backslashreplace").decode()) for name, text in report.sections
    ]
    return report


def freeze() -> None:
    global _frozen
    _frozen = len(sys.modules)
    gc.collect()
    gc.freeze()


def pytest_unconfigure() -> None:
    gc.unfreeze()  # what is left at the end is let go in order


# What a process remembers for its own end, or holds at the moment.
REMEMBERED = {
    "rerender.compiled": "_unkept",
    "rerender.exits": "_SHOWING",
    "rerender.files.folders": "_GUARDED",
    "rerender.jobs.worker": "_TAKEN",
}


def threads() -> int:
    """How many torch computes with; before it is imported, those that it will begin with."""
    torch = sys.modules.get("torch")
    return torch.get_num_threads() if torch else int(os.environ["OMP_NUM_THREADS"])


def scheduling() -> int | None:
    """How this thread is scheduled."""
    return os.sched_getscheduler(0) if hasattr(os, "sched_getscheduler") else None


def remembered() -> dict[str, list[object]]:
    """By module, of those that are imported."""
    loaded = {name: vars(sys.modules[name]) for name in REMEMBERED if name in sys.modules}
    return {name: list(found[REMEMBERED[name]]) for name, found in loaded.items()}


@pytest.fixture(autouse=True)
def nothing_stays() -> Iterator[None]:
    """A test leaves the process as it was, so that no other one depends on their order."""
    before, place, scheduled, computing = remembered(), Path.cwd(), scheduling(), threads()
    yield
    assert scheduling() == scheduled
    if threads() != computing:  # as commands that are given theirs leave it
        sys.modules["torch"].set_num_threads(computing)
    assert {
        name: found for name, found in remembered().items() if found != before.get(name, [])
    } == {}
    assert Path.cwd() == place


@pytest.fixture(autouse=True, scope="session")
def unsynced() -> Iterator[None]:
    """No file is forced to the disk: no test loses power, and the waiting would be a tenth of the
    time. Tests of writing put in what counts or fails."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(os, "fsync", lambda handle: None)
        yield


@pytest.fixture(scope="session")
def tiny() -> StableDiffusion:
    """A random miniature of Stable Diffusion with one ControlNet; images in multiples of 8."""
    from rerender.model.tiny import Tiny

    model: StableDiffusion = Tiny().load(("canny",))
    return model
