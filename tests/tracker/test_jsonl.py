"""The record of a run: one object per line, in order, without NaN."""

from __future__ import annotations

import json
import math
from pathlib import Path

from rerender.contracts import Cell
from rerender.run_folder import RECORD
from rerender.tracker.jsonl import Jsonl


def test_a_record_reads_back_in_order(tmp_path: Path) -> None:
    record = Jsonl()
    record.start(tmp_path, {"prompt": '猫 "quoted"\n'}, "name", "group")
    record.log({"a": 1.5, "b": math.nan, "c": -math.inf, "d": None}, step=0)
    record.summary({"score": 2.0})
    record.file("video", tmp_path / "clip" / "video.mp4")
    record.finish(3)
    lines = [json.loads(line) for line in (tmp_path / RECORD).read_text().splitlines()]
    assert [line["event"] for line in lines] == ["start", "log", "summary", "file", "finish"]
    assert lines[0]["config"] == {"prompt": '猫 "quoted"\n'}
    assert lines[1]["values"] == {"a": 1.5, "b": None, "c": None, "d": None}
    assert lines[3]["path"] == "clip/video.mp4"
    assert lines[4]["exit_code"] == 3


def test_files_in_a_table_are_said_by_their_place(tmp_path: Path) -> None:
    record = Jsonl()
    record.start(tmp_path, {}, "name", "")
    row: list[Cell] = ["c", math.nan, None, tmp_path / "c" / "video.mp4"]
    record.table("clips", ["clip", "a", "b", "video"], [row])
    last = json.loads((tmp_path / RECORD).read_text().splitlines()[-1])
    assert last["rows"] == [["c", None, None, "c/video.mp4"]]


def test_a_second_attempt_goes_below_the_first(tmp_path: Path) -> None:
    for attempt in range(2):
        record = Jsonl()
        record.start(tmp_path, {"attempt": attempt}, "name", "")
        record.finish(0)
    lines = [json.loads(line) for line in (tmp_path / RECORD).read_text().splitlines()]
    assert [line["config"]["attempt"] for line in lines if line["event"] == "start"] == [0, 1]
