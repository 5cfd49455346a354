"""What an experiment says of its table: which row others are compared with, what is shown."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Annotated, Any

from pydantic import Field

from rerender.config.build import construct
from rerender.errors import ConfigError

KEY = "table"  # of conf/exp/*.yaml; no part of any job
UNTESTED = ("warp_error_signed", "frame_count", "duration", "seconds_per_frame", "peak_memory")
"""Metrics that are never tested: the same value in another unit, counts, and costs."""

Row = Annotated[str, Field(min_length=1, max_length=200)]
Metric = Annotated[str, Field(pattern=r"^[a-z]\w{0,60}$")]
Label = Annotated[str, Field(pattern=r"^[A-Za-z][A-Za-z0-9:_-]{0,60}$")]


@dataclass(frozen=True, kw_only=True)
class TableSpec:
    """The table of an experiment, chosen before its results are seen.

    Attributes:
        reference: the row that every other row is compared with.
        primary: metrics in which rows are tested against it, corrected together; 1..4.
        columns: metrics that are shown, in this order, usually 4..6; () shows the primary ones
            first and fills up with others.
        caption: what the table shows, in one or two sentences; its statistics are added.
        label: of the LaTeX table, such as ``tab:ablation_shape``.
        rows: printed names of rows, by their names; others are printed as they are called.
        published: tables printed in papers that belong beside it, by their names in
            experiments/published.yaml.
    """

    reference: Row
    primary: Annotated[tuple[Metric, ...], Field(min_length=1, max_length=4)]
    columns: Annotated[tuple[Metric, ...], Field(max_length=8)] = ()
    caption: Annotated[str, Field(max_length=1000)] = ""
    label: Label = "tab:scores"
    rows: Mapping[str, str] = field(default_factory=dict)
    published: tuple[Metric, ...] = ()

    def __post_init__(self) -> None:
        for name, listed in (("primary", self.primary), ("columns", self.columns)):
            twice = [metric for metric in listed if listed.count(metric) > 1]
            if twice:
                raise ConfigError(f"{KEY}.{name}", f"names {twice[0]} twice", "name it once")
        for metric in self.primary:
            if metric in UNTESTED:
                problem = f"{metric} is never tested (a cost, a count, or another unit)"
                raise ConfigError(f"{KEY}.primary", problem, "name a metric of quality")
            if self.columns and metric not in self.columns:
                problem = f"the primary metric {metric} is not among the columns"
                raise ConfigError(f"{KEY}.columns", problem, "show what is tested")

    @classmethod
    def of(cls, node: Any) -> TableSpec:
        """The table that a resolved part of a configuration describes.

        Raises:
            ConfigError: an unknown or missing key, or a value that is refused.
        """
        if not isinstance(node, Mapping):
            raise ConfigError(KEY, f"is no mapping, received {node!r}", "see docs/experiments.md")
        return construct(cls, node, KEY)

    def plain(self) -> dict[str, Any]:
        """The same as plain values, from which `of` makes it again."""
        listed = ("primary", "columns", "published")
        return {**asdict(self), **{name: list(getattr(self, name)) for name in listed}}
