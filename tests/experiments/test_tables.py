"""Tables: rounded for print, bold only what is supported, floors do not compete, any order."""

from __future__ import annotations

import csv
import io
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import yaml

from eval import score_files
from eval.score_files import Score
from experiments import experiment, formats, tables
from experiments.experiment import Experiment, is_floor
from experiments.formats import Table
from experiments.latex_table import to_latex
from rerender.config.paths import CONF
from rerender.config.table import TableSpec
from rerender.errors import ConfigError, InputError
from rerender.run_folder import CONFIG, REPORT, SCORES
from tests.experiments.typesetting import needs_tex, typeset

RIVAL = "rival | <b>"
SPEC = TableSpec(
    reference="x", primary=("warp_error",), columns=("lpips", "warp_error"), caption="What it is."
)
ABOUT = Experiment(SPEC)


def scores(gap: float = 1.0, clips: int = 10) -> list[Score]:
    random = np.random.default_rng(0)
    made = []
    for clip in range(clips):
        hard = random.normal()
        for method, shift in (("source", -5.0), ("ours", 0.0), (RIVAL, gap), ("x", gap)):
            value = float(np.exp(hard + shift + 0.1 * random.normal()) / 1000)
            made.append(Score(f"c{clip}", method, 0, "warp_error", "1", value, 9, "", "lower"))
            made.append(
                Score(f"c{clip}", method, 0, "lpips", "1", None, 0, "n/a: weights not found (x)")
            )
    return made


def line_of(text: str, method: str) -> str:
    return next(line for line in text.splitlines() if line.startswith(f"| {method} "))


def read(text: str) -> dict[tuple[str, str], dict[str, str]]:
    """The lines of a csv table, by method and metric."""
    return {(r["method"], r["metric"]): r for r in csv.DictReader(io.StringIO(text))}


def test_supported_best_is_bold_and_floors_do_not_compete() -> None:
    text = formats.to_markdown([tables.table(scores(), ABOUT)])
    assert line_of(text, "ours").count("**") == 2 and " * " in line_of(text, "ours")
    assert "*" not in line_of(text, "source") + line_of(text, "x")
    assert text.startswith("### What it is.")


def test_unsupported_best_is_not_bold() -> None:
    for made in (scores(gap=0.0), scores(gap=1.0, clips=4), scores(clips=1)):
        table = tables.table(made, ABOUT)
        assert all(cell.place == 0 for cells in table.lines.values() for cell in cells)
        assert "**" not in formats.to_markdown([table]) and "bfseries" not in to_latex([table])


@pytest.mark.parametrize(
    ("about", "clips", "said"),
    [
        (Experiment(), 10, "no reference row"),
        (Experiment(replace(SPEC, reference="y")), 10, "y, is not there"),
        (ABOUT, 4, "Only 4 clips, with which no test can be significant: 2 tests need 7"),
        (ABOUT, 10, "correction for 2 tests (warp error)"),
    ],
)
def test_what_is_tested_is_said(about: Experiment, clips: int, said: str) -> None:
    assert said in " ".join(tables.table(scores(clips=clips), about).notes)


def test_rows_stand_as_they_were_swept_and_names_are_escaped() -> None:
    about = replace(ABOUT, runs=("1", "2"), places={"x": 0, "ours": 1})
    text = formats.to_markdown([tables.table(scores(), about)])
    lines = [line for line in text.splitlines() if line.startswith("| ")][2:]
    assert [line[2:6] for line in lines] == ["sour", "x   ", "ours", "riva"]
    assert "\\| \\<b\\>" in text and "<b>" not in text.replace("\\<b\\>", "")
    latex = to_latex([tables.table(scores(), about)])
    assert r"rival | \textless{}b\textgreater{}" in latex


def test_lines_of_a_table_are_aligned_for_a_terminal() -> None:
    text = formats.to_markdown([tables.table(scores(), ABOUT)])
    assert len({len(line) for line in text.splitlines() if line.startswith("|")}) == 1


