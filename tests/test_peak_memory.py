"""Peak memory: what was held for a moment is seen, and forgotten after a new beginning."""

from __future__ import annotations

import sys

import pytest
import torch

from rerender.peak_memory import begin, peak


@pytest.mark.skipif(sys.platform != "linux", reason="the system does not say")
def test_a_moment_of_much_memory_is_remembered_until_it_begins_again() -> None:
    begin()
    before = peak()
    held = torch.ones(64 * 2**18)  # 64 MiB
    del held
    begun = peak()
    begin()
    after = peak()
    assert before is not None and begun is not None and after is not None
    assert before + 60 < begun < before + 90
    assert after < begun - 50
