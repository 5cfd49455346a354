"""``python -m rerender.studio``, which ``rerender studio`` is too."""

import sys

from rerender.studio.main import main

if __name__ == "__main__":
    sys.exit(main())