def test_printed_names_stand_in_tables_and_method_names_in_csv() -> None:
    about = Experiment(replace(SPEC, rows={"x": "baseline"}))
    made = [tables.table(scores(), about)]
    assert "| baseline" in formats.to_markdown(made) and "baseline" in to_latex(made)
    assert "baseline" not in formats.to_csv(made)
    assert "differs from baseline" in made[0].notes[1]


@pytest.mark.parametrize(
    ("values", "power", "printed"),
    [
        ([4.11e-3, 2.891e-3, 1.52e-3], -3, ["4.11", "2.89", "1.52"]),
        ([0.8784, 0.8781, 0.8748], 0, ["0.8784", "0.8781", "0.8748"]),
        ([39.39, 26.37, 31.97], 0, ["39.4", "26.4", "32.0"]),
        ([28.92, 28.94, 30.1], 0, ["28.92", "28.94", "30.10"]),
        ([0.0, 0.0], 0, ["0.00", "0.00"]),
        ([3.504e-05, 0.0006564, 6.64e-05], -5, ["3.50", "65.64", "6.64"]),
        ([1.0, 1.0, 0.0], 0, ["1.00", "1.00", "0.00"]),
        ([-0.0001, 0.52, 0.71], 0, ["0.000", "0.520", "0.710"]),
        ([1.2e6, 3.4e6], 6, ["1.20", "3.40"]),
    ],
)
def test_a_column_has_one_scale_and_one_precision_that_shows_differences(
    values: list[float], power: int, printed: list[str]
) -> None:
    found, decimals = formats.rounding(values)
    column = formats.Column("m", power=found, decimals=decimals)
    assert found == power
    assert [column.digits(value) for value in values] == printed


@pytest.mark.parametrize(
    "series",
    [
        {"mse_after_1": 9e-4, "mse_after_8": 1.4e-2, "mse_after_4": 2e-3},
        {"warp_error_long": 2e-3, "warp_error_long_last5": 4e-3},
    ],
)
def test_columns_that_are_read_across_have_one_scale(series: dict[str, float]) -> None:
    """One metric after 1, 2, 4 and 8 cycles, or beside its end; other columns have their own."""
    names = {**series, "psnr": 30.0}
    made = [
        replace(row, metric=name, value=level * (1 + len(row.clip)))
        for row in scores()
        for name, level in names.items()
        if row.metric == "warp_error"
    ]
    table = tables.table(made, Experiment(replace(SPEC, primary=("psnr",), columns=tuple(names))))
    assert [(c.name, c.power) for c in table.shown] == [
        *((name, -3) for name in series),
        ("psnr", 0),
    ]


def test_rows_that_were_not_swept_stand_as_the_table_names_them() -> None:
    spec = replace(SPEC, rows={"x": "x", RIVAL: "rival", "ours": "ours"})
    table = tables.table([*scores(), *[replace(r, method="a") for r in scores()]], Experiment(spec))
    assert list(table.lines) == ["source", "x", RIVAL, "ours", "a"]


def test_the_head_says_scale_unit_and_direction() -> None:
    table = tables.table(scores(), ABOUT)
    assert [c.name for c in table.shown] == ["lpips", "warp_error"]
    assert table.shown[1].head == "warp error ↓ ×10⁻³"
    assert r"{$\downarrow$ $\times 10^{-3}$}" in to_latex([table])
    assert formats.Column("color_drift", "lower", "dE").head == "colour drift (ΔE) ↓"


def test_the_experiment_chooses_columns_and_csv_has_all() -> None:
    made = scores() + [replace(row, metric="extra") for row in scores()]
    table = tables.table(made, ABOUT)
    assert "extra" not in [column.name for column in table.shown]
    assert "extra" not in formats.to_markdown([table]).splitlines()[2]
    assert float(read(formats.to_csv([table]))["ours", "extra"]["mean"]) > 0
    usual = tables.table([replace(r, metric=f"{r.metric}{k}") for k in range(9) for r in made])
    assert 4 <= len(usual.shown) <= 6


