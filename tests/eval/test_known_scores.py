"""A row is looked for by its key, in a dictionary or in a stage store, before it is measured."""

from __future__ import annotations

from pathlib import Path

import pytest

from eval.contracts import Metric
from eval.known_scores import KnownScores, measured_once
from eval.metrics.flicker import Flicker
from eval.metrics.psnr import Psnr
from eval.score_files import Score
from rerender.jobs.score_clip import STAGE, StoredScores
from rerender.store.cache import Cache, key

FIRST, SECOND = key(row=1), key(row=2)
ASKED: list[tuple[str, Metric]] = [(FIRST, Flicker()), (SECOND, Psnr())]


def row(metric: Metric, value: float | None) -> Score:
    return Score("clip", "m", 0, metric.name, metric.version, value, 3, curve=(None, 1 / 3))


@pytest.fixture(params=["dictionary", "store"])
def known(request: pytest.FixtureRequest, tmp_path: Path) -> KnownScores:
    return {} if request.param == "dictionary" else StoredScores(Cache(tmp_path / "store"))


def test_only_what_is_not_known_is_measured(known: KnownScores) -> None:
    asked: list[list[str]] = []

    def measure(missing: list[Metric]) -> list[Score]:
        asked.append([metric.name for metric in missing])
        return [row(metric, 0.1) for metric in missing]

    assert [each.metric for each in measured_once(known, ASKED[1:], measure)] == ["psnr"]
    first = measured_once(known, ASKED, measure)
    assert measured_once(known, ASKED, measure) == first
    assert asked == [["psnr"], ["flicker"]]
    assert [(each.metric, each.key) for each in first] == [("flicker", FIRST), ("psnr", SECOND)]
    assert first[0].curve == (None, 0.333333), "as it is read back"


def test_a_row_without_a_value_is_asked_for_every_time(known: KnownScores) -> None:
    for count in range(2):
        rows = measured_once(known, ASKED, lambda m: [row(each, None) for each in m])
        assert [each.key for each in rows] == ["", ""], count
        assert known.get(FIRST) is None


def test_a_damaged_row_of_a_store_is_measured_again(tmp_path: Path) -> None:
    known = StoredScores(Cache(tmp_path / "store"))
    measured_once(known, ASKED, lambda m: [row(each, 0.1) for each in m])
    (place,) = (tmp_path / "store" / STAGE).rglob(FIRST)
    place.write_bytes(place.read_bytes().replace(b"0.1", b"0.2"))
    rows = measured_once(known, ASKED, lambda m: [row(each, 0.3) for each in m])
    assert [each.value for each in rows] == [0.3, 0.1]
