"""Shared by all tests: no network, one tiny model for the whole session."""

from __future__ import annotations

import os

os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("WANDB_MODE", "offline")
os.environ.setdefault("WANDB_SILENT", "true")
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
# Tiny tensors: a second thread costs more in waiting than it computes.
os.environ.setdefault("OMP_NUM_THREADS", "1")

from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from rerender.model.diffusion import StableDiffusion


@pytest.fixture(scope="session")
def tiny() -> StableDiffusion:
    """A random miniature of Stable Diffusion with one ControlNet; images in multiples of 8."""
    from rerender.model.tiny import Tiny

    model: StableDiffusion = Tiny().load(("canny",))
    return model
