"""Whose clips results are of: what licences ask to be said beside them."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path

from eval.results import discover
from rerender.errors import InputError
from rerender.run_folder import read_facts


def credits(root: Path) -> list[str]:
    """A line for each attribution and licence that the runs in a folder of results state.

    Args:
        root: the results folder.
    """
    said: dict[str, None] = {}
    with suppress(InputError):
        for run in sorted({outcome.run for outcome in discover(root) if outcome.run is not None}):
            with suppress(InputError):  # an unfinished run has no facts yet
                for clip in read_facts(run)["clips"]:
                    whose, licence = clip.get("attribution"), clip.get("licence")
                    if whose or licence:
                        said[f"Clips: {'; licence: '.join(filter(None, [whose, licence]))}."] = None
    return sorted(said)
