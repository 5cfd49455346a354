"""``python -m rerender.store``: look into a stage store and make room in it."""

import sys

from rerender.store.gc import main

if __name__ == "__main__":
    sys.exit(main())
