"""The figure of processor time outside of the networks can be made."""

from __future__ import annotations

import pytest

from experiments.bench.translation import host


def test_time_outside_of_the_networks_is_that_of_flow_and_all_else(
    capsys: pytest.CaptureFixture[str],
) -> None:
    few = ["--height", "64", "--width", "96", "--keys", "3", "sampling.steps=8"]
    host.main(few)
    first, second, third = capsys.readouterr().out.splitlines()
    whole, flow, rest = (float(line) for line in (first.split()[0], *second.split()[0:5:4]))
    assert "a key frame of 64x96" in first
    assert 0 < flow < whole
    assert rest == pytest.approx(whole - flow, abs=0.0015)
    assert third.startswith("1.00 requests")
    host.main([*few, "sampling.batch_size=2", "constraint=[]"])
    assert capsys.readouterr().out.splitlines()[2].startswith("1.50 requests")  # 2 and 1 of 3
    host.main([*few, "--profile"])
    assert "tottime" in capsys.readouterr().out
