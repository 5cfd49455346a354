"""Training of the shipped demo model; no part of a run."""

import rerender  # noqa: F401  (says how threads wait, before torch is imported)
