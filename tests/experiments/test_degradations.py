"""Each damage is seen by the metrics that are made for it, and by the right ones only."""

from __future__ import annotations

import pytest

from eval.contracts import Metric
from eval.metrics.color_drift import ColorDrift
from eval.metrics.flicker import Flicker
from eval.metrics.motion_kept import MotionKept
from eval.metrics.psnr import Psnr
from eval.metrics.ssim import Ssim
from eval.metrics.structure import Structure
from eval.metrics.warp_error import WarpError
from experiments.degradations import DAMAGES, INTACT, markdown, measure, seen
from rerender.data.demo import Demo
from rerender.demo.world import HELD_OUT
from rerender.flow.dis import Dis
from rerender.flow.truth import TruthFlow
from rerender.scene import Watch

METRICS: tuple[Metric, ...] = (
    WarpError(),
    WarpError(reference="first"),
    Flicker(),
    ColorDrift(),
    MotionKept(estimator=Dis()),
    Structure(),
    Psnr(),
    Ssim(),
)
SEEN = {
    "flicker": {"warp_error", "flicker", "color_drift", "psnr", "ssim"},
    "drift": {"color_drift", "warp_error_long", "psnr", "ssim"},
    "blur": {"psnr", "ssim"},
    "wrong style": {"psnr", "ssim"},
    "ghosting": {"motion_kept", "psnr", "ssim"},
    "half frame rate": {"warp_error", "motion_kept", "flicker", "psnr", "ssim"},
}
BLIND = {
    "drift": {"motion_kept"},
    "wrong style": {"flicker", "color_drift", "motion_kept"},
    "blur": {"warp_error"},
}
Table = dict[str, dict[str, tuple[float | None, bool]]]


@pytest.fixture(scope="module")
def table() -> Table:
    clips = Demo(seeds=(HELD_OUT, HELD_OUT + 1), frames=12).clips()
    return seen(measure(clips, METRICS, TruthFlow(), Watch()))


@pytest.mark.parametrize("damage", DAMAGES)
def test_damage_is_seen_by_the_metrics_made_for_it(table: Table, damage: str) -> None:
    found = {metric for metric, versions in table.items() if versions[damage][1]}
    assert found >= SEEN[damage]
    assert not found & BLIND.get(damage, set())


def test_nothing_is_worse_than_itself(table: Table) -> None:
    assert not any(versions[INTACT][1] for versions in table.values())


def test_the_sharpest_metric_of_each_damage_ranks_it_last(table: Table) -> None:
    for metric, damage in (("flicker", "flicker"), ("color_drift", "drift")):
        values = {name: value or 0 for name, (value, _) in table[metric].items()}
        assert max(values, key=lambda name: values[name]) == damage


def test_the_table_in_words(table: Table) -> None:
    text = markdown(table)
    assert text.count("\n") == 2 + len(METRICS)
    line = next(line for line in text.splitlines() if line.startswith("| color_drift"))
    assert line.split(" | ")[3].startswith("**")