def test_a_row_that_lacks_a_clip_is_marked_and_takes_no_part() -> None:
    made = [row for row in scores() if (row.method, row.clip) != ("ours", "c3")]
    table = tables.table(made, ABOUT)
    text = formats.to_markdown([table])
    assert "(9 of 10)" in line_of(text, "ours") and "**" not in text
    assert " * " not in line_of(text, "ours")
    assert any(note.startswith("(3 of 4)") for note in table.notes)
    found = read(formats.to_csv([table]))["ours", "warp_error"]
    assert (found["clips"], found["of"], found["rank"], found["differs"]) == ("9", "10", "", "0")


@pytest.mark.parametrize(("clips", "shown"), [(2, False), (4, False), (5, True)])
def test_of_few_clips_no_interval_is_printed_and_csv_has_it(clips: int, shown: bool) -> None:
    table = tables.table(scores(clips=clips), ABOUT)
    assert ("×÷" in line_of(formats.to_markdown([table]), "x")) is shown
    assert ("$\\times$$\\div$" in to_latex([replace(table, notes=())])) is shown
    assert ("too few for an interval" in table.notes[0]) is not shown
    assert "half of its 95 %" in table.notes[0] or not shown
    row = read(formats.to_csv([table]))["x", "warp_error"]
    assert float(row["low"]) < float(row["mean"]) < float(row["high"])


@pytest.mark.parametrize(
    ("mean", "low", "high", "printed"),
    [
        (2.0, 1.0, 4.0, "×÷2.00"),
        (0.0465, 0.0159, 0.136, "×÷2.92"),
        (3.0, 0.2, 45.0, "×÷15"),
        (0.0, None, None, ""),
    ],
)
def test_the_interval_of_a_geometric_mean_is_a_factor(
    mean: float, low: float | None, high: float | None, printed: str
) -> None:
    """low = mean / factor and high = mean * factor; mean - half of the width may be below zero."""
    cell = formats.Cell(mean, low, high, 9, 9)
    assert formats.Column("lpips", ratio=True).spread(cell) == printed
    plain = "" if low is None else f"±{(high or 0) / 2 - low / 2:.2f}"
    assert formats.Column("psnr").spread(cell) == plain
    if printed and low:
        assert mean / float(printed[2:]) == pytest.approx(low, rel=0.01)


def test_a_table_says_which_means_are_geometric() -> None:
    made = [*scores(), *(replace(row, metric="psnr", value=9.0) for row in scores())]
    spec = replace(SPEC, columns=("warp_error", "psnr"))
    table = tables.table(made, Experiment(spec))
    assert [column.ratio for column in table.shown] == [True, False]
    assert table.notes[0].endswith(
        "; geometric mean for warp error, ×÷ the factor to either end of its interval."
    )


def test_notes_are_about_what_is_printed() -> None:
    made = [
        *scores(),
        *(replace(row, metric="flicker", note="n/a: for a reason") for row in scores()),
    ]
    notes = " ".join(tables.table(made, ABOUT).notes)
    assert "geometric mean for LPIPS and warp error" in notes and "flicker" not in notes
    assert "LPIPS: n/a: weights not found (x)." in notes and "reason" not in notes
    all_of_them = Experiment(replace(SPEC, columns=("lpips", "warp_error", "flicker")))
    assert (
        "geometric mean for LPIPS, warp error and flicker"
        in tables.table(made, all_of_them).notes[0]
    )


def test_a_metric_without_any_value_is_said_where_nobody_chose_the_columns() -> None:
    """Where the experiment did, it is in table.csv alone, and so is that it has none."""
    chosen = Experiment(replace(SPEC, columns=("warp_error",)))
    assert "weights not found" not in " ".join(tables.table(scores(), chosen).notes)
    for about in (Experiment(), Experiment(replace(SPEC, columns=()))):
        table = tables.table(scores(), about)
        assert [c.name for c in table.shown] == ["warp_error"]
        assert "LPIPS: n/a: weights not found (x)." in table.notes


