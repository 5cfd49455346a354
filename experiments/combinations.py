"""Which choices go together, asked of the rule that refuses them in a run.

    python -m experiments.combinations > docs/combinations.md

Every pair of choices is built with whatever else lets it run; where nothing does, the cell has the
number of the refusal below.
"""

from __future__ import annotations

import itertools
import logging
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import yaml

from rerender.api import parts
from rerender.config.build import build
from rerender.config.compatibility import check_model
from rerender.config.parts import Parts
from rerender.config.paths import CONF, choices_of
from rerender.contracts import Checkpoint
from rerender.errors import ConfigError
from rerender.exits import Parser, command

HEAD = """# What goes with what

Made by `python -m experiments.combinations`, which asks the rule that a run asks
(`rerender/config/compatibility.py`); a test compares. A number is the refusal below, with exit code
2, before anything is loaded. Whatever has no column goes with everything.
"""
Choices = Mapping[str, Any]


@dataclass(frozen=True)
class ModelKind(Checkpoint):
    """A model of which only one thing is known."""

    told: bool

    def distilled(self) -> bool:
        return self.told

    def check(self, controls: Sequence[str]) -> None:
        """Nothing to refuse."""

    def load(self, controls: Sequence[str]) -> Any:
        raise ConfigError("model", "is a kind of models and has no weights", "name a checkpoint")


MODELS: Choices = {
    "Stable Diffusion 1, 2, XL": ModelKind(False),
    "LCM (full checkpoint)": ModelKind(True),
}


def built(group: str) -> dict[str, Any]:
    """Every choice of a group, with the settings of its file."""
    found = {}
    for name in choices_of(group):
        node = yaml.safe_load((CONF / group / f"{name}.yaml").read_text(encoding="utf-8"))
        made = build(node, group)
        found[name] = made[0] if isinstance(made, tuple) else made
    return found


def refusal(base: Parts, constraint: tuple[Any, ...], options: Choices) -> str | None:
    """None where some sampler, start, model and strength let these run; else what is refused.

    Args:
        base: everything else.
        constraint: the constraints.
        options: what samplers, starts and models may be taken, under these names.
    """
    found: list[ConfigError] = []
    every = itertools.product(options["samplers"], options["starts"], options["models"])
    for sampler, start, model in every:
        for strength in (0.75, None):
            sampling = replace(base.sampling, strength=strength)
            changes = {"constraint": constraint, "sampler": sampler, "start": start}
            try:
                check_model(replace(base, sampling=sampling, **changes), model)
            except ConfigError as error:
                last = error
            else:
                return None
        found.append(last)
    own = [each for each in found if each.where.startswith("constraint.")]
    own = [each for each in own if "compares with an inversion" not in each.problem]
    return str((own or found)[0])  # other starts compare with no inversion: that is known


def page() -> str:
    """The whole page."""
    base = replace(parts("prompt=x"), constraint=())
    constraints = {name: (part,) for name, part in built("constraint").items()}
    groups = {"sampler": built("sampler"), "start": built("start"), "model": MODELS}
    free = {f"{group}s": list(choices.values()) for group, choices in groups.items()}
    notes: dict[str, int] = {}

    def cell(constraint: tuple[Any, ...], **fixed: Any) -> str:
        said = refusal(base, constraint, {**free, **fixed})
        return "yes" if said is None else str(notes.setdefault(said, len(notes) + 1))

    lines = [HEAD]
    for group, choices in groups.items():
        rows = {
            name: [cell(part, **{f"{group}s": [other]}) for other in choices.values()]
            for name, part in constraints.items()
        }
        lines += table(f"Constraints and the {group}", choices, rows)
    rows = {
        name: [
            cell((*part, *other)) if name != label else "" for label, other in constraints.items()
        ]
        for name, part in constraints.items()
    }
    lines += table("Two constraints", constraints, rows)
    for group in ("sampler", "model"):
        rows = {
            name: [
                cell((), starts=[start], **{f"{group}s": [other]})
                for other in groups[group].values()
            ]
            for name, start in groups["start"].items()
        }
        lines += table(f"Starts and the {group}", groups[group], rows)
    lines += ["## Refusals", "", *(f"{number}. {said}" for said, number in notes.items())]
    return "\n".join(lines) + "\n"


def table(title: str, columns: Choices, rows: Mapping[str, Sequence[str]]) -> Iterator[str]:
    """A table of markdown with its title."""
    yield from (f"## {title}", "")
    yield f"| | {' | '.join(columns)} |"
    yield f"|---|{'---|' * len(columns)}"
    yield from (f"| {name} | {' | '.join(cells)} |" for name, cells in rows.items())
    yield ""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; returns the exit code (see `rerender.exits`)."""
    return command(_main, arguments)


def _main(arguments: list[str]) -> None:
    Parser(prog="python -m experiments.combinations", description=__doc__).parse_args(arguments)
    logging.disable(logging.WARNING)  # what has no effect is no refusal
    sys.stdout.write(page())


if __name__ == "__main__":
    sys.exit(main())
