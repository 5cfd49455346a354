"""``python -m rerender.propagate``: key frames made elsewhere, carried to a whole video."""

import sys

from rerender.propagate_keys import main

if __name__ == "__main__":
    sys.exit(main())