def test_remarks_and_unfinished_runs_are_said() -> None:
    made = [
        replace(row, remark="every second frame is missing") if row.method == "x" else row
        for row in scores()
    ]
    table = tables.table(made, replace(ABOUT, unfinished={"no_shape-1": "disk full"}))
    assert "| x [1] " in formats.to_markdown([table])
    assert r"x\textsuperscript{1}" in to_latex([table])
    assert "[1] x: every second frame is missing (10 clips)." in table.notes
    assert table.notes[-1] == "Unfinished: no_shape-1 (disk full)."


def test_rows_of_which_the_same_is_said_share_a_note() -> None:
    made = [replace(row, remark="resized") if row.method != "source" else row for row in scores()]
    alone = [replace(r, remark="cut") if (r.method, r.clip) == ("x", "c0") else r for r in made]
    both = tables.table(made, ABOUT)
    assert [note for note in both.notes if note[0] == "["] == ["[1] 3 rows: resized (10 clips)."]
    assert {*both.marks.values()} == {1} and len(both.marks) == 3
    spec = replace(SPEC, rows={"x": "baseline"})
    apart = tables.table(alone, Experiment(spec))
    assert apart.marks["ours"] != apart.marks["x"]
    heads = [n.split(":")[0][4:] for n in apart.notes if n.startswith("[")]
    assert heads == ["baseline", "2 rows"]


def test_seeds_that_change_nothing_are_said_and_narrow_nothing() -> None:
    """A method that begins with an inversion draws nothing: two seeds are one result, twice."""
    once = scores()
    twice = [*once, *(replace(row, seed=1) for row in once if row.method != "source")]
    other = [
        replace(row, value=row.value * 1.01)
        if row.seed and row.value and row.method == "x"
        else row
        for row in twice
    ]
    alone, both, one = (tables.table(rows, ABOUT) for rows in (once, twice, other))
    assert both.lines == alone.lines
    assert "Every score is the same under every seed: ours, rival | <b> and x." in both.notes
    assert "Every score is the same under every seed: ours and rival | <b>." in one.notes
    assert not [note for note in alone.notes if "under every seed" in note]


def test_one_is_no_plural() -> None:
    notes = " ".join(tables.table(scores(clips=1), ABOUT).notes)
    assert "Only 1 clip, with" in notes


def test_costs_stand_apart_and_are_never_tested() -> None:
    spent = [
        Score(f"c{c}", method, 0, "seconds_per_frame", "1", cost, 9, unit="s")
        for c in range(10)
        for method, cost in (("ours", 0.01), ("x", 1.0), (RIVAL, 1.0))
    ]
    first, second = tables.tables(scores(), spent, ABOUT)
    assert second.title == "Costs" and [c.name for c in second.shown] == ["seconds_per_frame"]
    assert "seconds_per_frame" not in [c.name for c in first.columns]
    assert not any(c.place or c.differs for cells in second.lines.values() for c in cells)
    with pytest.raises(ConfigError):
        replace(SPEC, primary=("seconds_per_frame",))


def test_round_trips_of_ours_are_floors() -> None:
    names = ["zero", "vae_round_trip_k1", "rerender_k1", "source"]
    assert [name for name in names if is_floor(name)] == ["vae_round_trip_k1", "source"]
    ordered = ["source", "vae_round_trip_k1", "rerender_k1", "zero"]
    assert sorted(names, key=Experiment().place) == ordered


def test_missing_values_are_na_and_say_why() -> None:
    text = formats.to_markdown([tables.table(scores(), ABOUT)])
    assert "n/a" in text and "weights not found" in text


def test_csv_holds_every_number() -> None:
    found = read(formats.to_csv([tables.table(scores(), ABOUT)]))
    ours = found["ours", "warp_error"]
    assert float(ours["low"]) < float(ours["mean"]) < float(ours["high"])
    assert len(ours["mean"]) > 15
    assert (ours["clips"], ours["best"], ours["differs"]) == ("10", "1", "1")
    assert found["x", "lpips"]["mean"] == ""
    ranks = {method: line["rank"] for (method, metric), line in found.items() if metric != "lpips"}
    assert (ranks["source"], ranks["ours"]) == ("1.0", "2.0")
    assert float(ranks["x"]) + float(ranks[RIVAL]) == pytest.approx(7)


