"""Costs beside scores: a row for each clip of a run, nothing for rivals and for broken runs."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from experiments.costs import costs
from rerender.run_folder import sealed

# What a finished run says besides of itself.
FACTS: dict[str, Any] = {name: {} for name in ("versions", "inputs", "seconds", "files")} | {
    **{name: [] for name in ("pictures", "warnings")},
    **dict.fromkeys(("config", "code"), ""),
}


def run(root: Path, name: str, facts: object) -> None:
    folder = root / name
    folder.mkdir(parents=True)
    (folder / "config.yaml").write_text("seed: 3\n")
    (folder / "video.mp4").write_bytes(b"")
    (folder / "metrics.json").write_text(json.dumps(facts))


def test_every_clip_says_what_it_took(tmp_path: Path) -> None:
    spent = {"translate": 6.0, "propagate": 2.0}
    clip = {
        "clip": "cat",
        "video": "video.mp4",
        "frames": 4,
        "seconds": spent,
        "peak_memory": 1000.5,
    }
    run(tmp_path, "ours_k1-0123abcd", sealed({**FACTS, "clips": [clip]}))
    found = {row.metric: row for row in costs(tmp_path)}
    seconds, memory = found["seconds_per_frame"], found["peak_memory"]
    assert (seconds.value, seconds.unit, seconds.method, seconds.seed) == (2.0, "s", "ours_k1", 3)
    assert (memory.value, memory.unit, memory.clip) == (1000.5, "MiB", "cat")


def test_what_does_not_say_it_has_no_row(tmp_path: Path) -> None:
    old = {"clips": [{"clip": "cat", "frames": 4}]}
    run(tmp_path, "old-0123abcd", old)
    run(tmp_path, "broken-0123abcd", [])
    run(tmp_path, "unsealed-0123abcd", {**FACTS, "clips": []})
    (tmp_path / "rival").mkdir()
    (tmp_path / "rival" / "cat.mp4").write_bytes(b"")
    assert costs(tmp_path) == []
    assert costs(tmp_path / "nowhere") == []
