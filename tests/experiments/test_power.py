"""How many clips are needed: against simulations of the very test that the tables use."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest

from eval import score_files, stats
from eval.score_files import Score
from experiments.experiment import Experiment
from experiments.power import clips_needed, main, needs
from rerender.config.table import TableSpec
from rerender.errors import InputError
from rerender.run_folder import SCORES


def found(clips: int, effect: float, tests: int, trials: int = 300) -> float:
    """Share of simulated studies in which the sign-flip test finds an effect (spread 1)."""
    random = np.random.default_rng(clips)
    ps = [stats.sign_flip(random.normal(effect, 1, clips)) for _ in range(trials)]
    return float(np.mean([p * tests < stats.LEVEL for p in ps]))


@pytest.mark.parametrize(("effect", "tests"), [(0.7, 1), (1.0, 4), (1.1, 12), (1.5, 12), (1.5, 2)])
def test_the_number_of_clips_is_within_a_tenth_of_a_simulation(effect: float, tests: int) -> None:
    """With a tenth more clips (one at least) the simulated power is 80 %, with fewer it is not."""
    count = clips_needed(1.0, effect, tests)
    assert count is not None
    step = max(1, round(count / 10))
    assert found(count + step, effect, tests) >= 0.77
    assert count - step < stats.needed(tests) or found(count - step - 1, effect, tests) < 0.83


def test_more_is_needed_for_less() -> None:
    counts = [clips_needed(0.3, effect, 9) or 0 for effect in (0.05, 0.1, 0.2, 0.4)]
    assert counts == sorted(counts, reverse=True) and counts[0] / counts[1] == pytest.approx(4, 0.1)
    assert clips_needed(0.0, 0.1, 12) == stats.needed(12)
    assert (clips_needed(1.0, 0.5, 20) or 0) > (clips_needed(1.0, 0.5, 1) or 0)
    assert clips_needed(1.0, 1e-4, 1) is None


def study(spread: float, clips: int = 400) -> list[Score]:
    random, made = np.random.default_rng(0), []
    for clip in range(clips):
        hard, noise = random.normal(0, 1), random.normal(0, spread, 2)
        made += [
            Score(f"c{clip}", "base", 0, "warp_error", "1", math.exp(hard), 9),
            Score(f"c{clip}", "ours", 0, "warp_error", "1", math.exp(hard + noise[0]), 9),
            Score(f"c{clip}", "base", 0, "psnr", "1", 30 + hard, 9, direction="higher"),
            Score(f"c{clip}", "ours", 0, "psnr", "1", 30 + hard + 30 * noise[1], 9),
        ]
    return made


ABOUT = Experiment(TableSpec(reference="base", primary=("warp_error", "psnr")))


def test_the_spread_is_that_of_paired_differences_relative_to_the_reference() -> None:
    ratio, level = needs(study(0.2), ABOUT)
    assert ratio.spread == pytest.approx(0.2, rel=0.1) and level.spread == pytest.approx(
        0.2, rel=0.1
    )
    assert ratio.clips[1] == clips_needed(ratio.spread, math.log(1.1), 2)
    assert level.clips[1] == clips_needed(level.spread, 0.1, 2)
    assert (ratio.method, ratio.videos) == ("ours", 400)


def test_the_command_prints_a_line_for_each_comparison(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    score_files.write(tmp_path / SCORES, study(0.2, 8))
    assert main([str(tmp_path)]) == 3, "nothing names a reference"
    assert main([str(tmp_path), "--reference", "base", "--primary", "warp_error,psnr"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[:3] for line in lines[1:3]] == [
        ["warp_error", "ours", "8"],
        ["psnr", "ours", "8"],
    ]
    with pytest.raises(InputError):
        list(needs(study(0.2, 1), ABOUT))
