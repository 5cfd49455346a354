"""Every metric of conf/ builds, is called what its key says, and stands in the reference page."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import yaml

from eval.contracts import Batch, Metric, Moment
from eval.score_files import finite
from rerender.config.build import build
from tests.eval.toys import Shift, picture

ROOT = Path(__file__).resolve().parents[2]
FILES = sorted((ROOT / "conf" / "metrics").glob("*.yaml"))


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.stem)
def test_keys_are_names(file: Path) -> None:
    tree = yaml.safe_load(file.read_text())
    metrics = build(tree, "metrics")
    assert [metric.name for metric in metrics] == list(tree)
    for metric in metrics:
        assert isinstance(metric, Metric)
        assert metric.direction in ("lower", "higher") and metric.version and metric.unit
        assert metric == build(tree, "metrics")[metrics.index(metric)]


def test_the_reference_page_knows_every_metric() -> None:
    page = (ROOT / "docs" / "metrics.md").read_text()
    for file in FILES:
        names = list(yaml.safe_load(file.read_text()))
        for name in names:
            assert re.search(rf"\b{name.removesuffix('_demo')}\b", page), name
        assert f"| {file.stem} |" in page, file.stem


def test_a_batch_knows_what_came_before() -> None:
    moments = [Moment(i, picture(seed=i), picture(seed=i + 9)) for i in range(4)]
    start = Batch(tuple(moments[:2]), None, moments[0], Shift())
    later = Batch(tuple(moments[2:]), moments[1], moments[0], Shift())
    assert start.references() == [None, moments[0]]
    assert later.references() == [moments[1], moments[2]]
    assert start.references("first") == [None, moments[0]]
    assert later.references("first") == [moments[0], moments[0]]
    assert later.results.shape == later.sources.shape == (2, 3, 24, 32)


def test_shared_work_is_done_once() -> None:
    moment = Moment(0, picture(), picture())
    batch, calls = Batch((moment,), None, moment, Shift()), []
    for _ in range(2):
        assert batch.once("x", lambda: calls.append(1) or 7) == 7  # type: ignore[func-returns-value]
    assert calls == [1]
    assert batch.flow(moment, moment) is batch.flow(moment, moment)


def test_finite() -> None:
    assert [finite(x) for x in (1.0, None, float("nan"), float("inf"))] == [1.0, None, None, None]
