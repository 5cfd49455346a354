"""What experiments say of their tables: complete, about rows and metrics that they have."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from itertools import product
from typing import Any

import pytest
import yaml

from rerender.config.compose import Sweep, preflight
from rerender.config.job import Job
from rerender.config.paths import CONF
from rerender.config.table import TableSpec
from rerender.errors import ConfigError

SPEC: dict[str, Any] = {"reference": "full", "primary": ["warp_error"]}
STUDIES = sorted(
    file.stem for file in (CONF / "exp").glob("[!_]*.yaml") if "\ntable:" in file.read_text()
)


def test_every_sweep_has_a_table() -> None:
    sweeps = {f.stem for f in (CONF / "exp").glob("[!_]*.yaml") if "sweeper:" in f.read_text()}
    assert set(STUDIES) == sweeps and len(STUDIES) >= 11


@pytest.mark.parametrize("name", STUDIES)
def test_an_experiment_has_the_rows_and_metrics_that_its_table_names(name: str) -> None:
    params = yaml.safe_load((CONF / "exp" / f"{name}.yaml").read_text())["hydra"]["sweeper"][
        "params"
    ]
    first = [f"{key}={str(values).split(',')[0]}" for key, values in params.items()]
    sweep = preflight([f"+exp={name}", *first])
    table, rows = table_of(sweep), names(name, params)
    assert sweep.jobs[0]["name"] in rows
    assert table.reference in rows and set(table.rows) <= rows
    measured = {metric.name for metric in Job.of(sweep.jobs[0]).metrics}
    assert {*table.primary, *table.columns} <= measured
    assert 1 <= len(table.primary) <= 4 and 3 <= len(table.columns) <= 6
    assert table.caption.endswith(".") and table.label == f"tab:{name}"


def test_a_table_is_no_part_of_a_job_and_may_be_changed_on_the_command_line() -> None:
    command = ["+exp=drift", "method=drift_plain", "seed=0"]
    usual, other = preflight(command), preflight([*command, "table.primary=[psnr]"])
    assert usual.jobs == other.jobs and "table" not in usual.jobs[0]
    assert table_of(usual).primary != table_of(other).primary == ("psnr",)
    assert preflight([]).table is None


def test_a_table_is_read_back_from_plain_values() -> None:
    table = table_of(preflight(["+exp=drift", "method=drift_plain", "seed=0"]))
    assert TableSpec.of(table.plain()) == table


@pytest.mark.parametrize(
    ("change", "where"),
    [
        ({"primary": []}, "table.primary"),
        ({"primary": list("abcde")}, "table.primary"),
        ({"primary": ["seconds_per_frame"]}, "table.primary"),
        ({"primary": ["warp_error_signed"]}, "table.primary"),
        ({"primary": ["psnr", "psnr"]}, "table.primary"),
        ({"columns": ["psnr"]}, "table.columns"),
        ({"label": "a}b"}, "table.label"),
        ({"reference": ""}, "table.reference"),
        ({"refrence": "full"}, "table.refrence"),
    ],
)
def test_a_wrong_table_is_refused_by_its_key(change: dict[str, Any], where: str) -> None:
    with pytest.raises(ConfigError) as refused:
        TableSpec.of({**SPEC, **change})
    assert str(refused.value.where) == where
    with pytest.raises(ConfigError):
        TableSpec.of("full")


def names(experiment: str, params: Mapping[str, Any]) -> set[str]:
    """What the rows of an experiment are called, from its yaml and those of its methods."""
    swept = {key: str(values).split(",") for key, values in params.items()}
    read = partial(yaml.load, Loader=yaml.SafeLoader)
    texts = [(CONF / "exp" / f"{experiment}.yaml").read_text()]
    texts = [(CONF / "method" / f"{m}.yaml").read_text() for m in swept.get("method", ())] or texts
    found = set()
    for text, values in product(texts, product(*swept.values())):
        name = read(text)["name"]
        for key, value in zip(swept, values, strict=True):
            for form in (f"${{{key}}}", f"${{choice.{key}}}", f"${{oc.select:{key},own}}"):
                name = name.replace(form, value)
        found.add(name)
    return found


def table_of(sweep: Sweep) -> TableSpec:
    assert sweep.table is not None
    return sweep.table
