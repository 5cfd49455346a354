"""One file for each metric; the definitions are versioned."""
