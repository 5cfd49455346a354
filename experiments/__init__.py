"""Studies: from scores to tables, figures and the report page."""

import rerender  # noqa: F401  (says how threads wait, before torch is imported)
