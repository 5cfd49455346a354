"""Studies: from scores to tables, figures and the report page."""
