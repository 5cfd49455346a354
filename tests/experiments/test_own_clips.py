"""The experiments of docs/paper.md take a model and clips of one's own by settings it names."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from rerender import write_video
from rerender.config.compose import literal, preflight
from rerender.data.demo import Demo
from rerender.jobs.sweep import jobs_of, spread

PAGE = Path(__file__).resolve().parents[2] / "docs" / "paper.md"
JUDGED = [
    "metrics=[warp_error,clip,anchor_style,color_drift]",
    "table.primary=[warp_error]",
    "table.columns=[warp_error,warp_error_long,clip_score,color_drift]",
]
ASKED = {
    "ablation_cumulative": [],
    "ablation_start": [],
    "table3": ["data.frames=2"],
    "table2": ['source_prompt="a man"', "data.frames=2"],
    "ablation_open": ["flow=dis", "keyframes.interval=10"],
    "drift_open": ["flow=dis", "keyframes.interval=10", "data.frames=2"],
}


def test_the_page_names_them() -> None:
    said = PAGE.read_text(encoding="utf-8").partition("**With Stable Diffusion 1.5**")[2]
    named = said.partition("## Fig. 10")[0]
    assert {*re.findall(r"exp=(\w+)", named), *re.findall(r"`(\w+)[` ]", named)} >= {*ASKED}
    for setting in ("flow=dis", "keyframes.interval=10", "source_prompt=", "data.frames=", *JUDGED):
        assert setting in named, setting


@pytest.mark.parametrize("name", ASKED)
def test_an_experiment_takes_a_folder_of_clips(name: str, tmp_path: Path) -> None:
    (clip,) = Demo(frames=2, size=32).clips()
    write_video(tmp_path / "clips" / "one.mp4", [clip.video[i] for i in range(2)], clip.video)
    own = [f"+exp={name}", "model=sd15", "data=folder", f"data.path={tmp_path / 'clips'}"]
    sweep = spread(preflight(literal([*own, "prompt=a scene", *JUDGED, *ASKED[name]])))
    jobs = jobs_of(sweep.jobs)
    assert len(jobs) > 1
    assert {each.name for job in jobs for each in job.data.clips()} == {"one"}
