"""``python -m rerender.studio``, which ``rerender studio`` is too."""

import sys

from rerender.exits import command


def _run(given: list[str]) -> int:
    # Loading libraries is a part of the command: it may lack memory too.
    from rerender.studio.main import main

    return main(given)


if __name__ == "__main__":
    sys.exit(command(_run))
