"""Tables: bold only what is supported, floors do not compete, order does not matter."""

from __future__ import annotations

import csv
import io
from pathlib import Path

import numpy as np
import pytest

from eval import score_files
from eval.contracts import Score
from experiments import formats, tables
from rerender.errors import InputError
from rerender.run_folder import SCORES


def scores(gap: float = 1.0, clips: int = 10) -> list[Score]:
    random = np.random.default_rng(0)
    made = []
    for clip in range(clips):
        hard = random.normal()
        for method, shift in (("source", -5.0), ("ours", 0.0), ("rival | <b>", gap), ("x", gap)):
            value = float(hard + shift + 0.1 * random.normal())
            made.append(Score(f"c{clip}", method, 0, "warp_error", "1", value, 9, "", "lower"))
            made.append(
                Score(f"c{clip}", method, 0, "lpips", "1", None, 0, "n/a: weights not found (x)")
            )
    return made


def test_supported_best_is_bold_and_floors_do_not_compete() -> None:
    text = formats.to_markdown([tables.table(scores())])
    (line,) = [line for line in text.splitlines() if line.startswith("| ours")]
    assert line.count("**") == 2
    assert "**" not in next(line for line in text.splitlines() if line.startswith("| source"))


def test_unsupported_best_is_not_bold() -> None:
    for made in (scores(gap=0.0), scores(gap=1.0, clips=4), scores(clips=1)):
        assert "**" not in formats.to_markdown([tables.table(made)])
        assert "textbf" not in formats.to_latex([tables.table(made)])


def test_rows_are_ordered_and_names_escaped() -> None:
    text = formats.to_markdown([tables.table(scores())])
    lines = [line for line in text.splitlines() if line.startswith("| ")][2:]
    assert [line.split(" | ")[0] for line in lines][:2] == ["| source", "| ours"]
    assert "\\| \\<b\\>" in text and "<b>" not in text.replace("\\<b\\>", "")
    latex = formats.to_latex([tables.table(scores())])
    assert r"rival | \textless{}b\textgreater{}" in latex
    assert latex.count(r"\\" + "\n") == 5


def test_round_trips_of_ours_are_floors() -> None:
    names = ["zero", "vae_round_trip_k1", "rerender_k1", "source"]
    assert [name for name in names if tables.is_floor(name)] == ["vae_round_trip_k1", "source"]
    assert sorted(names, key=tables._place) == [
        "source",
        "vae_round_trip_k1",
        "rerender_k1",
        "zero",
    ]


def test_missing_values_are_na_and_say_why() -> None:
    text = formats.to_markdown([tables.table(scores())])
    assert "n/a" in text and "weights not found" in text


def test_csv_holds_every_number() -> None:
    found = list(csv.DictReader(io.StringIO(formats.to_csv([tables.table(scores())]))))
    ours = next(r for r in found if r["method"] == "ours" and r["metric"].startswith("warp"))
    assert float(ours["low"]) < float(ours["mean"]) < float(ours["high"])
    assert (ours["clips"], ours["best"]) == ("10", "1")
    assert next(r for r in found if r["metric"].startswith("lpips"))["mean"] == ""


def test_comparisons_hold_the_tests() -> None:
    found = list(csv.DictReader(io.StringIO(tables.comparisons_csv(scores()))))
    pairs = {(line["first"], line["second"]): line for line in found}
    assert set(pairs) == {("ours", "rival | <b>"), ("ours", "x"), ("rival | <b>", "x")}
    ours = pairs["ours", "x"]
    assert float(ours["high"]) < 0 and float(ours["p"]) <= float(ours["p_holm"]) < 0.05
    assert float(pairs["rival | <b>", "x"]["p_holm"]) > 0.05


def test_ranks_are_over_all_methods() -> None:
    found = list(csv.DictReader(io.StringIO(formats.to_csv([tables.table(scores())]))))
    ranks = {line["method"]: line["rank"] for line in found if line["metric"].startswith("warp")}
    assert (ranks["source"], ranks["ours"]) == ("1.0", "2.0")
    assert float(ranks["x"]) + float(ranks["rival | <b>"]) == pytest.approx(7)


def test_hundreds_of_methods_are_shown_but_not_tested() -> None:
    made = [
        Score(f"c{clip}", f"run {run}", 0, "m", "1", float(run + clip), 1)
        for run in range(300)
        for clip in range(8)
    ]
    one = tables.table(made)
    assert len(one.lines) == 300 and not any(cells[0].best for cells in one.lines.values())
    assert "not tested" in one.notes[1]
    assert tables.comparisons_csv(made).count("\n") == 1


def test_published_numbers_are_marked_and_as_printed() -> None:
    found = {one.title: one for one in tables.published()}
    assert all(title.startswith("Published, another protocol: ") for title in found)
    assert all(one.notes[0].startswith("Protocol: ") for one in found.values())
    rerender = next(one for title, one in found.items() if "SIGGRAPH Asia 2023), Table 2" in title)
    assert [cell.mean for cell in rerender.lines["Rerender"]] == [0.979, 0.983, 0.069, 73.7]
    assert "**" not in formats.to_markdown(list(found.values()))


def test_files_are_the_same_for_any_order(tmp_path: Path) -> None:
    made = scores()
    texts = []
    for order in (made, made[::-1]):
        score_files.write(tmp_path / SCORES, order)
        texts.append([path.read_bytes() for path in tables.write(tmp_path)])
    assert texts[0] == texts[1] and all(texts[0])
    assert tables.main([str(tmp_path)]) == 0


def test_an_unscored_folder_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"python -m eval\.score"):
        tables.write(tmp_path)
    assert tables.main([str(tmp_path)]) == 3
