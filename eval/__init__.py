"""Measures finished videos, ours or anybody's; knows nothing of how they were made."""

import rerender  # noqa: F401  (says how threads wait, before torch is imported)
