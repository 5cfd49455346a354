"""Real clips and the shipped demo model."""
