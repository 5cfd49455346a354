"""Where the project lies: its packages and conf/, in a checkout and in an installed package."""

from __future__ import annotations

from pathlib import Path

PACKAGE = Path(__file__).resolve().parents[1]  # the folder rerender/
ROOT = PACKAGE.parent  # the folder that holds rerender/ and eval/

# A wheel carries conf/ inside the package, since site-packages/conf could be anybody's.
_PACKED = PACKAGE / "conf"
CONF = _PACKED if _PACKED.is_dir() else ROOT / "conf"


def choices_of(group: str) -> list[str]:
    """The names of a group's choices, such as "demo" of "model"; none if it is not a group. What
    several choices share begins with an underscore and is none."""
    try:
        return sorted(path.stem for path in (CONF / group).glob("[!_]*.yaml"))
    except (OSError, ValueError):  # what no folder can be called
        return []
