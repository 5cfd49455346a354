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

from collections.abc import Iterator
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from rerender.model.diffusion import StableDiffusion


def pytest_collection_finish() -> None:
    """What thousands of collected tests and the imported libraries are made of stays until the end:
    not to be gone through by every collection of garbage, nor copied by it in every forked run."""
    gc.collect()
    gc.freeze()


def pytest_unconfigure() -> None:
    gc.unfreeze()  # what is left at the end is let go in order


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
