"""``python -m rerender.fetch``: fetch, verify and unpack a data set."""

import sys

from rerender.datasets.fetch import main

if __name__ == "__main__":
    sys.exit(main())