def test_comparisons_are_against_the_reference() -> None:
    made = scores() + [replace(row, metric="extra") for row in scores()]
    found = read(tables.comparisons_csv(made, ABOUT))
    assert {key[0] for key in found} == {"ours", RIVAL} and found["ours", "extra"]["p"] == ""
    ours = found["ours", "warp_error"]
    assert float(ours["high"]) < 0 and float(ours["p"]) <= float(ours["p_holm"]) < 0.05
    assert float(ours["difference"]) == pytest.approx(np.exp(-1) - 1, abs=0.05)
    assert ours["relative"] == "1" and ours["reference"] == "x"
    assert float(found[RIVAL, "warp_error"]["p_holm"]) > 0.05


def test_hundreds_of_methods_are_shown_but_not_tested() -> None:
    made = [
        Score(f"c{clip}", f"run {run}", 0, "m", "1", float(run + clip), 1)
        for run in range(300)
        for clip in range(8)
    ]
    about = Experiment(TableSpec(reference="run 0", primary=("m",)))
    one = tables.table(made, about)
    assert len(one.lines) == 300 and not any(cells[0].place for cells in one.lines.values())
    assert "not tested" in one.notes[1]
    assert tables.comparisons_csv(made, about).count("\n") == 1


def test_published_numbers_are_marked_and_as_printed() -> None:
    found = {one.title: one for one in tables.published()}
    assert all(title.startswith("Published, another protocol: ") for title in found)
    assert all(one.notes[0].startswith("Protocol: ") for one in found.values())
    # A column that the first row lacks is one all the same.
    preferred = next(one for one in found.values() if "TokenFlow (ICLR" in one.title)
    assert [c.name for c in preferred.columns][-1] == "Prefer TokenFlow %"
    assert "| Tune-A-Video       |" in formats.to_markdown([preferred])
    assert preferred.lines["Tune-A-Video"][-1].mean == 82
    assert preferred.lines["TokenFlow"][-1].mean is None
    rerender = next(one for title, one in found.items() if "SIGGRAPH Asia 2023), Table 2" in title)
    assert [cell.mean for cell in rerender.lines["Rerender"]] == [0.979, 0.983, 0.069, 73.7]
    text = formats.to_markdown(list(found.values()))
    assert "**" not in text
    assert line_of(text, "Rerender").split()[3:8:2] == ["0.979", "0.983", "0.069"]


def test_an_experiment_names_the_published_tables_beside_its_own() -> None:
    """None where it names none, all where nobody says; every experiment's names are there."""
    spec = TableSpec(reference="a", primary=("m",))
    assert tables.published(Experiment(spec)) == [] and len(tables.published()) == 8
    asked = replace(spec, published=("rerender_table3",))
    assert TableSpec.of(asked.plain()) == asked
    (one,) = tables.published(Experiment(asked))
    assert "Table 3" in one.title and one.label == "tab:published_rerender_table3"
    with pytest.raises(ConfigError, match=r"table\.published: knows no 'x'; choose from rerender"):
        tables.published(Experiment(replace(spec, published=("x",))))
    named = 0
    for path in sorted((CONF / "exp").glob("*.yaml")):
        said = yaml.safe_load(path.read_text(encoding="utf-8")).get("table", {})
        wanted = tuple(said.get("published", ()))
        named += len(wanted)
        assert len(tables.published(Experiment(replace(spec, published=wanted)))) == len(wanted)
    assert named >= 8


