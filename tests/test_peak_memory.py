"""Peak memory: what was held for a moment is seen, and forgotten after a new beginning."""

from __future__ import annotations

import gc
import sys

import pytest
import torch

from rerender import peak_memory
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


@pytest.mark.skipif(sys.platform != "linux", reason="the system does not say")
def test_what_an_earlier_clip_left_in_a_circle_is_no_part_of_the_next_one() -> None:
    begin()
    left: list[object] = [torch.ones(64 * 2**18)]  # 64 MiB
    left.append(left)
    held = peak()
    del left
    begin()
    after = peak()
    assert held is not None and after is not None
    assert after < held - 50


def test_a_process_that_has_computed_nothing_looks_for_no_garbage(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """It would look through all that libraries hold, for nothing."""
    collected: list[str] = []
    monkeypatch.setattr(peak_memory, "_earlier", False)
    monkeypatch.setattr(gc, "collect", lambda: collected.append("all"))
    begin()
    assert not collected
    begin()
    assert collected == ["all"]