def test_a_lost_reference_is_said(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Tables that were tested, made again where nobody says the reference row any more."""
    score_files.write(tmp_path / SCORES, scores())
    tables.write(tmp_path)
    tables.write(tmp_path, about=Experiment(TableSpec(reference="ours", primary=("warp_error",))))
    assert not caplog.messages
    tables.write(tmp_path)
    assert "comparisons.csv: was made with a reference row that nobody says" in caplog.messages[0]


def test_files_are_the_same_for_any_order(tmp_path: Path) -> None:
    made = scores()
    texts = []
    for order in (made, made[::-1]):
        score_files.write(tmp_path / SCORES, order)
        texts.append([path.read_bytes() for path in tables.write(tmp_path)])
    assert texts[0] == texts[1] and all(texts[0])
    assert tables.main([str(tmp_path)]) == 0


def test_the_command_line_names_a_reference_for_results_of_others(tmp_path: Path) -> None:
    score_files.write(tmp_path / SCORES, scores())
    asked = [str(tmp_path), "--ours-only", "--reference", "x", "--primary", "warp_error"]
    assert tables.main(asked) == 0
    assert "**" in (tmp_path / "table.md").read_text()
    assert tables.main([str(tmp_path), "--ours-only"]) == 0
    assert "**" not in (tmp_path / "table.md").read_text()
    assert tables.main([str(tmp_path), "--reference", "x"]) == 2


def test_what_an_experiment_says_is_read_back(tmp_path: Path) -> None:
    experiment.write(tmp_path, SPEC, ("b-1", "a-2"))
    found = experiment.read(tmp_path)
    assert (found.table, found.runs) == (SPEC, ("b-1", "a-2"))
    assert experiment.read(tmp_path / "none") == Experiment(None, (), {}, {})
    file = tmp_path / experiment.EXPERIMENT
    file.write_text(file.read_text().replace("a-2", "a-3"))
    with pytest.raises(InputError, match="sha256"):
        experiment.read(tmp_path)


def test_an_unscored_folder_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"python -m eval\.score"):
        tables.write(tmp_path)
    assert tables.main([str(tmp_path)]) == 3


def test_tables_of_a_run_alone_stand_beside_its_page(tmp_path: Path) -> None:
    """Its own folder holds what the run made."""
    (tmp_path / CONFIG).write_text("seed: 0\n")
    score_files.write(tmp_path / SCORES, scores())
    before = sorted(tmp_path.iterdir())
    made = tables.write(tmp_path)
    assert {path.parent for path in made} == {tmp_path / REPORT} and all(p.is_file() for p in made)
    assert sorted({*tmp_path.iterdir()} - {*before}) == [tmp_path / REPORT]
    assert tables.main([str(tmp_path)]) == 0


def study() -> list[Table]:
    """A table as a study has it: five columns, names and values of usual length, all marks."""
    random, made = np.random.default_rng(1), []
    metrics = {
        "warp_error": (3e-3, 0.3, "lower", "1"),
        "warp_error_long": (9e-3, 0.3, "lower", "1"),
        "clip_score_demo": (0.87, -0.005, "higher", "1"),
        "lpips_demo": (0.02, 0.2, "lower", "1"),
        "color_drift": (2.5, 0.3, "lower", "ΔE"),
    }
    rows = ["source", "true translation", "0_none", "1_cross_frame", "2_+color", "3_+shape"]
    for metric, (level, step, direction, unit) in metrics.items():
        for clip in range(16):
            hard = random.normal(0, 0.2)
            for place, row in enumerate(rows):
                value = level * float(np.exp(hard - step * place + 0.05 * random.normal()))
                args = f"c{clip}", row, 0, metric, "1", value, 9, "", direction, unit
                made.append(Score(*args, remark="resized" if row == "3_+shape" else ""))
    spec = TableSpec(
        reference="0_none",
        primary=("warp_error", "warp_error_long", "lpips_demo"),
        columns=tuple(metrics),
        caption="The cross-frame constraints one after the other, on the demo world.",
        label="tab:ablation_cumulative",
    )
    made = [row for row in made if (row.method, row.clip) != ("2_+color", "c0")]
    about = Experiment(spec)
    spent = [
        replace(row, metric="seconds_per_frame", unit="s", value=0.2)
        for row in made
        if row.metric == "warp_error" and not is_floor(row.method)
    ]
    return [*tables.tables(made, spent, about), *tables.published()]


@pytest.mark.slow
@needs_tex
def test_latex_is_typeset_and_fits_a_column(tmp_path: Path) -> None:
    assert typeset([to_latex(study())], tmp_path)
